"""Writes a composed model as others read it, reads it back, compares, and tells the figures in its manifest.

In: a composed folder and a request. Out: a folder with the weights, README.md and manifest.json, the last written last;
whatever is refused on the way leaves no weights. Which formats there are is the table `FORMATS`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, Literal

import torch

from codechoir.artifacts import (
    UNFINISHED,
    Manifest,
    StageFolder,
    disk_full_told,
    file_sha256,
    state_of_folder,
    write_atomically,
)
from codechoir.compose.export.card import Card
from codechoir.compose.export.comparison import (
    EXACT_BOUND,
    TEXT,
    Comparison,
    compare_folder,
    compare_gguf,
    compare_own,
    compare_peft,
    source_logits,
    tokens_of,
)
from codechoir.compose.export.gguf_file import GgufPlan, Quantise, plan_gguf, write_gguf
from codechoir.compose.export.peft_adapter import AdapterPlan, plan_peft, write_adapter
from codechoir.compose.export.scores import read_card_scores, scores_beside
from codechoir.compose.export.source import Source, open_source
from codechoir.compose.export.targets import Target, plan_dense, plan_mixtral, plan_own, plan_qwen2_moe
from codechoir.compose.moments import MOMENTS_JSON, MOMENTS_TENSORS
from codechoir.compose.provenance import facts_of, own_share, recorded
from codechoir.console import say
from codechoir.errors import ConfigError, InputError, UserError
from codechoir.model.checkpoint import CHECKSUMS, load_tokenizer
from codechoir.model.licences import README, copy_licence_files
from codechoir.model.moe import copy_modelling_files, write_routing
from codechoir.model.streaming import SHARD_BYTES, check_room, plan_shards, verify, write_streaming
from codechoir.records import Score

VERSION = 2
Format = Literal["mixtral", "qwen2_moe", "gguf", "dense", "peft", "hf"]
_PLANS: Mapping[Format, Callable[[Source, str | None], Target]] = {
    "mixtral": lambda source, _: plan_mixtral(source),
    "qwen2_moe": lambda source, _: plan_qwen2_moe(source),
    "dense": plan_dense,
    "hf": lambda source, _: plan_own(source),
}
FORMATS: tuple[Format, ...] = (*_PLANS, "gguf", "peft")
_Planned = GgufPlan | AdapterPlan | Target


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """`expert` goes with `dense` and `peft`, `quantise` with `gguf`, `base` and `rank` with `peft`.

    Without `compare` the figures are left out. `scores` is the evaluate stage's file for the card; by default that of
    the run that the model is part of.
    """

    format: Format
    expert: str | None = None
    quantise: Quantise = "f16"
    compare: bool = True
    text: str = TEXT
    shard_bytes: int = SHARD_BYTES
    base: Path | None = None
    rank: int | None = None
    scores: Path | None = None


def export(model: Path, request: ExportRequest, out: Path) -> Manifest:
    """Exports into `out`. Raises IncompatibleModelError where the format cannot hold the model, before it writes."""
    source = open_source(model)
    planned = _plan(source, request)
    request, scores = _with_scores(model, request)
    inputs = {"model": state_of_folder(model)}
    if request.base:
        inputs["base"] = state_of_folder(request.base)
    if request.scores:
        inputs["scores"] = file_sha256(request.scores)
    told = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(request).items()}
    folder = StageFolder(out, "export", VERSION, told, inputs)
    if finished := folder.finished():
        return finished
    if (model / CHECKSUMS).exists():
        verify(model)
    folder.begin()
    try:
        facts = _write(source, request, planned, out)
        _describe(source, request, planned, _Written(out, facts, scores))
    except UserError:
        for path in out.iterdir():  # what is refused leaves nothing but the note of its run
            if path.is_file() and path.name != UNFINISHED:
                path.unlink()
        raise
    return folder.finish(facts)


def _with_scores(model: Path, request: ExportRequest) -> tuple[ExportRequest, list[Score]]:
    """The request with the scores' file, and the scores; those beside the model are left out where they do not tell."""
    is_tuned = "tuned_parameters" in facts_of(model)
    if request.scores:
        return request, read_card_scores(request.scores, request.expert, is_tuned)
    if request.expert and own_share(model) < 1:
        say("export: the card is without scores: experts were scored as trained, and are composed nearer to each other")
        return request, []
    if found := scores_beside(model):
        try:
            return replace(request, scores=found), read_card_scores(found, request.expert, is_tuned)
        except InputError as error:
            say(f"export: the card is without scores: {error}")
    return request, []


def _plan(source: Source, request: ExportRequest) -> _Planned:
    """Decides and checks all that headers tell."""
    if request.expert is not None and request.format not in ("dense", "peft"):
        raise ConfigError("an expert is chosen for dense and peft", seen=f"{request.expert} for {request.format}")
    if request.format == "gguf":
        return plan_gguf(source, request.quantise)
    if request.format == "peft":
        return plan_peft(source, request.expert, request.rank, request.base)
    return _PLANS[request.format](source, request.expert)


def _write(source: Source, request: ExportRequest, planned: _Planned, out: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"format": request.format, "experts": list(source.experts), "expert": request.expert}
    facts["made_of"], facts["own_share"] = recorded(source.folder), own_share(source.folder)
    say(f"export: writing {request.format} into {out}")
    if isinstance(planned, GgufPlan):
        check_room(out, planned.num_bytes)
        path = write_gguf(planned, out, out.resolve().name)
        facts["splitting_rule"] = planned.tokenizer.rule
        facts["kept_in_f16"] = planned.unquantised()
        facts["checksums"] = {path.name: file_sha256(path)}
    elif isinstance(planned, AdapterPlan):
        facts |= write_adapter(planned, out)
    else:
        if request.format == "hf":
            copy_modelling_files(out)
            router = source.composed.prompt_router
            write_routing(out, dict(source.composed.dense_config), source.experts, router)
            for name in (MOMENTS_TENSORS, MOMENTS_JSON):  # with them the exported folder can grow as its source can
                if (source.folder / name).exists():
                    with disk_full_told(out):
                        shutil.copyfile(source.folder / name, out / name)
        shards = plan_shards(planned.tensors, request.shard_bytes)
        checksums = write_streaming(out, planned.config, shards, lambda name: planned.values[name](), source.folder)
        facts["checksums"] = checksums
    return facts | (_figures(source, request, planned, out) if request.compare else {})


@dataclass(frozen=True, slots=True)
class _Written:
    """An export's folder, its figures, and its model's scores."""

    out: Path
    facts: Mapping[str, Any]
    scores: Sequence[Score]


def _describe(source: Source, request: ExportRequest, planned: _Planned, written: _Written) -> None:
    """Writes what goes with the weights: licence texts, the card, Ollama's Modelfile."""
    out = written.out
    copy_licence_files(source.folder, out)
    file = planned.file if isinstance(planned, GgufPlan) else None
    card = Card(source, out.resolve().name, request.format, request.expert, file, written.facts, written.scores)
    write_atomically(out / README, card.text())
    if file:
        write_atomically(out / "Modelfile", card.modelfile(load_tokenizer(source.folder).eos_token))


def _figures(source: Source, request: ExportRequest, planned: _Planned, out: Path) -> dict[str, Any]:
    """What the manifest tells of the comparison. Raises ProofError."""
    say("export: reading it back and comparing logits")
    tokens = tokens_of(source, request.text)
    expected = source_logits(source, tokens, request.expert)
    if isinstance(planned, GgufPlan):
        compared, tensors = compare_gguf(out / planned.file, source, tokens, expected, planned.quantise)
        return {"logits": _told(compared), "tensors": tensors}
    if isinstance(planned, AdapterPlan):
        exact = planned.rank is None and all(spec.dtype is torch.float32 for spec in source.shared.values())
        bound = EXACT_BOUND if exact else inf  # narrower weights were rounded after the change
        return {"logits": _told(compare_peft(out, planned.base_model(), tokens, expected, bound))}
    compare = compare_own if request.format == "hf" else compare_folder
    return {"logits": _told(compare(out, tokens, expected))}


def _told(comparison: Comparison) -> dict[str, Any]:
    return asdict(comparison) | {"relative": comparison.relative}
