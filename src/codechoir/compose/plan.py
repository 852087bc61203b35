"""What will be composed, checked before a byte moves.

In: the folders of a trunk and its experts. Out: a plan in which every tensor is accounted for, or an error that names
the tensor, the shape or the file that does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.artifacts import file_sha256
from codechoir.errors import IncompatibleModelError
from codechoir.model.checkpoint import Checkpoint, full_config, open_checkpoint
from codechoir.model.families import Family, family_of

_MUST_AGREE = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "hidden_act",
    "rms_norm_eps",
    "rope_parameters",
    "sliding_window",
    "tie_word_embeddings",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Models that fit together. `experts` keeps the order that the experts will have."""

    trunk: Checkpoint
    experts: Mapping[str, Checkpoint]
    family: Family

    def feed_forward_names(self) -> list[str]:
        """The tensors that become experts."""
        return [name for name in self.trunk.files if self.family.is_feed_forward(name)]

    def shared_names(self) -> list[str]:
        """The tensors that all models share."""
        return [name for name in self.trunk.files if not self.family.is_feed_forward(name)]


def plan(trunk: Path, experts: Mapping[str, Path]) -> Plan:
    """Checks that the experts differ from the trunk in feed-forward weights alone. Raises IncompatibleModelError."""
    if len(experts) < 2:
        raise IncompatibleModelError("a composed model needs at least two experts", seen=", ".join(experts) or "none")
    base = open_checkpoint(trunk)
    family = family_of(base.config, trunk)
    full, shapes = full_config(base), base.shapes()
    checked = {language: open_checkpoint(folder) for language, folder in experts.items()}
    for language, expert in checked.items():
        _check_config(full, base, expert, language)
        _check_tokenizer(trunk, expert.folder, language)
        _check_tensors(shapes, expert, language)
    found = Plan(base, checked, family)
    _check_family(found, shapes)
    for language, expert in checked.items():
        for name in found.shared_names():
            if not torch.equal(base.read(name), expert.read(name)):
                raise IncompatibleModelError(
                    f"the {language} expert differs from the base outside its feed-forward weights",
                    seen=f"{name} in {expert.folder}",
                    allowed="experts trained from this base with all but the feed-forward weights frozen",
                    next_step="give the base that the experts branched from, or train them with it",
                )
        for name in found.feed_forward_names():
            if not torch.isfinite(expert.read(name)).all():
                raise IncompatibleModelError(f"the {language} expert holds weights that are not finite", seen=name)
    return found


def _check_config(full: Mapping[str, Any], base: Checkpoint, expert: Checkpoint, language: str) -> None:
    """Compares with defaults spelled out (`full` is the base's config), since a config.json may leave them out."""
    same_type = expert.config.get("model_type") == base.config.get("model_type")
    theirs = full_config(expert) if same_type else expert.config
    for key in _MUST_AGREE:
        if full.get(key) != theirs.get(key):
            raise IncompatibleModelError(
                f"the {language} expert is of another architecture than the base",
                seen=f"{key} {theirs.get(key)} in {expert.folder}",
                allowed=f"{key} {full.get(key)}, as in {base.folder}",
            )


def _check_tokenizer(base: Path, expert: Path, language: str) -> None:
    ours, theirs = base / "tokenizer.json", expert / "tokenizer.json"
    if ours.exists() and theirs.exists() and file_sha256(ours) != file_sha256(theirs):
        raise IncompatibleModelError(
            f"the {language} expert has another vocabulary than the base",
            seen=theirs,
            allowed=f"the same tokenizer.json as {ours}",
        )


def _check_tensors(shapes: Mapping[str, tuple[int, ...]], expert: Checkpoint, language: str) -> None:
    theirs = expert.shapes()
    for name in sorted(shapes.keys() ^ theirs.keys()):
        raise IncompatibleModelError(
            f"the {language} expert has other tensors than the base",
            seen=f"{name} only in the {'expert' if name in theirs else 'base'}",
        )
    for name, shape in shapes.items():
        if theirs[name] != shape:
            raise IncompatibleModelError(
                f"a tensor of the {language} expert has another shape",
                seen=f"{name} {theirs[name]} in {expert.folder}",
                allowed=str(shape),
            )


def _check_family(found: Plan, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Every layer must hold exactly the feed-forward tensors that the family declares."""
    family, num_layers = found.family, int(found.trunk.config["num_hidden_layers"])
    declared = {
        f"{family.feed_forward_prefix(layer)}{module}.weight"
        for layer in range(num_layers)
        for module in (family.gate, family.up, family.down)
    }
    for name in sorted(declared ^ set(found.feed_forward_names())):
        raise IncompatibleModelError(
            f"a feed-forward tensor is not as the family {family.model_type} has it",
            seen=f"{name} is {'missing' if name in declared else 'unknown'} in {found.trunk.folder}",
        )
    assert declared <= shapes.keys()


def mixtral_config(dense: Mapping[str, Any], num_experts: int, top_k: int) -> dict[str, Any]:
    """The Mixtral config.json of a composed model.

    `dense` is a full config: what is left out would take Mixtral's defaults, which differ from Llama's. `head_dim` is
    always written: Mixtral would else derive it.
    """
    heads = int(dense["num_attention_heads"])
    kept = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "hidden_act",
        "max_position_embeddings",
        "initializer_range",
        "rms_norm_eps",
        "rope_parameters",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "tie_word_embeddings",
        "attention_dropout",
    )
    return {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        **{key: dense[key] for key in kept if key in dense},
        "head_dim": dense.get("head_dim") or int(dense["hidden_size"]) // heads,
        "sliding_window": dense.get("sliding_window"),
        "num_local_experts": num_experts,
        "num_experts_per_tok": min(top_k, num_experts),
        "output_router_logits": False,
        "dtype": dense.get("dtype") or "bfloat16",
    }
