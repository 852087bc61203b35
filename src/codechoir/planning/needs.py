"""From what was measured to what each stage will need: time, memory, disk, and how each figure came about.

Goes in: the recipe, its corpus, the trials, and the manifests of stages that are finished already. Comes out: a `Need`
a stage. Nothing is measured here: figures are products of counts that the recipe asks for and of measured steps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codechoir.artifacts import MANIFEST, Manifest, read_manifest
from codechoir.config import Config
from codechoir.errors import InputError
from codechoir.generate.config import ModelChoice
from codechoir.planning.curate_trial import CurateTrial
from codechoir.planning.model_trial import ModelTrial
from codechoir.planning.trial import Trials
from codechoir.recipe import Recipe

MIB = 2**20
_GROWN = 1.2  # a whole corpus's peak by a sample's, batches aside: measured on the default recipe
_BATCHES = 4  # copies of a batch that lie in memory: as read, as judged, as cleaned, as written
_RECORD_BYTES = 2048  # of a completion, a likelihood or a verdict, about
_STATE_BYTES = 12  # of a trained parameter: its float32 copy and two moments, kept to resume
_PROOF_PASSES = 4  # over each language's proof text: composed and dense, for either proof
_TOP2, _UNIFORM = "moe-token-top2", "moe-uniform"


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
    return tuple(_as_it_was(need, configs[need.stage], recipe.languages, out) for need in computed)


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


def _models(recipe: Recipe, measured: Measured) -> tuple[Need, Need, Need]:
    trial = measured.trials.models
    if not isinstance(trial, ModelTrial):
        compose, generate = (
            Need(stage, None, None, None, "not measured, as train") for stage in ("compose", "generate")
        )
        return Need("train", None, None, None, f"not measured: {trial}"), compose, generate
    return _train(recipe, trial), _compose(recipe, trial), _generate(recipe, trial, measured.num_problems)


def _train(recipe: Recipe, trial: ModelTrial) -> Need:
    """Steps times a step's time, and for each branch the time of a model's loading and writing."""
    config, num_experts = recipe.train, len(recipe.languages)

    def steps(num_sequences: int) -> int:
        return -(-num_sequences // config.sequences_per_step)

    trunk = steps(config.trunk_sequences * num_experts)
    expert = steps(config.expert_sequences)
    universal = steps(config.expert_sequences * num_experts)
    others = expert * num_experts + universal
    branches = num_experts + 2
    seconds = trunk * trial.trunk_step_seconds + others * trial.step_seconds + branches * trial.branch_seconds
    memory = "memory: measured" if trial.device == "cpu" else "memory: measured, without the device's own"
    trained = trial.parameters if config.trainable == "all" else trial.feed_forward
    how = (
        f"time: {trunk + others} steps, a step measured on {trial.num_steps} ({trial.step_seconds:.2g} s on the "
        f"{trial.device}); one expert: {expert} steps; {memory}; disk: {branches} models, "
        f"and {_STATE_BYTES * trained / MIB:,.0f} MiB while one is trained"
    )
    return Need("train", seconds, trial.memory, branches * trial.folder_bytes, how)


def _compose(recipe: Recipe, trial: ModelTrial) -> Need:
    config, num_experts = recipe.compose, len(recipe.languages)
    sequences = (config.fit_sequences + config.calibration_sequences) * config.sequence_length
    tokens = num_experts * (sequences + _PROOF_PASSES * config.proof_tokens)
    loads = (
        3 * num_experts + 2
    )  # the experts joined for the fit, joined again as written, and one by one for the proofs
    seconds = tokens / trial.score_rate + loads * trial.load_seconds + config.prompt_documents * trial.router_seconds
    added = (num_experts - 1) * trial.feed_forward
    # The embeddings and a layer at a time, in float32, and the states that the routers are fitted on.
    working = 4 * trial.parameters
    how = (
        f"time: computed from the measured scoring of {tokens:,} tokens, {loads} loads and the prompt router's fit; "
        "memory: at most one float32 model, as layers come one by one; disk: computed"
    )
    return Need("compose", seconds, trial.first_memory + working, trial.folder_bytes + added * 2, how)


def _generate(recipe: Recipe, trial: ModelTrial, num_problems: Mapping[str, int]) -> Need:
    config, num_experts = recipe.generate, len(recipe.languages)
    scored = num_experts * config.held_out_documents
    score_seconds = scored * config.held_out_tokens / trial.score_rate
    seconds, num_scored, num_completed = 0.0, 0, 0
    for choice in config.score:
        copies = num_experts if choice == "experts" else 1
        seconds += copies * _cost(choice, trial, num_experts) * score_seconds
        num_scored += copies * scored
    for choice in config.complete:
        for name, count in num_problems.items():  # an expert completes its own language alone
            tasks = count * config.num_samples
            batches = -(-tasks // config.batch_size)
            prompts = trial.prompt_tokens.get(name, 0) / trial.score_rate
            new = batches * config.max_tokens * trial.complete_seconds
            seconds += _cost(choice, trial, num_experts) * (prompts + new)
            num_completed += tasks
    chosen = set(config.score) | set(config.complete)
    seconds += (len(chosen) + (num_experts - 1) * ("experts" in chosen)) * trial.load_seconds
    moe = trial.parameters + (num_experts - 1) * trial.feed_forward
    memory = trial.first_memory + trial.number_bytes * moe
    memory += max(config.score_batch_size * config.held_out_tokens, config.batch_size) * trial.vocabulary * 8
    how = (
        f"time: at most, from measured steps: {num_scored} files scored, {num_completed} completions of "
        f"{config.max_tokens} tokens, most of which stop before; memory: computed, the composed model; disk: computed"
    )
    return Need("generate", seconds, memory, (num_scored + num_completed) * _RECORD_BYTES, how)


def _cost(choice: ModelChoice, trial: ModelTrial, num_experts: int) -> float:
    """The work of a token in a model, by that in the dense one: its active parameters."""
    active = {_TOP2: 2, _UNIFORM: num_experts}.get(choice, 1)
    return 1 + (active - 1) * trial.feed_forward / trial.parameters


def _evaluate(recipe: Recipe, measured: Measured) -> Need:
    config, generate = recipe.evaluate, recipe.generate
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


def _as_it_was(need: Need, config: Config, languages: Sequence[str], out: Path) -> Need:
    """The need with the seconds that the finished stage took, where it is there with the same settings."""
    folder = out / need.stage
    folders = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}")) if need.stage == "train" else [folder]
    manifests = [finished_stage(one, config, languages) for one in folders]
    expected = len(languages) + 2 if need.stage == "train" else 1
    seconds = [manifest.seconds for manifest in manifests if manifest is not None]
    if len(seconds) < expected:
        return need
    told = "unknown before" if need.seconds is None else f"{need.seconds:.0f} s expected from what is measured now"
    return replace(
        need, seconds=sum(seconds), how=f"time: what the finished stage in {folder} took ({told}); {need.how}"
    )


def finished_stage(folder: Path, config: Config, languages: Sequence[str]) -> Manifest | None:
    """The manifest of a stage that was finished with these settings, whatever its inputs were; else None."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = read_manifest(folder)
    except InputError:
        return None
    now: dict[str, Any] = {**config.model_dump(mode="json"), "languages": languages, "experts": languages}
    return manifest if all(_same(value, now.get(name)) for name, value in manifest.config.items()) else None


def _same(then: object, now: object) -> bool:
    """Whether two settings are equal; languages may stand in any order."""
    if isinstance(then, list) and isinstance(now, list | tuple) and all(isinstance(one, str) for one in then):
        return sorted(then) == sorted(map(str, now))
    return then == now
