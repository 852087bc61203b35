"""The two proofs that every composition must pass, on the files as written, run by the model classes of transformers.

Fixed route: with every token sent to one expert, the composed model gives that expert's logits exactly. Identical
experts: with the trunk's feed-forward weights in every expert's place, the fitted routers change nothing: the logits
are the trunk's to 1e-5 of the largest. Both in float32 on the CPU and the eager expert backend (a GPU's libraries take
another order of summation for another shape, so nothing is exact there), and layer by layer: a layer's weights are read
as it runs, so that a model needs no more memory to be proven than to be composed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.compose.layerwise import Read, reading_by_layer, skeleton
from codechoir.compose.plan import Form, Plan
from codechoir.compose.weights import Weights
from codechoir.errors import ProofError
from codechoir.model.checkpoint import Checkpoint, open_checkpoint
from codechoir.model.moe import Routing, mixtral_expert_name, mixtral_prefix, packed_parts

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
    """Runs both proofs on (1, T) token ids of each expert and returns their figures. Raises ProofError on failure.

    The fixed route is run text by text: what is to be exactly equal must be computed in batches of one shape.
    """
    written = open_checkpoint(composed)
    moe, dense = skeleton(written.config, BACKEND), skeleton(plan.trunk.config)
    _without_gaps(moe)
    layers = plan.trunk.family.layers
    fixed: dict[str, Any] = {}
    for index, language in enumerate(plan.experts):
        with _fixed_route(moe, plan, index):
            ours = _logits(moe, layers, _one_expert(plan, written, index), texts[language])
        difference = _difference(ours, _logits(dense, layers, _dense(plan, language), texts[language]))
        _require(difference.max_abs_difference == 0, "the fixed route", language, difference, "exactly 0")
        fixed[language] = asdict(difference)
    together_BT = torch.cat(list(texts.values()))
    ours = _logits(moe, layers, _identical(plan, written), together_BT)
    theirs = _logits(dense, layers, _dense(plan, None), together_BT)
    differences = [_difference(*pair) for pair in zip(ours, theirs, strict=True)]
    for difference in differences:
        _require(
            difference.relative < RELATIVE_BOUND,
            "identical experts",
            "the trunk",
            difference,
            f"under {RELATIVE_BOUND} of the largest logit",
        )
    worst = max(differences, key=lambda each: each.relative)
    return {"fixed_route": fixed, "identical_experts": asdict(worst) | {"relative": worst.relative}}


def _without_gaps(moe: Any) -> None:
    """Lets activations read rows that lie one after the other, as the dense model's do.

    Packed gates lie a row's width apart, and a vector unit rounds the rest of such a row, what does not fill it,
    otherwise than the same numbers inside an array.
    """
    for name, module in moe.named_modules():
        if name.endswith(".act_fn"):
            module.register_forward_pre_hook(lambda _, inputs: tuple(each.contiguous() for each in inputs))


def _logits(model: Any, layers: str, read: Read, text: torch.Tensor) -> torch.Tensor:
    with reading_by_layer(model, layers, read, (torch.device("cpu"), torch.float32)):
        logits: torch.Tensor = model(input_ids=text, use_cache=False).logits
    return logits


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


def _dense(plan: Plan, language: str | None) -> Read:
    """The weights of one expert (None: the trunk) as its own folder has them, but for those that a policy changes."""
    own = plan.trunk.tensors.read if language is None else plan.experts[language].read
    if plan.shared == "require-equal":
        return own
    shared, weights = set(plan.shared_names()), Weights(plan)
    return lambda name: weights.shared(name) if name in shared else own(name)


def _one_expert(plan: Plan, written: Checkpoint, index: int) -> Read:
    """The written weights; of the experts only one's, which stands in every place (one copy of it, seen many times)."""
    return _packed(plan, written, lambda place: _written_rows(plan, written, place, index))


def _identical(plan: Plan, written: Checkpoint) -> Read:
    """The written weights, with the trunk's feed-forward in every expert's place."""
    trunk = plan.trunk.tensors
    return _packed(plan, written, lambda place: torch.cat([trunk.read(source).float() for source in place.sources]))


def _packed(plan: Plan, written: Checkpoint, rows_of: Callable[[_Place], torch.Tensor]) -> Read:
    def read(name: str) -> torch.Tensor:
        place = _place(plan, name)
        if not place.sources:
            return written.read(place.file_names[0])
        rows = rows_of(place)
        return rows.expand(len(plan.experts), *rows.shape)

    return read


@dataclass(frozen=True, slots=True)
class _Place:
    """A parameter of the composed model's class. `sources` are the dense names of one expert's rows; none: shared.

    `file_names` are where the folder has it; for experts by Mixtral's names, those of expert 0.
    """

    file_names: tuple[str, ...]
    sources: tuple[str, ...] = ()


def _place(plan: Plan, name: str) -> _Place:
    family = plan.trunk.family
    for layer in plan.layers:
        prefix = family.feed_forward_prefix(layer)
        if not name.startswith(prefix):
            continue
        sources = packed_parts(family, layer).get(name, ())
        if plan.form is Form.OWN:
            return _Place((name,), sources)
        if not sources:
            return _Place((f"{mixtral_prefix(layer)}{name.removeprefix(prefix)}",))
        return _Place(tuple(mixtral_expert_name(family, layer, 0, source) for source in sources), sources)
    return _Place((name,))


def _written_rows(plan: Plan, written: Checkpoint, place: _Place, index: int) -> torch.Tensor:
    """One expert's part of a packed parameter, float32, from the composed folder."""
    if plan.form is Form.OWN:
        return written.read(place.file_names[0])[index].float()
    names = [name.replace(".experts.0.", f".experts.{index}.") for name in place.file_names]
    return torch.cat([written.read(name).float() for name in names])


@contextmanager
def _fixed_route(moe: Any, plan: Plan, expert: int) -> Iterator[None]:
    """Makes every layer send all tokens to one expert with weight 1."""
    if plan.form is Form.OWN:
        moe.set_routing(Routing.FIXED)
        moe.fix_routes([list(plan.experts)[expert]])
        yield
        moe.set_routing(Routing.TOKEN, moe.config.num_experts_per_tok)
        return

    def hook(_: torch.nn.Module, __: Any, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        logits_NE = output[0]
        weights_N1 = torch.ones(len(logits_NE), 1, device=logits_NE.device)
        return logits_NE, weights_N1, torch.full((len(logits_NE), 1), expert, device=logits_NE.device)

    prefixes = [plan.trunk.family.feed_forward_prefix(layer) for layer in plan.layers]
    handles = [moe.get_submodule(f"{prefix}gate").register_forward_hook(hook) for prefix in prefixes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
