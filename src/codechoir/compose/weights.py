"""The composed model's tensors, made one at a time from the plan's sources and checked as they are read.

In: a plan. Out: each output tensor's values, and how far the experts' shared weights had drifted from the base's. A
weight that is not finite, or that differs where the policy wants it equal, is refused with its file and tensor. Holds
one tensor (of a packed one: one expert's part) at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from codechoir.compose.experts import Expert
from codechoir.compose.plan import Output, Part, Plan
from codechoir.errors import IncompatibleModelError


@dataclass(frozen=True, slots=True)
class Drift:
    """How far an expert's shared tensor is from the base's; `relative` is to the base's largest weight."""

    max_abs: float
    relative: float


@dataclass(slots=True)
class Weights:
    """Reads and checks. `drift` grows as tensors are read: tensor -> expert -> how far."""

    plan: Plan
    drift: dict[str, dict[str, Drift]] = field(default_factory=dict)
    _as_base: set[str] = field(default_factory=set)  # shared tensors that were compared and are the base's

    def read(self, output: Output) -> torch.Tensor | Iterator[torch.Tensor]:
        """A shared tensor, one expert's, or the parts of a packed one. Routers are not made here."""
        assert output.part is not Part.ROUTER
        if output.part is Part.SHARED:
            return self.shared(output.sources[0])
        if output.expert is not None:
            return self._matrix(self.plan.experts[output.expert], output.sources)
        return (self._matrix(expert, output.sources)[None] for expert in self.plan.experts.values())

    def summary(self) -> dict[str, Any]:
        """The drift for the manifest: how many shared tensors are equal in all models, and the others by name."""
        return {
            "policy": self.plan.shared,
            "equal_tensors": len(self.plan.shared_names()) - len(self.drift),
            "tensors": {
                name: {language: {"max_abs": d.max_abs, "relative": d.relative} for language, d in by.items()}
                for name, by in sorted(self.drift.items())
            },
        }

    def _matrix(self, expert: Expert, sources: tuple[str, ...]) -> torch.Tensor:
        parts = []
        for name in sources:
            tensor = expert.read(name)
            if not _is_finite(tensor):
                for one in expert.blend.experts if expert.blend else ():  # whose weights they are, of all that went in
                    _require_finite(one.trained(name), name, one.files.get(name, one.folder), _owner(one))
                _require_finite(tensor, name, expert.files.get(name, expert.folder), _owner(expert))
            parts.append(tensor)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def shared(self, name: str) -> torch.Tensor:
        """A shared tensor as the policy has it, every model's version checked and compared when it is first read."""
        trunk = self.plan.trunk
        base = trunk.tensors.read(name)
        if name in self._as_base:
            return base
        _require_finite(base, name, trunk.tensors.files[name], "the base")
        for second, first in trunk.names.tied.items():
            if first == name and second in trunk.tensors.files:
                _require_tied(base, trunk.tensors.read(second), second, trunk.tensors.files[second])
        total: torch.Tensor | None = None  # of the experts' differences from the base
        for expert in self.plan.experts.values():
            own = self._compared(expert, name, base)
            if own is not None and self.plan.shared == "mean":
                difference = own.to(torch.float64) - base.to(torch.float64)
                total = difference if total is None else total.add_(difference)
        if total is None:
            self._as_base.add(name)
            return base
        return (base.to(torch.float64) + total / len(self.plan.experts)).to(base.dtype)

    def _compared(self, expert: Expert, name: str, base: torch.Tensor) -> torch.Tensor | None:
        """The expert's own version of a shared tensor where it differs from the base's; the difference is noted."""
        own = expert.read(name) if name in expert.files else base
        assert expert.weights or expert.adapter or own is base
        for second, first in expert.second_names().items():
            if first == name and expert.weights:
                _require_tied(own, expert.weights.read(second), second, expert.weights.files[second])
        if own is base or _same(own, base):
            return None
        _require_finite(own, name, expert.files[name], _owner(expert))
        apart = (own.to(torch.float64) - base.to(torch.float64)).abs().max()
        if not apart:
            return None  # equal by value, in another number format
        if self.plan.shared == "require-equal" or not base.is_floating_point():
            outside = self.plan.trunk.family.is_feed_forward(name)  # of the layers that get experts
            raise IncompatibleModelError(
                f"the {expert.language} expert differs from the base outside its feed-forward weights"
                + " of the layers that get experts" * outside,
                seen=f"{name} in {expert.files[name]}: up to {float(apart):.3g} apart",
                allowed="experts trained from this base with all but those weights frozen",
                next_step="set shared to base or mean, or layers to all that were trained"
                if outside
                else "give the base that the experts branched from, or set shared to base or mean",
            )
        largest = float(base.to(torch.float64).abs().max())
        drift = Drift(float(apart), float(apart) / largest if largest else float("inf"))
        self.drift.setdefault(name, {})[expert.language] = drift
        return own


class ReadAhead:
    """Makes each output while the one before it is being written: one more tensor in memory, two cores at work."""

    def __init__(self, weights: Weights, outputs: Sequence[Output], pool: ThreadPoolExecutor) -> None:
        self._weights, self._pool = weights, pool
        self._following = dict(pairwise(outputs))
        self._begun: dict[Output, Future[torch.Tensor | Iterator[torch.Tensor]]] = {}

    def read(self, output: Output) -> torch.Tensor | Iterator[torch.Tensor]:
        """What `Weights.read` gives; the outputs are best asked for in their order."""
        future = self._begun.pop(output, None) or self._pool.submit(self._weights.read, output)
        made = future.result()
        if following := self._following.get(output):
            self._begun[following] = self._pool.submit(self._weights.read, following)
        return made


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one shape hold the same bytes; in words of 8, which is ten times faster than by number."""
    if one.dtype != other.dtype:
        return False
    flat = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in (one, other)]
    words = flat[0].numel() // 8 * 8
    aligned = all(tensor.storage_offset() % 8 == 0 and tensor.data_ptr() % 8 == 0 for tensor in flat)
    if not aligned:
        return torch.equal(*flat)
    same_words = torch.equal(flat[0][:words].view(torch.int64), flat[1][:words].view(torch.int64))
    return same_words and torch.equal(flat[0][words:], flat[1][words:])


def _owner(expert: Expert) -> str:
    return f"the {expert.language} expert"


def _is_finite(tensor: torch.Tensor) -> bool:
    """Both ends of the values tell: NaN goes through to them."""
    return not (tensor.is_floating_point() and tensor.numel()) or all(end.isfinite() for end in tensor.aminmax())


def _require_finite(tensor: torch.Tensor, name: str, file: Path, owner: str) -> None:
    if not _is_finite(tensor):
        raise IncompatibleModelError(f"{owner} holds weights that are not finite", seen=f"{name} in {file}")


def _require_tied(first: torch.Tensor, second: torch.Tensor, name: str, file: Path) -> None:
    if first.shape != second.shape or not (_same(first, second) or torch.equal(first, second)):
        raise IncompatibleModelError(
            "a tensor that the config ties to another holds values of its own",
            seen=f"{name} in {file}",
            allowed="the same values, or tie_word_embeddings: false in config.json",
        )
