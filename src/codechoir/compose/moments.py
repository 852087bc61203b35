"""What is left of the text that token routers were fitted on: sums that a ridge regression can be solved from again.

In: the states that each layer's router reads while a language's text goes through its own expert. Out: XᵀX and the sum
of X, by language and layer, which are kept beside the composed model; and the routers that they give for any choice of
languages, without the text. A language's sums depend on its own expert alone, so that experts come and go by adding
and leaving out sums. Knows no models and no tokens.

Size on disk: XᵀX is symmetric, so its upper triangle is kept: float32, D(D+1)/2 + D a language and layer.

Shapes: N tokens, D width, E experts, P = D(D+1)/2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.artifacts import write_json
from codechoir.errors import InputError
from codechoir.model.checkpoint import load_tensors, save_tensors
from codechoir.records import read_json

MOMENTS_JSON = "moments.json"
MOMENTS_TENSORS = "moments.safetensors"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Sums:
    """One language's sums: of each layer XᵀX (its upper triangle, row by row, (P)) and the sum of X (D), float32."""

    num_tokens: int
    triangles: tuple[torch.Tensor, ...]
    totals: tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True)
class Moments:
    """All that routers can be solved from again, and how they were: the penalty, each layer's temperature."""

    layers: tuple[int, ...]
    languages: Mapping[str, Sums]
    temperatures: tuple[float, ...]
    ridge: float


class Gathering:
    """Sums a language's states as they come."""

    def __init__(self) -> None:
        self._squares: dict[int, torch.Tensor] = {}
        self._totals: dict[int, torch.Tensor] = {}
        self._num_tokens = 0

    def add(self, position: int, x_ND: torch.Tensor) -> None:
        """Adds float32 states of a layer, by its position among those with experts."""
        if position not in self._squares:
            width = x_ND.shape[1]
            self._squares[position] = x_ND.new_zeros(width, width)
            self._totals[position] = x_ND.new_zeros(width)
        self._squares[position].addmm_(x_ND.T, x_ND)
        self._totals[position] += x_ND.sum(dim=0)
        self._num_tokens += len(x_ND) if position == 0 else 0

    def sums(self) -> Sums:
        """What was gathered, on the CPU; the squares are freed on the way."""
        triangles = []
        for position in sorted(self._squares):
            square = self._squares.pop(position)
            rows, columns = _upper(square.shape[0])
            triangles.append(square.cpu()[rows, columns])
        return Sums(self._num_tokens, tuple(triangles), tuple(self._totals[key].cpu() for key in sorted(self._totals)))


def solve(languages: Mapping[str, Sums], experts: Sequence[str], penalty: float) -> list[torch.Tensor]:
    """Each layer's router (E, D) by ridge regression to the language's label; float32.

    (XᵀX + λI)⁻¹XᵀY in float64, λ being `penalty` times the mean diagonal. X are the states of all `languages`, whether
    they are among the experts or not; an expert without sums gets a row of zeros.
    """
    num_layers = len(next(iter(languages.values())).totals)
    return [_solve_layer(languages, experts, penalty, position) for position in range(num_layers)]


def _solve_layer(languages: Mapping[str, Sums], experts: Sequence[str], penalty: float, position: int) -> torch.Tensor:
    width = len(next(iter(languages.values())).totals[position])
    rows, columns = _upper(width)
    triangle_P = torch.zeros(len(rows), dtype=torch.float64)
    for sums in languages.values():
        triangle_P += sums.triangles[position]
    square_DD = torch.zeros(width, width, dtype=torch.float64)
    square_DD[rows, columns] = triangle_P
    square_DD[columns, rows] = triangle_P
    square_DD.diagonal().add_(penalty * square_DD.diagonal().mean())
    targets_DE = torch.zeros(width, len(experts), dtype=torch.float64)
    for number, name in enumerate(experts):
        if name in languages:
            targets_DE[:, number] = languages[name].totals[position]
    solved: torch.Tensor = torch.linalg.solve(square_DD, targets_DE)
    return solved.T.float().contiguous()


def _upper(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The places of an upper triangle, row by row."""
    rows, columns = torch.triu_indices(width, width)
    return rows, columns


def moment_bytes(num_layers: int, width: int) -> int:
    """What one language's sums take on disk."""
    return 4 * num_layers * (width * (width + 1) // 2 + width)


def write_moments(folder: Path, moments: Moments) -> None:
    """Writes both files into a composed folder, the one that tells of the other last."""
    tensors = {}
    for name, sums in moments.languages.items():
        for layer, triangle, total in zip(moments.layers, sums.triangles, sums.totals, strict=True):
            tensors[_key(name, layer, "xx")] = triangle
            tensors[_key(name, layer, "x")] = total
    save_tensors(folder / MOMENTS_TENSORS, tensors, {"format": "pt"})
    told = {
        "version": _VERSION,
        "layers": list(moments.layers),
        "tokens": {name: sums.num_tokens for name, sums in moments.languages.items()},
        "temperatures": list(moments.temperatures),
        "ridge": moments.ridge,
    }
    write_json(folder / MOMENTS_JSON, told)


def read_moments(folder: Path, width: int) -> Moments | None:
    """The moments beside a composed model of this width; None where it has none. Raises InputError."""
    if not (folder / MOMENTS_JSON).exists():
        return None
    told = read_json(folder / MOMENTS_JSON)
    tensors, _ = load_tensors(folder / MOMENTS_TENSORS)
    try:
        if told["version"] != _VERSION:
            raise ValueError(f"version {told['version']}")
        layers = tuple(map(int, told["layers"]))
        temperatures, ridge = tuple(map(float, told["temperatures"])), float(told["ridge"])
        if len(temperatures) != len(layers):
            raise ValueError(f"{len(temperatures)} temperatures for {len(layers)} layers")
        languages = {
            str(name): Sums(
                int(num_tokens),
                tuple(_checked(tensors, _key(name, layer, "xx"), width * (width + 1) // 2) for layer in layers),
                tuple(_checked(tensors, _key(name, layer, "x"), width) for layer in layers),
            )
            for name, num_tokens in told["tokens"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "the moments of the token routers are damaged",
            seen=f"{folder / MOMENTS_JSON}: {error}",
            next_step=f"compose again, or remove {MOMENTS_JSON}: routers are then fitted on documents alone",
        ) from None
    return Moments(layers, languages, temperatures, ridge)


def moment_tokens(folder: Path) -> dict[str, int]:
    """How many tokens each language's stored moments are of; none where there are no moments."""
    told = read_json(folder / MOMENTS_JSON) if (folder / MOMENTS_JSON).exists() else {}
    tokens = told.get("tokens", {}) if isinstance(told, dict) else {}
    return {str(name): int(count) for name, count in tokens.items()}


def _key(language: str, layer: int, kind: str) -> str:
    return f"{language}.{layer}.{kind}"


def _checked(tensors: Mapping[str, Any], key: str, length: int) -> torch.Tensor:
    tensor: torch.Tensor = tensors[key]
    if tensor.dtype != torch.float32 or tensor.shape != (length,) or not bool(tensor.isfinite().all()):
        raise ValueError(f"{key} in {MOMENTS_TENSORS} is {tensor.dtype} {tuple(tensor.shape)}, or not finite")
    return tensor
