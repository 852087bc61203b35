"""From what was measured to what each stage will need: time, memory, disk, and how each figure came about.

Goes in: the recipe, its corpus, the trials, and the manifests of stages that are finished already. Comes out: a `Need`
a stage. Nothing is measured here: figures are products of counts that the recipe asks for and of measured steps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from codechoir.artifacts import MANIFEST, Manifest, read_manifest
from codechoir.compose.config import TuneConfig
from codechoir.config import Config
from codechoir.errors import InputError
from codechoir.generate.config import TUNED, GenerateConfig
from codechoir.model.config import share_of
from codechoir.planning.curate_trial import CurateTrial
from codechoir.planning.model_trial import ModelTrial, TuneTrial, tuned_bytes
from codechoir.planning.trial import Trials
from codechoir.recipe import Recipe
from codechoir.train.config import TrainConfig

MIB = 2**20
_GROWN = 1.2  # a whole corpus's peak by a sample's, batches aside: measured on the default recipe
_FRAGMENTED = 1.3  # all branches' peak by a few steps': freed memory lies in fragments; measured on the same
_BATCHES = 4  # copies of a batch that lie in memory: as read, as judged, as cleaned, as written
_RECORD_BYTES = 2048  # of a completion, a likelihood or a verdict, about
_POSITION_BYTES = 2
_STATE_BYTES = 12  # of a trained parameter: its float32 copy and two moments, kept to resume
_PROOF_PASSES = 4  # over each language's proof text: composed and dense, for either proof
_UNIVERSAL, _TOP2, _UNIFORM = "universal", "moe-token-top2", "moe-uniform"
_AVERAGED_BYTES = 16  # of a parameter while a soup is made: two float32 models and sums in float64
_CACHE_GROWN = 2.5  # columns that a cache of keys and values makes room for when it grows, by those that it holds


@dataclass(frozen=True, slots=True)
class Need:
    """What one stage needs here. None: not known; `how` says why, or how the figures came about."""

    stage: str
    seconds: float | None
    memory: int | None  # bytes at the peak
    disk: int | None  # bytes that stay
    how: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What the needs are computed from."""

    taken_bytes: int
    trials: Trials
    num_problems: Mapping[str, int]  # of the languages whose programs are run
    program_seconds: Mapping[str, float]  # of a trivial program, by language
    no_programs: str = ""  # why there are no such seconds


def needs(recipe: Recipe, measured: Measured, out: Path) -> tuple[Need, ...]:
    """The stages' needs, in order; what a finished stage in `out` took replaces what is computed."""
    computed = (
        _curate(recipe, measured),
        *_models(recipe, measured),
        _evaluate(recipe, measured),
        Need("report", None, None, None, "not measured: it only reads what the other stages leave"),
    )
    configs: dict[str, Config] = {need.stage: getattr(recipe, need.stage) for need in computed}
    configs["generate"] = recipe.generation
    return tuple(_as_it_was(need, configs[need.stage], recipe, out) for need in computed)


def _curate(recipe: Recipe, measured: Measured) -> Need:
    trial = measured.trials.curate
    if not isinstance(trial, CurateTrial):
        return Need("curate", None, None, None, f"not measured: {trial}")
    total = measured.taken_bytes
    seconds = trial.first_seconds + total * (
        trial.gather_seconds / max(trial.num_read, 1) + trial.judge_seconds / max(trial.num_bytes, 1)
    )
    batch = min(total, recipe.curate.batch_mib * MIB)
    memory = int(_GROWN * trial.memory) + _BATCHES * max(batch - trial.num_bytes, 0)
    sample = f"a sample of {trial.num_files} files, {trial.num_bytes / MIB:.1f} MiB"
    how = (
        f"time: measured on {sample}, times {total / MIB:.1f} MiB taken; memory: measured on it, and "
        f"{_BATCHES} batches of up to {recipe.curate.batch_mib} MiB computed; disk: measured on it, thrice as much "
        "while it runs"
    )
    if recipe.curate.engine == "ray":
        how += "; on this machine alone, not the cluster"
    return Need("curate", seconds, memory, int(total * trial.written_bytes / max(trial.num_bytes, 1)), how)


def _models(recipe: Recipe, measured: Measured) -> tuple[Need, ...]:
    trial = measured.trials.models
    if not isinstance(trial, ModelTrial):
        later = ("compose", "tune", "generate") if recipe.tune else ("compose", "generate")
        needs = [Need(stage, None, None, None, "not measured, as train") for stage in later]
        return Need("train", None, None, None, f"not measured: {trial}"), *needs
    tune = (_tune(recipe, recipe.tune, trial),) if recipe.tune else ()
    return (
        _train(recipe, trial),
        _compose(recipe, trial),
        *tune,
        _generate(recipe, trial, measured.num_problems),
    )


def _train(recipe: Recipe, trial: ModelTrial) -> Need:
    """Steps times a step's time; for each branch a model's loading and writing; tokenizing, tries and measurements."""
    config, num_experts = recipe.train, len(recipe.languages)
    universal_sequences = config.expert_sequences + recipe.left_for_tuning.sequences
    packed = num_experts * recipe.packed_sequences * config.sequence_length
    trunk = _Arm(_steps(config.trunk_sequences * num_experts, config), num_experts, trial.trunk_step_seconds)
    expert = _Arm(_steps(config.expert_sequences, config), 1, trial.step_seconds)
    universal = _Arm(_steps(universal_sequences * num_experts, config), num_experts, trial.step_seconds)
    branches = (trunk, *[expert] * num_experts, universal)
    tries = [arm.tried(config) for arm in (trunk, expert, universal) for _ in config.learning_rates if arm.num_steps]
    seconds = packed / trial.tokenize_rate + (len(branches) + len(tries)) * trial.branch_seconds
    seconds += sum(arm.seconds(config, trial) for arm in (*branches, *tries))
    memory, told = _peak(trial, trial.memory, trial.device_memory)
    most = "at most, " if config.patience else ""
    tried = f", {sum(arm.num_steps for arm in tries)} more to try learning rates" if tries else ""
    checkpoints = (config.keep_checkpoints + 1) * _STATE_BYTES * trial.trained_parameters
    how = (
        f"time: {most}{sum(arm.num_steps for arm in branches)} steps{tried}, a step measured on {trial.num_steps} "
        f"({trial.step_seconds:.2g} s on the {trial.device}); one expert: {expert.num_steps} steps; "
        f"memory: measured on them, {told}; "
        f"disk: {len(branches)} models and the tokens, and up to {checkpoints / MIB:,.0f} MiB while one is trained"
    )
    disk = trial.folder_bytes + (len(branches) - 1) * trial.branch_bytes
    disk += packed * (_POSITION_BYTES + (2 if trial.vocabulary <= 2**16 else 4))
    return Need("train", seconds, memory, disk, how)


def _peak(trial: ModelTrial, memory: int, device_memory: int) -> tuple[int, str]:
    """The bytes that a stage will hold where its trial held so many, and what there is to tell of them."""
    apart = f", beside {device_memory / MIB:,.0f} MiB of the device's own" if device_memory else ""
    held = trial.first_memory + int(_FRAGMENTED * (memory - trial.first_memory))
    return held, f"and a share for fragments{apart}"


def _steps(num_sequences: int, config: TrainConfig) -> int:
    return -(-num_sequences // config.sequences_per_step)


@dataclass(frozen=True, slots=True)
class _Arm:
    """One training: its optimiser steps, the languages that are measured meanwhile, and a step's seconds."""

    num_steps: int
    num_measured: int
    step_seconds: float

    def tried(self, config: TrainConfig) -> _Arm:
        """One learning rate's try."""
        return replace(self, num_steps=share_of(config.search_share, self.num_steps))

    def seconds(self, config: TrainConfig, trial: ModelTrial) -> float:
        """Of its steps and its measurements of bits per byte."""
        measurements = -(-self.num_steps // config.validation_steps)
        tokens = measurements * self.num_measured * config.validation_documents * config.sequence_length
        return self.num_steps * self.step_seconds + tokens / trial.score_rate


def _compose(recipe: Recipe, trial: ModelTrial) -> Need:
    config, num_experts = recipe.compose, len(recipe.languages)
    sequences = (config.fit_sequences + config.calibration_sequences) * config.sequence_length
    tokens = num_experts * (sequences + _PROOF_PASSES * config.proof_tokens)
    loads = (
        3 * num_experts + 2
    )  # the experts joined for the fit, joined again as written, and one by one for the proofs
    seconds = tokens / trial.score_rate + loads * trial.load_seconds + config.prompt_documents * trial.router_seconds
    added = (num_experts - 1 + config.generalist) * trial.feed_forward
    disk = trial.folder_bytes + added * 2 + num_experts * trial.moment_bytes
    # The embeddings and a layer at a time, in float32, and the states that the routers are fitted on.
    working = 4 * trial.parameters
    how = (
        f"time: computed from the measured scoring of {tokens:,} tokens, {loads} loads and the prompt router's fit; "
        "memory: at most one float32 model, as layers come one by one; disk: computed, with the moments"
    )
    return Need("compose", seconds, trial.first_memory + working, disk, how)


def _tune(recipe: Recipe, config: TuneConfig, trial: ModelTrial) -> Need:
    """Steps as one was measured, else tokens at training's speed; validations' at scoring's, by the experts passed."""
    num_experts = len(recipe.languages)
    work = _work(min(config.top_k or recipe.compose.top_k, num_experts), trial)
    tokens = config.steps * config.sequences_per_language * num_experts * config.sequence_length
    if isinstance(tried := trial.tune, TuneTrial):
        seconds = config.steps * tried.step_seconds
        memory, told = _peak(trial, tried.memory, tried.device_memory)
        told = (
            f"time: steps as a measured one ({tried.step_seconds:.2g} s), {tokens:,} tokens tuned on; "
            f"memory: measured on it, {told}"
        )
    else:
        seconds = tokens * work * trial.step_seconds / (recipe.train.sequences_per_step * recipe.train.sequence_length)
        seconds += tokens / trial.score_rate if config.distillation_weight else 0
        held = tuned_bytes(recipe, config, trial.parameters, trial.feed_forward, trial.number_bytes)
        logits = num_experts * config.sequence_length * trial.vocabulary * 4 * 4 if config.distillation_weight else 0
        memory = trial.first_memory + held + logits
        told = (
            f"no step was tried: {tried}; time: computed from measured steps of training and scoring, {tokens:,} "
            "tokens tuned on; memory: computed, without what a forward pass keeps for its gradients"
        )
    # The oracle and uniform routing, at step 0 and, where experts have moved, at the best step.
    controls = (2 if config.moves_experts else 1) * (1 + _work(_held(recipe), trial))
    validations = 1 + -(-config.steps // config.validate_every)
    validated = config.validation_sequences * num_experts * config.sequence_length
    seconds += validated * (controls + validations * work) / trial.score_rate + trial.load_seconds
    experts = _held(recipe) * trial.feed_forward
    moved = experts if config.moves_experts else 0
    state = _STATE_BYTES * (moved + (trial.feed_forward if config.own_rate is not None else 0))
    how = f"{told}; disk: computed, and {state / MIB:,.0f} MiB while it runs"
    return Need("tune", seconds, memory, trial.folder_bytes + 2 * (experts - trial.feed_forward), how)


def _generate(recipe: Recipe, trial: ModelTrial, num_problems: Mapping[str, int]) -> Need:
    config, num_experts = recipe.generation, len(recipe.languages)
    tuned_top_k = min((recipe.tune and recipe.tune.top_k) or recipe.compose.top_k, num_experts)
    active = {_TOP2: 2, _UNIFORM: _held(recipe), TUNED: tuned_top_k}
    scored = num_experts * config.held_out_documents
    score_seconds = scored * config.held_out_tokens / trial.score_rate
    seconds, num_scored, num_completed = 0.0, 0, 0
    for choice in config.score:
        copies = num_experts if choice == "experts" else 1
        seconds += copies * _work(active.get(choice, 1), trial) * score_seconds
        num_scored += copies * scored
    for choice in config.complete:
        for name, count in num_problems.items():  # an expert completes its own language alone
            tasks = count * config.num_samples
            batches = -(-tasks // config.batch_size)
            prompts = trial.prompt_tokens.get(name, 0) / trial.score_rate
            new = batches * config.max_tokens * trial.complete_seconds
            seconds += _work(active.get(choice, 1), trial) * (prompts + new)
            num_completed += tasks
    infills = config.infill if config.infilling_documents else ()
    num_filled = num_experts * config.infilling_documents  # by a model, or by all the experts together
    batches = num_experts * -(-config.infilling_documents // config.batch_size)
    for choice in infills:
        reading = num_filled * config.held_out_tokens / trial.score_rate
        writing = batches * config.max_tokens * trial.complete_seconds
        seconds += _work(active.get(choice, 1), trial) * (reading + writing)
    chosen = set(config.score) | set(config.complete) | set(infills)
    seconds += (len(chosen) + (num_experts - 1) * ("experts" in chosen)) * trial.load_seconds
    memory = trial.first_memory + _generating_bytes(config, _held(recipe), num_problems, trial)
    how = (
        f"time: at most, from measured steps: {num_scored} files scored, {num_completed} completions and "
        f"{num_filled * len(infills)} infillings of {config.max_tokens} tokens, most of which stop before; memory: "
        "computed, at most: the composed model and its keys and values, or the average of experts; disk: computed"
    )
    num_records = num_scored + num_completed + num_filled * len(infills)
    return Need("generate", seconds, memory, num_records * _RECORD_BYTES, how)


def _generating_bytes(
    config: GenerateConfig, num_experts: int, num_problems: Mapping[str, int], trial: ModelTrial
) -> int:
    """The composed model with logits, or with the keys and values of a batch; or a soup while it is made."""
    infills = config.infill if config.infilling_documents else ()
    prompts = [-(-trial.prompt_tokens.get(name, 0) // (n * config.num_samples)) for name, n in num_problems.items()]
    begun = [*(prompts if config.complete else ()), *([config.held_out_tokens] if infills else ())]
    columns = max(begun) + config.max_tokens if begun else 0
    cache = int(_CACHE_GROWN * config.batch_size * columns * trial.cache_bytes)
    logits = trial.vocabulary * 8
    working = max(config.score_batch_size * config.held_out_tokens * logits, config.batch_size * logits + cache)
    parameters = trial.parameters + (num_experts - 1) * trial.feed_forward
    is_averaged = any("soup" in role for role in (config.score, config.complete, infills))
    return max(trial.number_bytes * parameters + working, _AVERAGED_BYTES * trial.parameters if is_averaged else 0)


def _held(recipe: Recipe) -> int:
    """Experts in the composed model: one a language, and the generalist where it is one."""
    return len(recipe.languages) + recipe.compose.generalist


def _work(active: int, trial: ModelTrial) -> float:
    """The work of a token that passes so many experts, by that in the dense model: active parameters."""
    return 1 + (active - 1) * trial.feed_forward / trial.parameters


def _evaluate(recipe: Recipe, measured: Measured) -> Need:
    config, generate = recipe.evaluate, recipe.generation
    workers = config.workers or len(os.sched_getaffinity(0))
    seconds, num_programs = 0.0, 0
    for name, count in measured.num_problems.items():
        completions = len(generate.complete) * count * generate.num_samples
        seconds += completions * measured.program_seconds.get(name, 0.0) / workers
        num_programs += completions
    memory = workers * config.memory_mib * MIB
    how = (
        f"time: {num_programs} programs, as trivial ones took, {workers} at once; one that does not end takes "
        f"{config.cpu_seconds} s; memory: at most, the programs' limits; disk: computed"
    )
    if measured.no_programs and num_programs:
        return Need("evaluate", None, memory, num_programs * _RECORD_BYTES, f"not measured: {measured.no_programs}")
    return Need("evaluate", seconds, memory if num_programs else 0, num_programs * _RECORD_BYTES, how)


def _as_it_was(need: Need, config: Config, recipe: Recipe, out: Path) -> Need:
    """The need with the seconds that the finished stage took, where it is there with the same settings."""
    folder, languages = out / need.stage, recipe.languages
    folders = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}")) if need.stage == "train" else [folder]
    more = {"tuned_sequences": recipe.left_for_tuning.sequences} if recipe.left_for_tuning.sequences else {}
    manifests = [finished_stage(one, config, languages, more if one.name == _UNIVERSAL else {}) for one in folders]
    expected = len(languages) + 2 if need.stage == "train" else 1
    seconds = [manifest.seconds for manifest in manifests if manifest is not None]
    if len(seconds) < expected:
        return need
    told = "unknown before" if need.seconds is None else f"{need.seconds:.0f} s expected from what is measured now"
    return replace(
        need, seconds=sum(seconds), how=f"time: what the finished stage in {folder} took ({told}); {need.how}"
    )


def finished_stage(
    folder: Path, config: Config, languages: Sequence[str], more: Mapping[str, Any] = MappingProxyType({})
) -> Manifest | None:
    """The manifest of a stage that was finished with these settings, whatever its inputs were; else None.

    `more`: settings that stand in its manifest beside those of `config`.
    """
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = read_manifest(folder)
    except InputError:
        return None
    now: dict[str, Any] = {**config.model_dump(mode="json"), "languages": languages, "experts": languages, **more}
    is_same = all(_same(value, now.get(name)) for name, value in manifest.config.items())
    return manifest if is_same and more.keys() <= manifest.config.keys() else None


def _same(then: object, now: object) -> bool:
    """Whether two settings are equal; languages may stand in any order."""
    if isinstance(then, list) and isinstance(now, list | tuple) and all(isinstance(one, str) for one in then):
        return sorted(then) == sorted(map(str, now))
    return then == now
