"""Configuration: frozen pydantic models read from a recipe, unknown keys refused with the nearest valid name.

Owns reading, `--set` overrides, and the digest of a config. Each stage defines its own config on `Config`;
`recipe.py` joins them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from codechoir.errors import ConfigError, InputError


class Config(BaseModel):
    """Base of every config: frozen, strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, values: dict[str, Any], source: str) -> Self:
        """The config that `values` say. Raises ConfigError naming the key, the value seen and what is allowed."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _config_error(cls, error, source) from None

    def digest(self) -> str:
        """A digest of every value in force."""
        return digest_of(self.model_dump(mode="json"))


ConfigT = TypeVar("ConfigT", bound=Config)


def digest_of(value: object) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def load_config(kind: type[ConfigT], path: Path, overrides: Sequence[str] = ()) -> ConfigT:
    """Reads a YAML file and applies `key.path=value` overrides (values are YAML, too)."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such recipe", seen=path, next_step="give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the recipe cannot be read", seen=f"{path}: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError("the recipe is not valid YAML", seen=f"{path}: {error}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError("a recipe is a mapping of keys to values", seen=f"{path}: {type(values).__name__}")
    for override in overrides:
        _apply_override(values, override)
    return kind.parse(values, str(path))


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise ConfigError("an override is key.path=value", seen=override)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError("the override's value is not valid YAML", seen=override) from None
    *parents, last = key.split(".")
    here = values
    for parent in parents:
        here = here.setdefault(parent, {})
        if not isinstance(here, dict):
            raise ConfigError("the override goes through a value that has no keys", seen=override)
    here[last] = value


def _config_error(kind: type[BaseModel], error: ValidationError, source: str) -> ConfigError:
    """The first thing pydantic complains of, in our words."""
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location) or "(the whole)"
    if first["type"] == "extra_forbidden":
        names = _field_names(kind, location[:-1])
        near = difflib.get_close_matches(location[-1], names, n=1, cutoff=0.5)
        return ConfigError(
            "unknown key",
            seen=f"{key} in {source}",
            allowed=", ".join(names),
            next_step=f"did you mean {near[0]!r}?" if near else "remove the key",
        )
    what = "a value is missing" if first["type"] == "missing" else "a value is not allowed"
    seen = f"{key} in {source}" + ("" if first["type"] == "missing" else f": {first['input']!r}")
    return ConfigError(what, seen=seen, allowed=first["msg"], next_step="see `codechoir recipe show`")


def _field_names(kind: type[BaseModel], location: Sequence[str]) -> list[str]:
    """The keys that are valid at `location`, descending through nested configs, lists, dicts and unions."""
    kinds = [kind]
    for part in location:
        below = [model.model_fields[part].annotation for model in kinds if part in model.model_fields]
        found = [model for annotation in below for model in _models_in(annotation)]
        kinds = found or kinds  # an index, a dict key or a union's tag leaves the level as it is
    return sorted({name for model in kinds for name in model.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, list, tuple, dict) or get_args(annotation):
        return [model for inner in get_args(annotation) for model in _models_in(inner)]
    return []
