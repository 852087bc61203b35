"""What an export says of itself: README.md, a model card as the hub reads it, and Ollama's Modelfile for GGUF.

In: the composed model, what its folder tells (manifest, licences), the comparison's figures, the model's scores. Says
only what is known: a licence that no folder tells is named as unknown, and a program that cannot run the format is not
named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import yaml

from codechoir.compose.export.scores import scores_in_words
from codechoir.compose.export.source import Source
from codechoir.compose.provenance import facts_of, recorded
from codechoir.languages import GENERALIST
from codechoir.model.licences import origin_of
from codechoir.model.moe import Routing, active_parameters
from codechoir.records import Score

# Dense models that vLLM and llama.cpp's converter are known to take.
_WELL_KNOWN = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "starcoder2", "phi", "gpt_bigcode", "olmo2")


@dataclass(frozen=True, slots=True)
class Card:
    """What there is to tell. `file` is the GGUF file's name."""

    source: Source
    name: str
    format: str
    expert: str | None
    file: str | None
    figures: Mapping[str, Any]
    scores: Sequence[Score] = ()

    def text(self) -> str:
        """README.md."""
        licence, licence_told = _licence(self.source.folder, self.expert)
        head = {
            "license": licence,
            "library_name": "gguf" if self.file else "peft" if self.format == "peft" else "transformers",
            "pipeline_tag": "text-generation",
            "tags": ["code", "codechoir"] + ([] if self.expert else ["moe", "mixture-of-experts"]),
        }
        parts = [
            f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
            f"# {self.name}",
            self._made_of(),
            *(["## Scores\n\n" + scores_in_words(self.scores, self.expert)] if self.scores else []),
            "## How far it is from its source\n\n" + self._compared(),
            "## Proofs of the composition\n\n" + _proofs(self.source.folder),
            "## Licences\n\n" + licence_told,
            "## How to run it\n\n" + "\n\n".join(self._ways()),
        ]
        return "\n\n".join(parts) + "\n"

    def modelfile(self, stop: str | None) -> str:
        """Ollama's Modelfile: the prompt as it is, without a chat template, since experts of code complete text."""
        lines = [f"FROM ./{self.file}", 'TEMPLATE """{{ .Prompt }}"""', "PARAMETER temperature 0.2"]
        return "\n".join(lines + ([f'PARAMETER stop "{stop}"'] if stop else [])) + "\n"

    def _made_of(self) -> str:
        source, dense = self.source, self.source.dense_config
        if self.expert and self.format == "peft":
            return (
                f"The expert for {self.expert} of a composed Mixture-of-Experts model, as a LoRA adapter of the dense "
                f"{dense['model_type']} model that it branched from: rank {self.figures['rank']}; of one matrix's "
                f"change, at most {self.figures['largest_share_lost']:.2g} is left out."
            )
        if self.expert:
            return (
                f"The expert for {self.expert} of a composed Mixture-of-Experts model, as the dense "
                f"{dense['model_type']} model that it is: {source.num_layers} layers, width {dense_width(dense)}."
            )
        total = sum(prod(shape) for shape in source.composed.checkpoint.shapes().values())
        active = active_parameters(source.composed, Routing.TOKEN, source.top_k)
        return "\n".join(
            [
                f"A sparse Mixture-of-Experts model composed of {len(source.experts)} experts that branched from one "
                f"{dense['model_type']} model. Experts differ in their feed-forward weights alone.",
                "",
                f"- experts, in order: {', '.join(source.experts)}",
                f"- layers with experts: {len(source.layers)} of {source.num_layers}",
                f"- routed by token, top-{source.top_k}, weights renormalised",
                f"- {total:,} parameters, {active:,} of them for one token",
            ]
        )

    def _compared(self) -> str:
        logits = self.figures.get("logits")
        if not logits:
            return "It was not compared: the comparison was left out when it was written."
        lines = [
            f"Read back by {logits['reader']} and compared on {logits['tokens']} tokens, in float32: the logits "
            f"are at most {logits['max_abs_difference']:.3g} apart where the largest is {logits['max_abs_logit']:.3g}; "
            f"the most likely token is the same in {logits['argmax_agreement']:.1%}; mean divergence "
            f"{logits['kl']:.3g} nats a token."
        ]
        if tensors := self.figures.get("tensors"):
            lines.append(
                f"{tensors['compared']} tensors were compared one by one: at most "
                f"{tensors['max_relative_difference']:.3g} of a tensor's largest weight apart."
            )
        return " ".join(lines)

    def _ways(self) -> list[str]:
        if self.file:
            return [
                f"llama.cpp:\n\n```\nllama-server -m {self.file}\n"
                'curl http://localhost:8080/completion -d \'{"prompt": "def area(shapes):", "n_predict": 64}\'\n```',
                "Ollama, with the Modelfile beside this file:\n\n"
                f"```\nollama create {self.name} -f Modelfile\nollama run {self.name} 'def area(shapes):'\n```",
            ]
        if self.format == "peft":
            return [
                "PEFT, on the base model:\n\n```python\nfrom peft import PeftModel\n"
                "from transformers import AutoModelForCausalLM\n\n"
                'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("BASE"), ".")\n```'
            ]
        trust = ", trust_remote_code=True" if self.format == "hf" else ""
        ways = [
            "transformers:\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'folder = "."\ntokenizer = AutoTokenizer.from_pretrained(folder)\n'
            f"model = AutoModelForCausalLM.from_pretrained(folder{trust})\n"
            'inputs = tokenizer("def area(shapes):", return_tensors="pt")\n'
            "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))\n```"
        ]
        known = str(self.source.dense_config["model_type"]) in _WELL_KNOWN
        if self.format in ("mixtral", "qwen2_moe") or (self.format == "dense" and known):
            ways.append("vLLM reads this format, too (it was not run when this was written):\n\n```\nvllm serve .\n```")
        elif self.format == "hf":
            ways.append(
                "It also routes by prompt: `model.set_routing('prompt')`. vLLM, llama.cpp and Ollama have no "
                "class for this format."
            )
        if self.format in ("mixtral", "qwen2_moe"):
            ways.append("llama.cpp and Ollama: export it with `codechoir export MODEL --format gguf` instead.")
        return ways


def dense_width(dense: Mapping[str, Any]) -> Any:
    """A config's width, by either name that configs have for it."""
    return dense.get("hidden_size") or dense.get("n_embd")


def _licence(folder: Path, expert: str | None) -> tuple[str, str]:
    """The licence for the card's head, and what is told of it: of base and experts, or where none is known, so.

    A card of the composed folder's own goes before what its manifest says of its parts.
    """
    own, told = origin_of(folder), recorded(folder)
    if own.licence not in (None, "other"):
        return str(own.licence), f"{own.licence}, as the composed model's own card says."
    if not told:
        if own.licence_files:
            return "other", _texts(own.licence_files)
        return "unknown", _UNKNOWN
    parts = {"the base": told["base"]} | {
        f"the expert for {name}": told["experts"].get(name, {})
        for name in ([expert] if expert else told["experts"])
        if name != GENERALIST
    }
    licences = {name: part.get("licence") for name, part in parts.items()}
    lines = [
        f"- {name} ({part.get('name')}"
        + (f", from {part['base_model']}" if part.get("base_model") else "")
        + f"): {licences[name] or 'tells none'}"
        for name, part in parts.items()
    ]
    known = {licence for licence in licences.values() if licence}
    if len(known) == 1 and licences["the base"]:
        head = str(licences["the base"])
    else:
        head = "other" if known or own.licence_files else "unknown"
    if None in licences.values():
        lines.append(f"\n{_UNKNOWN if not known else _SOME_UNKNOWN}")
    if own.licence_files:
        lines.append("\n" + _texts(own.licence_files))
    return head, "As the folders that it was composed of tell:\n\n" + "\n".join(lines)


_UNKNOWN = (
    "The composed model's folder tells no licence. The weights carry that of the base model, and what the experts "
    "were trained on may add terms: find both out before you pass this on."
)
_SOME_UNKNOWN = (
    "Weights carry the licence of the base that they branched from, and what they were trained on may add terms: find "
    "out what is not told before you pass this on."
)


def _texts(files: Sequence[str]) -> str:
    return f"The text is in {', '.join(files)}, copied beside this file from the composed model's folder."


def _proofs(folder: Path) -> str:
    proofs = facts_of(folder).get("proofs")
    if not isinstance(proofs, dict):
        return "None are on record: the composed model's folder has no manifest that tells them."
    fixed = proofs.get("fixed_route") or {}
    worst = max((each["max_abs_difference"] for each in fixed.values()), default=float("nan"))
    same = proofs.get("identical_experts") or {}
    return (
        f"With every token sent to one expert, the composed model's logits were {worst:g} from that expert's own "
        f"(the worst of {', '.join(fixed)}). With the base in every expert's place, they were "
        f"{same.get('relative', float('nan')):.2g} of the largest logit from the base's. Both in float32."
    )
