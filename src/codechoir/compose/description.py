"""A plan in numbers and words: what will be read and written, how large the model is, what it takes to load it.

In: a plan. Out: plain values, for `--dry-run` and the manifest. Knows sizes from headers alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from codechoir.compose.config import ComposeConfig
from codechoir.compose.moments import MOMENTS_TENSORS, moment_bytes
from codechoir.compose.plan import Part, Plan
from codechoir.languages import GENERALIST
from codechoir.model.checkpoint import TOKENIZER_FILES
from codechoir.model.prompt_router import BUCKETS
from codechoir.model.streaming import plan_shards


def parameters(plan: Plan) -> dict[str, Any]:
    """The composed model's parameters in all, and those that one token passes by how it is routed."""
    sizes = dict.fromkeys(Part, 0)
    for output in plan.outputs:
        sizes[output.part] += prod(output.tensor.shape)
    shared, routers, num_experts = sizes[Part.SHARED], sizes[Part.ROUTER], len(plan.experts)
    one = sizes[Part.EXPERTS] // num_experts
    return {
        "total_parameters": sum(sizes.values()),
        "active_parameters": {
            "dense": shared + one,
            "top1": shared + one + routers,
            "top2": shared + 2 * one + routers,
            "uniform": shared + num_experts * one,
        },
    }


def describe(plan: Plan, out: Path, config: ComposeConfig, *, fitted: bool = True) -> dict[str, Any]:
    """All that a plan decides, as JSON can hold it; sizes are bytes. Moments are written where routers are `fitted`."""
    shards = plan_shards([output.tensor for output in plan.outputs], config.shard_bytes)
    weights = sum(shard.num_bytes for shard in shards)
    numbers = parameters(plan)
    return {
        "family": plan.trunk.family.model_type,
        "form": plan.form,
        "why": plan.why,
        "layers": list(plan.layers),
        "num_layers": plan.trunk.decoder.num_layers,
        "shared": plan.shared,
        "own_share": config.own_share,
        "experts": {
            name: {"kind": expert.kind, "folder": str(expert.folder), "tensors": len(expert.files)}
            for name, expert in plan.experts.items()
        },
        "special_tokens": plan.special_tokens,
        "left_out": left_out(plan),
        "reads": [{"file": str(path), "bytes": path.stat().st_size} for path in _sources(plan)],
        "writes": [{"file": str(out / shard.file), "bytes": shard.num_bytes} for shard in shards]
        + [{"file": str(out / name), "bytes": size} for name, size in _beside(plan, fitted).items()],
        **numbers,
        "memory_to_load": {
            "as_stored": weights,
            "float32": 4 * numbers["total_parameters"],
            "dense_as_stored": sum(prod(spec.shape) * spec.dtype.itemsize for spec in plan.trunk.specs.values()),
        },
    }


def left_out(plan: Plan) -> dict[str, str]:
    """The tensors of the sources that are not written, and why."""
    trunk, found = plan.trunk, {}
    opened = [trunk.tensors, *(expert.weights for expert in plan.experts.values() if expert.weights)]
    for tensors in opened:
        for name in tensors.files:
            if name in trunk.names.tied:
                found[name] = f"tied to {trunk.names.tied[name]}"
            elif name not in trunk.specs:
                found[name] = "computed by the model"
    return found


def _sources(plan: Plan) -> list[Path]:
    files = set(plan.trunk.tensors.files.values())
    for expert in plan.experts.values():
        held = expert.weights or (expert.adapter.weights if expert.adapter else None)
        files |= set(held.files.values()) if held else set()
    return sorted(files)


def _beside(plan: Plan, fitted: bool) -> Mapping[str, int]:
    """What is written beside the weights, by size: the prompt router's table, the moments and the tokenizer."""
    files = {"routing.safetensors": 4 * BUCKETS * len(plan.experts) + plan.trunk.decoder.vocabulary}
    if fitted:
        num_languages = len(plan.experts.keys() - {GENERALIST})
        files[MOMENTS_TENSORS] = num_languages * moment_bytes(len(plan.layers), plan.trunk.decoder.width)
    folder = plan.trunk.folder
    return files | {name: (folder / name).stat().st_size for name in TOKENIZER_FILES if (folder / name).exists()}


def as_text(told: Mapping[str, Any]) -> str:
    """The description for people."""
    active, memory = told["active_parameters"], told["memory_to_load"]
    lines = [f"family   {told['family']}, {told['num_layers']} layers, {len(told['layers'])} of them with experts"]
    lines += [f"format   {told['form']}: {told['why']}"]
    lines += [f"expert   {name}: {each['kind']} in {each['folder']}" for name, each in told["experts"].items()]
    if told["own_share"] < 1:
        lines += [f"blend    of each expert {told['own_share']:g} as trained, the rest the average of all"]
    lines += [f"shared   {told['shared']}"]
    for name, keys in told["special_tokens"].items():
        lines += [
            f"token    {key}: {name} has {each['expert']!r}, the base {each['base']!r}" for key, each in keys.items()
        ]
    lines += [f"left out {name}: {why}" for name, why in told["left_out"].items()]
    for part, verb in (("reads", "read"), ("writes", "write")):
        lines += [f"{verb:8} {_size(each['bytes']):>9}  {each['file']}" for each in told[part]]
        lines += [f"{verb:8} {_size(sum(each['bytes'] for each in told[part])):>9}  in all"]
    lines += [
        f"size     {told['total_parameters']:,} parameters; a token passes {active['dense']:,} with a fixed route, "
        f"{active['top1']:,} top-1, {active['top2']:,} top-2, {active['uniform']:,} through all experts",
        f"memory   {_size(memory['as_stored'])} to load as stored, {_size(memory['float32'])} in float32 "
        f"(the dense base: {_size(memory['dense_as_stored'])})",
    ]
    return "\n".join(lines)


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.2f} GB"
