"""Tuning a composed model by gradient: its token routers, its experts, or the whole of both.

In: a composed folder of either form, and curate's documents or what training has left of its sequences. Out: a composed
folder of the same form with the best step's weights, which may be the source's own: the manifest says so. Knows nothing
of how the model was composed.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codechoir.artifacts import Manifest, StageFolder
from codechoir.compose.config import TuneConfig
from codechoir.compose.provenance import own_share, recorded
from codechoir.compose.tuning.experts import BACKEND
from codechoir.compose.tuning.loop import Loop, Outcome, Subject, best_weights, remove_state, set_weights
from codechoir.compose.tuning.measure import MEAN, NextTokenLoss, Validation, load_facts, validate
from codechoir.compose.tuning.texts import TuneTexts, read_left, read_tune_texts
from codechoir.compose.tuning.watch import Watch
from codechoir.compose.tuning.writing import Slice, tuned_slices, write_tuned
from codechoir.config import digest_of
from codechoir.console import say
from codechoir.errors import ConfigError, InputError
from codechoir.languages import GENERALIST
from codechoir.model.checkpoint import load_tokenizer, model_config
from codechoir.model.compilation import pays_to_compile
from codechoir.model.device import compute_device, compute_dtype, memory_full_told
from codechoir.model.families import check_length, context_length
from codechoir.model.moe import (
    ROUTING_JSON,
    Composed,
    Routing,
    active_parameters,
    is_router,
    load_composed,
    open_composed,
)
from codechoir.model.routing_gap import recovered
from codechoir.model.token_shards import LeftSequences

VERSION = 6
_CONTROLS = {"uniform": Routing.UNIFORM, "oracle": Routing.FIXED}


@dataclass(frozen=True, slots=True)
class TuneInputs:
    """The composed folder, curate's documents, and the digests that stand for them.

    `left`: what training has left of its sequences, to read in the documents' place.
    """

    model: Path
    documents: Path
    digests: Mapping[str, str]
    left: LeftSequences | None = None


@memory_full_told("shorten the sequences, or tune the routers alone, and run again")
def tune(config: TuneConfig, inputs: TuneInputs, out: Path) -> Manifest:
    """Tunes into `out` and returns the manifest.

    Raises InputError for a folder that is not composed, routers that stay and were never fitted, too little text, or a
    loss that is not finite; ConfigError for more experts a token than there are, or longer sequences than the model has
    positions for; MemoryFullError.
    """
    if out.resolve() == inputs.model.resolve():
        raise InputError("a model is not tuned in its own folder", seen=out, next_step="give another --out")
    settings = config.model_dump(mode="json", exclude={"checkpoint_seconds"})
    digests = dict(inputs.digests)
    if inputs.left is not None:
        digests["left"] = digest_of(dict(inputs.left.first))
    folder = StageFolder(out, "tune", VERSION, settings, digests)
    if finished := folder.finished():
        return finished
    composed = _open(inputs.model)
    top_k = _top_k(composed, config)
    if not config.moves_routers:
        _check_routers_are_fitted(composed)
    context = context_length(model_config(composed.dense_config, inputs.model))
    check_length("tune.sequence_length", config.sequence_length, context)
    languages = _languages(composed)
    if inputs.left is None:
        texts = read_tune_texts(inputs.documents, languages, load_tokenizer(inputs.model), config)
    else:
        texts = read_left(inputs.left, languages, config)
    folder.begin()
    slices = tuned_slices(composed, config)
    subject = open_subject(composed, slices, top_k, config)
    outcome = Loop(subject, texts, config, folder).run()
    tuned = best_weights(outcome, out)
    controls = _controls(subject, outcome, tuned, texts)
    facts = _facts(composed, config, (subject, texts), outcome, controls)
    del subject
    gc.collect()  # a model of transformers holds itself; what follows needs its memory
    write_tuned(composed, tuned, slices, top_k, out)
    facts["own_share"] = own_share(inputs.model)
    if told := recorded(inputs.model):
        facts["made_of"] = told
    remove_state(out)
    if not outcome.best_step:
        say("tune: no step was better than the model as it was, whose weights are written")
    return folder.finish(facts)


def _open(model: Path) -> Composed:
    if not (model / ROUTING_JSON).exists():
        raise InputError(
            "not a composed model",
            seen=f"{model} has no {ROUTING_JSON}",
            next_step="give a folder that codechoir compose, expert or tune has written",
        )
    return open_composed(model)


def _languages(composed: Composed) -> list[str]:
    """The experts that have a language."""
    return [name for name in composed.experts if name != GENERALIST]


def _top_k(composed: Composed, config: TuneConfig) -> int:
    """Experts a token."""
    top_k = config.top_k or int(composed.checkpoint.config["num_experts_per_tok"])
    if top_k > len(composed.experts):
        raise ConfigError("more experts a token than there are", seen=top_k, allowed=f"1 to {len(composed.experts)}")
    return top_k


def _check_routers_are_fitted(composed: Composed) -> None:
    for layer in composed.layers():
        weight_ED = composed.checkpoint.read(composed.router(layer))
        if len(weight_ED) > 1 and bool((weight_ED == weight_ED[0]).all()):
            raise InputError(
                "the token routers have not been fitted, so one expert alone would be tuned",
                seen=composed.checkpoint.folder,
                next_step="compose with --documents, or set what=whole",
            )


def open_subject(composed: Composed, slices: Mapping[str, Slice], top_k: int, config: TuneConfig) -> Subject:
    """The model, loaded, and what of it moves."""
    dtype = compute_dtype(config.precision)
    model = load_composed(composed.checkpoint.folder, Routing.TOKEN, top_k, dtype).to(compute_device())
    model.set_experts_implementation(BACKEND)
    specs = composed.checkpoint.specs()
    formats = {each.parameter: specs[name].dtype for name, each in slices.items()}
    parameters = dict(model.named_parameters())
    moving = {name: parameters[name] for name in formats}
    return Subject(model, NextTokenLoss(model), moving, formats, top_k, _is_compiled(composed, top_k, config))


def _is_compiled(composed: Composed, top_k: int, config: TuneConfig) -> bool:
    sequences = config.steps * config.sequences_per_language * len(_languages(composed))
    return pays_to_compile(active_parameters(composed, Routing.TOKEN, top_k), sequences * config.sequence_length)


def _controls(subject: Subject, outcome: Outcome, tuned: Mapping[str, Any], texts: TuneTexts) -> dict[str, Validation]:
    """Uniform and oracle routing at the best step: as before where no expert has moved."""
    if all(map(is_router, tuned)):
        return {name: outcome.before[routing] for name, routing in _CONTROLS.items()}
    set_weights(subject, tuned)
    watch = Watch(subject.model)
    return {
        name: validate(subject.loss_of, watch, routing, subject.top_k, texts.validation)
        for name, routing in _CONTROLS.items()
    }


def _facts(
    composed: Composed,
    config: TuneConfig,
    used: tuple[Subject, TuneTexts],
    outcome: Outcome,
    controls: Mapping[str, Validation],
) -> dict[str, Any]:
    """What the manifest tells. Losses are nats a token on validation text."""
    subject, texts = used
    assert outcome.best is not None
    before = {name: outcome.before[routing] for name, routing in _CONTROLS.items()}
    sides = {
        "before": before | {"token": outcome.before[Routing.TOKEN]},
        "after": {**controls, "token": outcome.best},
    }
    step_tokens = len(texts.languages) * config.sequences_per_language * config.sequence_length
    read = len(outcome.losses) * step_tokens
    facts: dict[str, Any] = {
        "experts": list(composed.experts),
        "what": config.what,
        "top_k": subject.top_k,
        "best_step": outcome.best_step,
        "steps": len(outcome.losses),
        "weights": "tuned" if outcome.best_step else "the source's: no step was better",
        "tokens": outcome.best_step * step_tokens,  # that the kept weights have learned from
        "tokens_read": read,
        "tokens_per_second": round(read / outcome.seconds, 1),
        "tuned_parameters": sum(parameter.numel() for parameter in subject.parameters.values()),
        "learning_rate": config.learning_rate,
        "precision": str(compute_dtype(config.precision)).removeprefix("torch."),
        "device": subject.model.device.type,
        "validation_tokens": {name: each.tokens_NT.numel() for name, each in texts.validation.items()},
        "losses": {
            side: {name: _rounded(each.losses) for name, each in found.items()} for side, found in sides.items()
        },
        "recovered": {side: _recovered(found) for side, found in sides.items()},
        "load": {},
        "dead_experts": {},
    }
    for side, found in sides.items():
        counts_LE = found["token"].counts_LE
        assert counts_LE is not None
        shares, dead = load_facts(counts_LE, composed.layers(), composed.experts)
        facts["load"][side], facts["dead_experts"][side] = shares, dead
    facts["curve"] = {
        "training": [[step + 1, *losses] for step, losses in enumerate(outcome.losses)],
        "validation": outcome.curve,
    }
    return facts


def _recovered(found: Mapping[str, Validation]) -> dict[str, float | None]:
    """The share of the gap from uniform to oracle by language and on the mean."""
    names = [*(name for name in found["token"].losses if name != MEAN), MEAN]
    shares = {
        name: recovered(*(found[routing].losses[name] for routing in ("uniform", "oracle", "token"))) for name in names
    }
    return {name: None if share is None else round(share, 4) for name, share in shares.items()}


def _rounded(losses: Mapping[str, float]) -> dict[str, float]:
    return {name: round(loss, 5) for name, loss in losses.items()}
