"""A composed model looked into: what `codechoir inspect` tells, in values and in words.

In: a composed folder, and texts where there are any. Out: its experts, sizes and routers, how alike the experts are by
layer, and where the texts are routed. Without texts no weight is loaded beyond one tensor of all experts at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codechoir.compose.moments import moment_tokens
from codechoir.compose.routes import (
    RouteReader,
    TextRoutes,
    dead_experts,
    read_text,
    route_in_words,
    routing_shares,
)
from codechoir.compose.similarity import similarities
from codechoir.compose.views import ComposedView, view_composed
from codechoir.model.moe import Routing, active_parameters


def open_view(folder: Path) -> ComposedView:
    """The composed folder, opened. Raises InputError where it is none."""
    return view_composed(folder)


def read_routes(view: ComposedView, paths: Sequence[Path]) -> list[TextRoutes]:
    """The routes of text files. Loads the model."""
    texts = [(str(path), read_text(path)) for path in paths]
    reader = RouteReader(view.folder, top_k_of(view))
    return [reader.read(name, text) for name, text in texts]


def top_k_of(view: ComposedView) -> int:
    """Experts a token under token routing, as the config says."""
    return int(view.composed.checkpoint.config["num_experts_per_tok"])


def tell(view: ComposedView, texts: Sequence[TextRoutes]) -> dict[str, Any]:
    """All of it, as JSON can hold it."""
    composed, experts = view.composed, list(view.composed.experts)
    told: dict[str, Any] = {
        "model": str(view.folder),
        "family": composed.family.model_type,
        "form": composed.checkpoint.config["model_type"],
        "experts": experts,
        "layers": list(composed.layers()),
        "num_layers": view.decoder.num_layers,
        "top_k": top_k_of(view),
        "total_parameters": active_parameters(composed, Routing.TOKEN, len(experts)),
        "active_parameters": {
            "dense": active_parameters(composed, Routing.FIXED, 1),
            "top1": active_parameters(composed, Routing.TOKEN, 1),
            "top2": active_parameters(composed, Routing.TOKEN, 2),
            "uniform": active_parameters(composed, Routing.UNIFORM, 1),
        },
        "fitted_layers": [layer for layer in composed.layers() if bool(view.router(layer).any())],
        "moments": moment_tokens(view.folder),
        "similarity": [asdict(each) for each in similarities(view)],
    }
    if texts:
        told["routing_share"] = routing_shares(texts, len(experts))
        dead = dead_experts(texts, len(experts))
        told["dead_experts"] = {
            str(layer): [experts[number] for number in row] for layer, row in zip(composed.layers(), dead, strict=True)
        }
        told["texts"] = [
            {
                "file": text.name,
                "language": text.language,
                "tokens": text.num_tokens,
                "tokens_read": len(text.pieces),
                "prompt_router": {
                    str(length): dict(zip(experts, route.probabilities, strict=True))
                    for length, route in text.prompt.items()
                },
                "prompt_route": {
                    str(length): dict(zip(experts, route.weights, strict=True)) for length, route in text.prompt.items()
                },
            }
            for text in texts
        ]
    return told


def in_words(told: dict[str, Any]) -> str:
    """The same for people."""
    experts, active = told["experts"], told["active_parameters"]
    fitted = "fitted" if told["fitted_layers"] else "not fitted: all experts alike"
    lines = [
        f"model    {told['model']}: {told['family']} as {told['form']}, {told['num_layers']} layers, "
        f"{len(told['layers'])} of them with experts",
        f"experts  {', '.join(experts)}",
        f"routers  {fitted}; top-{told['top_k']}; moments "
        + (", ".join(f"{name} {count:,} tokens" for name, count in told["moments"].items()) or "none"),
        f"size     {told['total_parameters']:,} parameters; a token passes {active['dense']:,} with a fixed route, "
        f"{active['top1']:,} top-1, {active['top2']:,} top-2, {active['uniform']:,} through all experts",
        "",
        *_similarity_lines(told),
    ]
    if "texts" in told:
        lines += ["", *_routing_lines(told)]
    return "\n".join(lines)


def _similarity_lines(told: dict[str, Any]) -> list[str]:
    """A row a layer, a column a pair of experts: cosine of differences from the mean, and of the weights."""
    experts = told["experts"]
    pairs = [(i, j) for i in range(len(experts)) for j in range(i + 1, len(experts))]
    names = [f"{experts[i]}-{experts[j]}" for i, j in pairs]
    lines = [
        "similarity of experts: cosine of their differences from the mean (cosine of the weights); "
        f"nothing in common is {-1 / (len(experts) - 1):.2f}",
        "layer  " + "  ".join(f"{name:>16}" for name in names) + "   distance from the mean",
    ]
    for row in told["similarity"]:
        cells = [f"{_cosine(row['differences'][i][j])} ({_cosine(row['weights'][i][j])})" for i, j in pairs]
        columns = "  ".join(f"{cell:>{max(16, len(name))}}" for cell, name in zip(cells, names, strict=True))
        spread = ", ".join(f"{share:.2%}" for share in row["spread"])
        lines.append(f"{row['layer']:>5}  {columns}   {spread}")
    return lines


def _cosine(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _routing_lines(told: dict[str, Any]) -> list[str]:
    experts = told["experts"]
    header = "  ".join(f"{name:>10}" for name in experts)
    lines = [f"share of routing  layer  {header}"]
    for language, by_layer in told["routing_share"].items():
        for layer, row in zip(told["layers"], by_layer, strict=True):
            cells = (f"{share:>{max(10, len(name))}.1%}" for share, name in zip(row, experts, strict=True))
            lines.append(f"{language:<16}  {layer:>5}  " + "  ".join(cells))
    dead = [f"layer {layer}: {', '.join(names)}" for layer, names in told["dead_experts"].items() if names]
    lines += [f"dead experts      {'; '.join(dead) or 'none'}", ""]
    for text in told["texts"]:
        lines += [f"prompt router, {text['file']}", f"{'':22}{header}  route"]
        for length, row in text["prompt_router"].items():
            cells = (f"{share:>{max(10, len(name))}.1%}" for name, share in row.items())
            route = route_in_words(text["prompt_route"][length].values(), experts)
            lines.append(f"  after {length:>5} tokens  " + "  ".join(cells) + f"  {route}")
    return lines
