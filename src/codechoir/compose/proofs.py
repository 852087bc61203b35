"""The two proofs that every composition must pass, on the files as written, read by plain transformers.

Fixed route: with every token sent to one expert, the composed model gives that expert's logits exactly. Identical
experts: with the trunk's feed-forward weights in every expert's place, the fitted routers change nothing: the logits
are the trunk's to 1e-5 of the largest. Both in float32 on the eager expert backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.compose.plan import Plan
from codechoir.errors import ProofError
from codechoir.model.checkpoint import load_model, open_checkpoint

BACKEND = "eager"
RELATIVE_BOUND = 1e-5


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two models' logits are apart; not a number where one of them is not."""

    max_abs_difference: float
    max_abs_logit: float
    backend: str = BACKEND

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest logit."""
        return self.max_abs_difference / self.max_abs_logit


@torch.no_grad()
def prove(plan: Plan, composed: Path, texts: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Runs both proofs on (1, T) token ids of each language and returns their figures. Raises ProofError on failure."""
    from transformers import AutoModelForCausalLM

    # Loaded as stored and widened after: transformers joins the experts' tensors, in float32 at twice the peak memory.
    stored = torch.bfloat16 if open_checkpoint(composed).dtypes() == {"BF16"} else torch.float32
    mixtral = AutoModelForCausalLM.from_pretrained(
        composed, dtype=stored, experts_implementation=BACKEND, local_files_only=True, use_safetensors=True
    )
    mixtral = mixtral.eval().float()
    fixed: dict[str, Any] = {}
    for index, (language, expert) in enumerate(plan.experts.items()):
        with _fixed_route(mixtral, index):
            ours = mixtral(texts[language], use_cache=False).logits
        difference = _difference(
            ours, load_model(expert.folder, torch.float32)(texts[language], use_cache=False).logits
        )
        _require(difference.max_abs_difference == 0, "the fixed route", language, difference, "exactly 0")
        fixed[language] = asdict(difference)
    _make_experts_identical(mixtral, plan)
    trunk = load_model(plan.trunk.folder, torch.float32)
    worst = Difference(0.0, 1.0)
    for text in texts.values():
        difference = _difference(mixtral(text, use_cache=False).logits, trunk(text, use_cache=False).logits)
        _require(
            difference.relative < RELATIVE_BOUND,
            "identical experts",
            "the trunk",
            difference,
            f"under {RELATIVE_BOUND} of the largest logit",
        )
        worst = max(worst, difference, key=lambda each: each.relative)
    return {"fixed_route": fixed, "identical_experts": asdict(worst) | {"relative": worst.relative}}


def _difference(ours: torch.Tensor, theirs: torch.Tensor) -> Difference:
    return Difference(float((ours - theirs).abs().max()), float(theirs.abs().max()))


def _require(holds: bool, proof: str, model: str, seen: Difference, allowed: str) -> None:
    if not holds:  # a difference that is not a number fails, too
        raise ProofError(
            f"the composed model fails the proof of {proof} against {model}",
            seen=f"largest logit difference {seen.max_abs_difference:g}, relative {seen.relative:g}",
            allowed=allowed,
            next_step="the composed folder is not finished; check the experts' weights",
        )


@contextmanager
def _fixed_route(mixtral: Any, expert: int) -> Iterator[None]:
    """Makes every router send all tokens to one expert with weight 1."""

    def hook(_: torch.nn.Module, __: Any, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        logits_NE = output[0]
        weights_N1 = torch.ones(len(logits_NE), 1)
        return logits_NE, weights_N1, torch.full((len(logits_NE), 1), expert)

    handles = [layer.mlp.gate.register_forward_hook(hook) for layer in mixtral.model.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _make_experts_identical(mixtral: Any, plan: Plan) -> None:
    family = plan.family
    for number, layer in enumerate(mixtral.model.layers):
        gate, up, down = (
            plan.trunk.read(f"{family.feed_forward_prefix(number)}{module}.weight").float()
            for module in (family.gate, family.up, family.down)
        )
        layer.mlp.experts.gate_up_proj.data[:] = torch.cat([gate, up])
        layer.mlp.experts.down_proj.data[:] = down
