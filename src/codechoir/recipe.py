"""A recipe: everything that a run can be told, one field a stage. Reads no data and loads no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, field_validator

from codechoir.compose.config import ComposeConfig, TuneConfig
from codechoir.config import Config, load_config
from codechoir.data.config import CurateConfig
from codechoir.evaluate.config import EvaluateConfig
from codechoir.generate.config import GenerateConfig
from codechoir.languages import LANGUAGES
from codechoir.model.config import EMBEDDED, BaseSource
from codechoir.problems import ProblemsConfig
from codechoir.report.config import ReportConfig
from codechoir.train.config import TrainConfig


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
    tune: TuneConfig | None = Field(None, description="gradient tuning of the composed model; absent: none")
    problems: ProblemsConfig = Field(ProblemsConfig(), description="the programming problems")
    generate: GenerateConfig = Field(GenerateConfig(), description="what each model scores and completes")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="how programs are judged and scores estimated")
    report: ReportConfig = Field(ReportConfig(), description="how the report is written")

    @property
    def generation(self) -> GenerateConfig:
        """What the generate stage is told: without the tuned model where none is tuned."""
        return self.generate if self.tune else self.generate.untuned()

    @field_validator("languages")
    @classmethod
    def _known_and_distinct(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in languages if name not in LANGUAGES]
        if unknown or len(set(languages)) < len(languages):
            raise ValueError(f"distinct languages of {', '.join(LANGUAGES)}")
        return languages


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies `key.path=value` overrides. Raises ConfigError or InputError."""
    return load_config(Recipe, path, overrides)


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
