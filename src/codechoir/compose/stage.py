"""The compose stage: a trunk and its experts become one Mixture-of-Experts folder, routers fitted, proofs run.

Out: a Mixtral checkpoint with per-expert tensor names, which plain transformers loads, its tokenizer, and the routing
sidecar that `model/moe.py` reads. Knows nothing of training; any folders that pass `plan` will do.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.artifacts import Manifest, StageFolder
from codechoir.compose.config import ComposeConfig
from codechoir.compose.plan import Plan, mixtral_config, plan
from codechoir.compose.prompt_routers import PREFIX_LENGTHS, fit_prompt_router
from codechoir.compose.proofs import prove
from codechoir.compose.token_routers import TokenRouters, fit_token_routers
from codechoir.console import say
from codechoir.documents import Text, in_turn, read_texts
from codechoir.errors import InputError, ProofError
from codechoir.model.checkpoint import full_config, load_tokenizer, separator_id, write_checkpoint
from codechoir.model.device import compute_device, compute_dtype
from codechoir.model.moe import (
    Composed,
    Route,
    Routing,
    active_parameters,
    assemble,
    mixtral_prefix,
    open_composed,
    write_routing,
)
from codechoir.model.prompt_router import PromptRouter

VERSION = 1


@dataclass(frozen=True, slots=True)
class ComposeInputs:
    """The folders to compose, the documents that routers are fitted on, and the digests that stand for them."""

    trunk: Path
    experts: Mapping[str, Path]
    documents: Path
    digests: Mapping[str, str]


def compose(config: ComposeConfig, inputs: ComposeInputs, out: Path) -> Manifest:
    """Composes into `out` and returns the manifest. Raises IncompatibleModelError or ProofError, naming the cause."""
    settings = config.model_dump(mode="json") | {"experts": list(inputs.experts)}
    folder = StageFolder(out, "compose", VERSION, settings, inputs.digests)
    if finished := folder.finished():
        return finished
    checked = plan(inputs.trunk, inputs.experts)
    folder.begin()
    tokenizer = load_tokenizer(inputs.trunk)
    texts = {name: _Texts.read(inputs.documents, name, tokenizer, config) for name in inputs.experts}
    prompt_router = fit_prompt_router(
        {name: text.prompts for name, text in texts.items()}, tokenizer, int(checked.trunk.config["vocab_size"]), config
    )
    routers = _fit(checked, prompt_router, texts, config)
    gc.collect()  # the model that the routers were fitted on, before the next large one
    _write(out, checked, routers, prompt_router, config)
    gc.collect()
    say("compose: proving the fixed route and identical experts")
    try:
        proofs = prove(
            checked, out, {name: text.calibration[:1, : config.proof_tokens] for name, text in texts.items()}
        )
    except ProofError:
        (out / "config.json").unlink()  # what failed is no model that anybody could load by mistake
        raise
    held_out = {name: _tokens(read_texts(inputs.documents, name, "held_out"), tokenizer) for name in inputs.experts}
    return folder.finish(
        {
            "experts": list(inputs.experts),
            **_parameters(out),
            "proofs": proofs,
            "prompt_router": _prompt_router_facts(prompt_router, held_out),
            "token_router": {
                "accuracy_by_layer": list(routers.accuracies),
                "temperature_by_layer": list(routers.temperatures),
            },
        }
    )


@dataclass(frozen=True, slots=True)
class _Texts:
    """One language's text for the routers: (N, T) token ids, and whole documents."""

    fit: torch.Tensor
    calibration: torch.Tensor
    prompts: list[Text]

    @classmethod
    def read(cls, documents: Path, language: str, tokenizer: Any, config: ComposeConfig) -> _Texts:
        texts = read_texts(documents, language, "train")
        random.Random(config.seed).shuffle(texts)
        texts = in_turn(texts)  # no large package speaks for its language
        prompts = texts[: config.prompt_documents]
        sequences = list(_sequences(texts, tokenizer, config))
        if len(sequences) < 2 or len(prompts) < 5:
            raise InputError(
                "too little text to fit routers on",
                seen=f"{language}: {len(prompts)} documents, {len(sequences)} sequences of {config.sequence_length}",
                allowed="at least 5 documents and 2 sequences",
                next_step="curate more, or lower compose.sequence_length",
            )
        num_fit = min(config.fit_sequences, len(sequences) - 1)
        return cls(torch.stack(sequences[:num_fit]), torch.stack(sequences[num_fit:]), prompts)


def _tokens(texts: list[Text], tokenizer: Any) -> list[torch.Tensor]:
    """Each document's first tokens, as many as the longest prefix; documents without a token are left out."""
    longest = 16 * max(PREFIX_LENGTHS)  # characters enough for the longest prefix
    ids = [tokenizer(text.content[:longest], add_special_tokens=False)["input_ids"] for text in texts]
    return [torch.tensor(document) for document in ids if document]


def _sequences(texts: list[Text], tokenizer: Any, config: ComposeConfig) -> Iterator[torch.Tensor]:
    """At most one sequence a document, so that many documents are seen; short documents are joined."""
    separator, rest, num_made = separator_id(tokenizer), [], 0
    for text in texts:
        rest += [separator, *tokenizer(text.content, add_special_tokens=False, verbose=False)["input_ids"]]
        if len(rest) >= config.sequence_length:
            yield torch.tensor(rest[: config.sequence_length])
            rest, num_made = [], num_made + 1
        if num_made == config.fit_sequences + config.calibration_sequences:
            return


def _fit(
    checked: Plan, prompt_router: PromptRouter, texts: Mapping[str, _Texts], config: ComposeConfig
) -> TokenRouters:
    """Fits token routers on the experts joined in memory, the states being those of each language's own expert."""
    dtype = compute_dtype("auto")
    tensors = _mixtral_tensors(checked, None, dtype)
    composed = Composed(checked.trunk, checked.trunk.config, checked.family, tuple(checked.experts), prompt_router)
    model = assemble(composed, tensors, Route(Routing.FIXED, 1), dtype).to(compute_device())
    return fit_token_routers(
        model,
        {name: text.fit for name, text in texts.items()},
        {name: text.calibration for name, text in texts.items()},
        config,
    )


def _write(out: Path, checked: Plan, routers: TokenRouters, prompt_router: PromptRouter, config: ComposeConfig) -> None:
    write_routing(out, checked.trunk.config, list(checked.experts), prompt_router)
    write_checkpoint(
        out,
        mixtral_config(full_config(checked.trunk), len(checked.experts), config.top_k),
        _mixtral_tensors(checked, routers, None),
        tokenizer=checked.trunk.folder,
    )


def _mixtral_tensors(checked: Plan, routers: TokenRouters | None, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """Every tensor of the composed model by its Mixtral name; without routers, theirs are 0."""
    family = checked.family
    tensors = {name: checked.trunk.read(name) for name in checked.shared_names()}
    for layer in range(int(checked.trunk.config["num_hidden_layers"])):
        prefix = mixtral_prefix(layer)
        for index, expert in enumerate(checked.experts.values()):
            for short, module in (("w1", family.gate), ("w2", family.down), ("w3", family.up)):
                tensors[f"{prefix}experts.{index}.{short}.weight"] = expert.read(
                    f"{family.feed_forward_prefix(layer)}{module}.weight"
                )
        router_ED = (
            routers.weights[layer].cpu()
            if routers
            else torch.zeros(len(checked.experts), int(checked.trunk.config["hidden_size"]))
        )
        tensors[f"{prefix}gate.weight"] = router_ED.to(next(iter(tensors.values())).dtype)
    return tensors if dtype is None else {name: tensor.to(dtype) for name, tensor in tensors.items()}


def _parameters(out: Path) -> dict[str, Any]:
    composed = open_composed(out)
    return {
        "total_parameters": sum(torch.Size(shape).numel() for shape in composed.checkpoint.shapes().values()),
        "active_parameters": {
            "dense": active_parameters(composed, Routing.FIXED, 1),
            "top1": active_parameters(composed, Routing.TOKEN, 1),
            "top2": active_parameters(composed, Routing.TOKEN, 2),
            "uniform": active_parameters(composed, Routing.UNIFORM, 1),
        },
    }


def _prompt_router_facts(router: PromptRouter, held_out: Mapping[str, list[torch.Tensor]]) -> dict[str, Any]:
    """Accuracy and confusion on held-out documents' beginnings, by prefix length in tokens."""
    languages = list(held_out)
    accuracy: dict[str, float] = {}
    by_language: dict[str, dict[str, float]] = {name: {} for name in languages}
    confusion: dict[str, dict[str, dict[str, float]]] = {}
    for length in PREFIX_LENGTHS:
        rows = {}
        for index, name in enumerate(languages):
            prefixes = [document[:length] for document in held_out[name]]
            chosen = router.probabilities(prefixes).argmax(dim=-1)
            rows[name] = [float((chosen == expert).float().mean()) for expert in range(len(languages))]
            by_language[name][str(length)] = round(rows[name][index], 5)
        accuracy[str(length)] = round(sum(rows[name][i] for i, name in enumerate(languages)) / len(languages), 5)
        confusion[str(length)] = {
            name: dict(zip(languages, map(_round, row), strict=True)) for name, row in rows.items()
        }
    return {
        "accuracy": accuracy,
        "accuracy_by_language": by_language,
        "confusion": confusion,
        "documents": {name: len(documents) for name, documents in held_out.items()},
        "temperature": router.temperature,
    }


def _round(share: float) -> float:
    return round(share, 4)
