"""The train stage: a shared trunk, from it one expert per language and one universal dense model.

In: a base model's folder and curate's documents. Out: one Hugging Face folder a branch (for LoRA a PEFT adapter), each
finished and resumed on its own.

The universal model is the dense control. It starts from the same trunk, trains the same weights by the same schedule
and seed, and is told in its manifest to be *data-matched* where it read exactly the tokens that all experts read
together, and *compute-matched* where its training cost as many operations as theirs together: at the same trained
weights a token costs the same, so as many tokens. By default it is both; early stopping may end either. Where the
composed model's experts are tuned, sequences after the experts' are left for that, and the universal model reads these
as well: data-matched with experts and tuning together, and not said to be compute-matched, as tuning's cost is its own.
Where experts read nothing (sparse upcycling), it reads what tuning reads alone, by tuning's learning rate and schedule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codechoir.artifacts import Manifest, StageFolder, read_manifest
from codechoir.documents import stream_texts
from codechoir.errors import ConfigError, InputError
from codechoir.model.checkpoint import load_tokenizer, model_config, open_checkpoint, separator_id
from codechoir.model.compilation import pays_to_compile
from codechoir.model.families import check_length, context_length, family_of
from codechoir.model.infilling_tokens import learns_infilling_tokens, with_infilling_tokens
from codechoir.model.token_shards import LeftSequences, TokenShard
from codechoir.train.branch import Branch, finished_or, train_branch
from codechoir.train.config import BRANCHES_ONLY, NOT_TUNED, UNTOLD, TrainConfig, Tuning
from codechoir.train.devices import join_devices
from codechoir.train.metrics import check_watchers
from codechoir.train.mixing import Arms, ShardSequences, arms
from codechoir.train.search import search_rate
from codechoir.train.sequences import Sequences
from codechoir.train.shards import SHARD_SETTINGS, Source, make_shards
from codechoir.train.validation import Rows, chosen, validation_rows
from codechoir.train.ways import check_way

VERSION = 4
TRUNK, UNIVERSAL = "trunk", "universal"
_EXPERTS = "experts"
_BASE, _SEARCH, _SHARDS = "base", "search", "tokens"  # folders beside the branches'
_PLACES = ("trunk_sequences", "expert_sequences", "mixing")  # what decides which sequence a branch reads


@dataclass(frozen=True, slots=True)
class TrainInputs:
    """What training reads: the base model's folder, the curated documents, and the digests that stand for them."""

    base: Path
    base_digest: str
    documents: Path
    documents_digest: str
    tuning: Tuning = NOT_TUNED


def train(config: TrainConfig, languages: Sequence[str], inputs: TrainInputs, out: Path) -> dict[str, Manifest]:
    """Trains what is not yet trained under `out` and returns every branch's manifest, by its name.

    Raises IncompatibleModelError for a base that could not be composed, before any work.
    """
    check_it_can_be_trained(config, languages, inputs.base)
    run = _Run(config, languages, _with_infilling_tokens(config, inputs, out / _BASE), out)
    for name in (TRUNK, *languages, UNIVERSAL):
        run.manifests[name] = run.finish(name)
    return run.manifests


def check_it_can_be_trained(config: TrainConfig, languages: Sequence[str], base: Path) -> None:
    """Raises at once what a branch would meet only when its turn came. `base` is a model's folder."""
    settings = open_checkpoint(base).config
    family_of(settings, base)
    arms(languages, config)
    known = model_config(settings, base)
    for way in {config.trainable, config.branches_trainable}:
        check_way(way, config, known.num_hidden_layers)
    check_length("train.sequence_length", config.sequence_length, context_length(known))
    check_watchers(config.watch)
    can_learn = config.trunk_sequences > 0 or (config.branches_trainable == "all" and config.expert_sequences > 0)
    if config.infilling_rate and learns_infilling_tokens(base) and not can_learn:
        raise ConfigError(
            "the base has no infilling tokens, and new ones are learned by the trunk, which reads nothing",
            seen="train.trunk_sequences 0",
            allowed="1 or more, a train.infilling_rate of 0, or a base that has such tokens",
        )


def _with_infilling_tokens(config: TrainConfig, inputs: TrainInputs, folder: Path) -> TrainInputs:
    """The inputs with a base that has infilling tokens, where infilling is trained; the first process makes it."""
    if not config.infilling_rate:
        return inputs
    devices = join_devices()
    for is_turn in (devices.is_first, not devices.is_first):
        if is_turn:
            inputs = replace(inputs, base=with_infilling_tokens(inputs.base, inputs.base_digest, folder))
        devices.meet()
    return inputs


def left_for_tuning(
    config: TrainConfig, languages: Sequence[str], inputs: TrainInputs, out: Path
) -> LeftSequences | None:
    """What branches under `out`, which are finished, have left of their sequences; None where nothing is tuned on them.

    Raises InputError where these have been trained by another recipe: their experts may have read what is left by it.
    """
    if not inputs.tuning.sequences:
        return None
    trained = read_manifest(out / UNIVERSAL).config
    for name, value in config.model_dump(mode="json", include={*_PLACES, *SHARD_SETTINGS}).items():
        if trained.get(name) != value:
            raise _trained_otherwise(out, f"train.{name} {trained.get(name)}", value)
    if trained.get("tuned_sequences", 0) != inputs.tuning.sequences:
        read = trained.get("tuned_sequences", 0)
        raise _trained_otherwise(out, f"{read} sequences a language for tuning", inputs.tuning.sequences)
    split = arms(languages, config, inputs.tuning)

    def shards() -> Mapping[str, TokenShard]:
        return _shards(config, split, _with_infilling_tokens(config, inputs, out / _BASE), out / _SHARDS)

    return LeftSequences({name: split.first_tuned(name) for name in languages}, shards)


def _trained_otherwise(out: Path, seen: str, wanted: object) -> InputError:
    return InputError(
        "the universal model was trained by another recipe than the one that tunes",
        seen=f"{seen} in {out / UNIVERSAL}",
        allowed=str(wanted),
        next_step="run the train stage with this recipe: `codechoir run RECIPE`",
    )


def tokens_read(config: TrainConfig, num_languages: int, tuning: Tuning) -> int:
    """What all branches of a run read together, tries of learning rates not counted."""
    num_sequences = config.trunk_sequences + 2 * config.expert_sequences + tuning.sequences
    return num_languages * num_sequences * config.sequence_length


@dataclass(slots=True)
class _Run:
    """One call of `train`: what is trained so far, and the data once a branch has needed it."""

    config: TrainConfig
    languages: Sequence[str]
    inputs: TrainInputs
    out: Path
    manifests: dict[str, Manifest] = field(default_factory=dict)
    _rates: dict[str, tuple[float, list[dict[str, Any]]]] = field(default_factory=dict)  # by arm, and what was tried
    _data: _Data | None = None

    def finish(self, name: str) -> Manifest:
        """A branch's manifest; it is trained where it is not finished."""

        def trained() -> Mapping[str, Any]:
            branch = self._branch(name)
            rate, tries = self._rate(name, branch)
            facts = train_branch(branch, self._config(name).model_copy(update={"learning_rate": rate}), folder)
            return facts | self._facts_beside(name, facts) | {"search": tries}

        folder = self._folder(self.out / name, name, {})
        return finished_or(folder, trained)

    def _config(self, name: str) -> TrainConfig:
        """The settings of a branch, or of its search."""
        optimiser = self.inputs.tuning.optimiser
        if optimiser and name.endswith(UNIVERSAL):
            return self.config.model_copy(update=dict(optimiser))
        return self.config

    def _folder(self, path: Path, name: str, more: dict[str, Any]) -> StageFolder:
        trunk, num_tuned = self.manifests.get(TRUNK), self.inputs.tuning.sequences
        if name.endswith(UNIVERSAL) and num_tuned:  # its search too
            more = more | {"tuned_sequences": num_tuned}
        untold = UNTOLD | (set() if trunk else BRANCHES_ONLY)
        untold |= {"learning_rate"} if self.config.learning_rates else set()
        return StageFolder(
            path,
            f"train-{name}",
            VERSION,
            self._config(name).model_dump(mode="json", exclude=untold) | {"languages": list(self.languages)} | more,
            {
                "start": trunk.digest if trunk else self.inputs.base_digest,
                "documents": self.inputs.documents_digest,
            },
        )

    def _branch(self, name: str) -> Branch:
        data = self._data = self._data or _read_data(self.config, self.languages, self.inputs, self.out / _SHARDS)
        start = self.out / TRUNK if TRUNK in self.manifests else self.inputs.base
        way = self.config.trainable if name == TRUNK else self.config.branches_trainable
        measured = tuple(rows for rows in data.validation if name in (TRUNK, UNIVERSAL, rows.language))
        return Branch(name, start, data.sequences(name), way, measured, compiled=self._compiled())

    def _compiled(self) -> bool:
        num_parameters = sum(map(math.prod, open_checkpoint(self.inputs.base).shapes().values()))
        return pays_to_compile(num_parameters, tokens_read(self.config, len(self.languages), self.inputs.tuning))

    def _rate(self, name: str, branch: Branch) -> tuple[float, list[dict[str, Any]]]:
        """The branch's peak learning rate and how it was found: one search each for trunk, experts and universal."""
        arm = name if name in (TRUNK, UNIVERSAL) else _EXPERTS
        if not self.config.learning_rates or not len(branch.sequences):
            return self._config(name).learning_rate, []
        if arm not in self._rates:
            first = self._branch(self.languages[0]) if arm == _EXPERTS else branch

            def folder(rate: float) -> StageFolder:
                return self._folder(self.out / _SEARCH / f"{arm}-{rate:g}", f"search-{arm}", {"tried": rate})

            self._rates[arm] = search_rate(first, self._config(arm), folder)
        return self._rates[arm]

    def _facts_beside(self, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What is to be said of a branch beside its own training."""
        assert self._data is not None
        before = self.manifests[TRUNK].facts["tokens"] if TRUNK in self.manifests else 0
        beside: dict[str, Any] = {
            "total_tokens": before + facts["tokens"],
            "epochs": {name: shard.epochs for name, shard in self._data.shards.items()},
        }
        if name == UNIVERSAL:
            experts = [self.manifests[one].facts for one in self.languages]
            tuned = self.inputs.tuning.sequences * len(self.languages) * self.config.sequence_length
            as_many = facts["tokens"] == sum(each["tokens"] for each in experts) + tuned
            all_through = not any(each["stopped_early"] for each in (facts, *experts))
            none_skipped = not any(each["skipped_steps"] for each in (facts, *experts))
            all_kept = all(each["tokens"] == each["tokens_read"] for each in (facts, *experts))
            beside |= {
                "data_matched": as_many and all_through and all_kept and none_skipped,
                "compute_matched": not tuned and facts["tokens_read"] == sum(each["tokens_read"] for each in experts),
                "tuned_tokens": tuned,
            }
        return beside


@dataclass(frozen=True, slots=True)
class _Data:
    """All languages' sequences, who reads which, and what is measured on."""

    shards: Mapping[str, TokenShard]
    arms: Arms
    validation: tuple[Rows, ...]

    def sequences(self, name: str) -> Sequences:
        """What a branch reads."""
        if name == TRUNK:
            return ShardSequences(self.arms.trunk_order(), self.shards)
        order = self.arms.universal_order() if name == UNIVERSAL else self.arms.expert_order(name)
        return ShardSequences(order, self.shards)


def _read_data(config: TrainConfig, languages: Sequence[str], inputs: TrainInputs, out: Path) -> _Data:
    split = arms(languages, config, inputs.tuning)
    shards = _shards(config, split, inputs, out)
    tokenizer = load_tokenizer(inputs.base)
    held = {
        name: chosen(stream_texts(inputs.documents, name, "train"), config.validation_documents, config.seed)
        for name in languages
        if config.validation_documents
    }
    size = config.sequences_per_forward
    rows = validation_rows(held, tokenizer, separator_id(tokenizer), config.sequence_length, size)
    return _Data(shards, split, tuple(rows))


def _shards(config: TrainConfig, split: Arms, inputs: TrainInputs, out: Path) -> Mapping[str, TokenShard]:
    """Every language's shard, made where it is not there or not sound."""
    source = Source(inputs.documents, inputs.documents_digest, inputs.base)
    return make_shards(source, {name: split.num_sequences(name) for name in split.trunk}, config, out)
