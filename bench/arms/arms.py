"""The arms: a name for each, and what it changes in the recipe. Runs nothing.

All arms read as many sequences a language, S: those that the recipe's trunk, its expert and tuning its whole read
together. A model that is scored has then read S sequences of every language, whether dense or MoE, but for the learning
rates' tries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from codechoir.generate.config import TUNED
from codechoir.recipe import Recipe

_TRUNKS = {"from the base": 0.0, "trunk 1/4": 0.25, "trunk 1/2": 0.5, "trunk 3/4": 0.75}
DRAWN_TOGETHER = {"compose.own_share": 0.75}  # a quarter of each expert is the average of all
DRAWN_FOR_TUNING = {"compose.own_share": 0.25}
OWN_RATE = 0.3
_IN_COMMON = {"what": "experts", "own_rate": OWN_RATE, "balance": "none"}
_TUNED_TRUNK, _TUNED_SHARE = 0.25, 0.5  # of S, that the trunk reads and that is left for tuning the whole
_SCORED = "universal, trunk, moe-oracle, moe-prompt, moe-token-top1, moe-token-top2, moe-uniform, soup"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way. `told`: what it changes; arms that train alike train once."""

    name: str
    train: Mapping[str, object]
    told: Mapping[str, object]

    @property
    def folder(self) -> str:
        """Its run's folder."""
        return self.name.replace(", ", "-").replace(" ", "-").replace("/", "-")

    def settings(self) -> list[str]:
        """As the command line takes them."""
        return [f"--set={key}={value}" for key, value in {**self.train, **self.told}.items()]


def num_sequences(recipe: Recipe) -> int:
    """S, the sequences of a language that every arm reads."""
    return recipe.packed_sequences - recipe.left_for_tuning.validation


def arms(recipe: Recipe) -> list[Arm]:
    """All arms of a recipe."""
    train, num_languages, total = recipe.train, len(recipe.languages), num_sequences(recipe)

    def split(share: float, left: int = 0) -> dict[str, object]:
        trunk = round(share * total)
        read = {"train.trunk_sequences": trunk, "train.expert_sequences": total - trunk - left}
        return read | {"train.infilling_rate": 0.0}

    tuning = int(_TUNED_SHARE * total)
    per_step = max(1, min(tuning, train.sequences_per_step // num_languages))
    num_steps = tuning // per_step
    tuned = {
        "what": "whole",
        "steps": num_steps,
        "sequences_per_language": per_step,
        "sequences_per_forward": recipe.tune.sequences_per_forward if recipe.tune else 1,
        "learning_rate": train.learning_rate / 3,
        "balance": "switch",
        "validate_every": max(1, num_steps // 8),
        "precision": train.precision,
    }
    scored: dict[str, object] = {
        "tune": "null",
        "compose.own_share": 1.0,
        "generate.score": f"[{_SCORED}]",
        "generate.complete": "[]",
        "generate.infill": "[]",
    }
    tuned_scored = scored | {"generate.score": f"[universal, {TUNED}]"}
    infilled = DRAWN_TOGETHER | {
        "generate.infill": "[universal, trunk, moe-oracle, moe-prompt]",
        "generate.infilling_documents": recipe.generate.infilling_documents or 100,
    }
    left = num_steps * per_step
    copies = split(1 - left / total, left)  # experts that have read nothing before
    tuned_ways: tuple[tuple[str, dict[str, object], dict[str, float], dict[str, object]], ...] = (
        ("tuned whole", split(_TUNED_TRUNK, left), DRAWN_FOR_TUNING, {}),
        ("upcycled", copies, {}, {}),
        ("upcycled, in common", copies, {}, _IN_COMMON),
    )
    return [
        *(
            Arm(f"{name}{drawn}", split(share), scored | told)
            for name, share in _TRUNKS.items()
            for drawn, told in (("", {}), (", drawn together", DRAWN_TOGETHER))
        ),
        Arm("low rank", split(0.5) | {"train.branches_trainable": "lora"}, scored),
        *(
            Arm(
                f"{name}, top-{top_k}",
                read,
                tuned_scored | drawn | {"tune": json.dumps(tuned | {"top_k": top_k} | way)},
            )
            for name, read, drawn, way in tuned_ways
            for top_k in ((1, 2) if num_steps else ())
        ),
        Arm("infilling, drawn together", split(0.25) | {"train.infilling_rate": 0.5}, scored | infilled),
    ]
