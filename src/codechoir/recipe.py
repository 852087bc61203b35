"""A recipe: everything that a run can be told, one field a stage. Reads no data and loads no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import yaml
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from codechoir.compose.config import ComposeConfig, TuneConfig
from codechoir.config import Config, load_config
from codechoir.data.config import CurateConfig
from codechoir.errors import ConfigError
from codechoir.evaluate.config import EvaluateConfig
from codechoir.generate.config import GenerateConfig
from codechoir.languages import LANGUAGES
from codechoir.model.config import EMBEDDED, BaseSource, OptimiserConfig
from codechoir.problems import ProblemsConfig
from codechoir.report.config import ReportConfig
from codechoir.train.config import NOT_TUNED, TrainConfig, Tuning


class Recipe(Config):
    """The whole run."""

    name: str = Field(description="the run's folder is runs/NAME", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    languages: tuple[str, ...] = Field(
        ("python", "java", "javascript", "cpp"), description="one expert each, in this order", min_length=2
    )
    base: BaseSource = Field(
        EMBEDDED, description="the model to start from; the default is a quantised instruct model of 135M parameters"
    )
    curate: CurateConfig = Field(description="where code comes from, what is rejected, what is held out")
    train: TrainConfig = Field(TrainConfig(), description="trunk, experts and universal model")
    compose: ComposeConfig = Field(ComposeConfig(), description="routers and format of the composed model")
    tune: TuneConfig | None = Field(
        None, description="gradient tuning of the composed model; absent: none", validate_default=True
    )
    problems: ProblemsConfig = Field(ProblemsConfig(), description="the programming problems")
    generate: GenerateConfig = Field(GenerateConfig(), description="what each model scores and completes")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="how programs are judged and scores estimated")
    report: ReportConfig = Field(ReportConfig(), description="how the report is written")

    @property
    def generation(self) -> GenerateConfig:
        """What the generate stage is told: without the tuned model where none is tuned."""
        return self.generate if self.tune else self.generate.untuned()

    @property
    def left_for_tuning(self) -> Tuning:
        """What the train stage leaves for tuning experts, and gives the universal model to read as well."""
        tune = self.tune
        if not _tunes_experts(tune):
            return NOT_TUNED
        optimiser = None
        if not self.train.expert_sequences:
            optimiser = OptimiserConfig(**tune.model_dump(include=set(OptimiserConfig.model_fields)))
        return Tuning(tune.steps * tune.sequences_per_language, tune.validation_sequences, optimiser)

    @property
    def packed_sequences(self) -> int:
        """Sequences that are made of a language at equal weights: the trunk's, its expert's and tuning's."""
        tuning = self.left_for_tuning
        return self.train.trunk_sequences + self.train.expert_sequences + tuning.sequences + tuning.validation

    @field_validator("languages")
    @classmethod
    def _known_and_distinct(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in languages if name not in LANGUAGES]
        if unknown or len(set(languages)) < len(languages):
            raise ValueError(f"distinct languages of {', '.join(LANGUAGES)}")
        return languages

    @field_validator("tune")
    @classmethod
    def _read_as_training_does(cls, tune: TuneConfig | None, info: ValidationInfo) -> TuneConfig | None:
        train = info.data.get("train")  # none where it is itself refused
        if not train or not _tunes_experts(tune) or tune.sequence_length == train.sequence_length:
            return tune
        if "sequence_length" in tune.model_fields_set:
            raise ValueError(
                "experts are tuned on sequences that training has left: leave sequence_length out, or set it to "
                f"train.sequence_length, which is {train.sequence_length}"
            )
        return tune.model_copy(update={"sequence_length": train.sequence_length})

    @field_validator("tune")
    @classmethod
    def _experts_learn_something(cls, tune: TuneConfig | None, info: ValidationInfo) -> TuneConfig | None:
        train = info.data.get("train")  # none where it is itself refused
        if train and not train.expert_sequences and not _tunes_experts(tune):
            raise ValueError(
                "train.expert_sequences is 0, and experts that read nothing stay copies of the trunk unless tuning "
                "moves them: give them sequences, or set tune.what to experts or whole"
            )
        return tune

    @field_validator("evaluate")
    @classmethod
    def _samples_suffice(cls, evaluate: EvaluateConfig, info: ValidationInfo) -> EvaluateConfig:
        generate = info.data.get("generate")  # none where it is itself refused
        if generate and generate.complete and max(evaluate.pass_k, default=0) > generate.num_samples:
            raise ValueError(
                f"pass_k of at most generate.num_samples, which is {generate.num_samples}: lower one or raise the other"
            )
        return evaluate


def _tunes_experts(tune: TuneConfig | None) -> TypeGuard[TuneConfig]:
    return tune is not None and tune.moves_experts


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies `key.path=value` overrides. Raises ConfigError or InputError."""
    return load_config(Recipe, path, overrides)


def check_base(recipe: Recipe, base: Path) -> None:
    """Raises at once what a stage would meet only when its turn came, hours later. `base` is the base model's folder.

    Raises ConfigError, IncompatibleModelError, ToolMissingError.
    """
    from codechoir.model.checkpoint import model_config, open_checkpoint
    from codechoir.model.families import check_length, context_length
    from codechoir.train.stage import check_it_can_be_trained

    if recipe.train.branches_trainable in ("last-layers", "all") and recipe.compose.shared == "require-equal":
        raise ConfigError(
            "branches would train weights that all experts share, and experts that differ in these are not composed",
            seen=f"train.branches_trainable {recipe.train.branches_trainable}, compose.shared require-equal",
            allowed="feed-forward or lora",
            next_step="set train.branches_trainable, or compose.shared to mean or base",
        )
    check_it_can_be_trained(recipe.train, recipe.languages, base)
    context = context_length(model_config(open_checkpoint(base).config, base))
    lengths = (
        ("compose.sequence_length", recipe.compose.sequence_length, context),
        ("tune.sequence_length", recipe.tune.sequence_length if recipe.tune else 0, context),
        ("generate.held_out_tokens", recipe.generate.held_out_tokens, context and context - 1),  # after a separator
    )
    for name, length, most in lengths:
        check_length(name, length, most)


def resolved(recipe: Recipe) -> str:
    """The recipe as YAML, every default spelled out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def described(recipe: Recipe) -> Iterator[tuple[str, Any, str]]:
    """Every value in force: (key path, value, description)."""
    yield from _described(recipe, "")


def _described(config: BaseModel, prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, field in type(config).model_fields.items():
        value, key = getattr(config, name), prefix + name
        if isinstance(value, BaseModel):
            yield from _described(value, f"{key}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for number, item in enumerate(value):
                yield from _described(item, f"{key}.{number}.")
        else:
            yield key, config.model_dump(mode="json")[name], field.description or ""
