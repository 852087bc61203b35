"""Configuration: frozen pydantic models read from a recipe, unknown keys refused with the nearest valid name.

Owns reading (YAML in, a `Config` out), `--set` overrides, and the digest of a config. Knows no stage: each defines its
own config on `Config`; `recipe.py` joins them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

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


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which would let the last of two equal keys win; this one refuses the second."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        "while reading a mapping", node.start_mark, f"found the key {key.value!r} twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node


def _load_yaml(text: str) -> Any:
    """The value that `text` holds. Raises yaml.YAMLError, or ValueError for scalars such as the date 2024-99-99."""
    return yaml.load(text, Loader=_Loader)


def load_config(kind: type[ConfigT], path: Path, overrides: Sequence[str] = ()) -> ConfigT:
    """Reads a YAML file and applies `key.path=value` overrides (values are YAML, too).

    Raises InputError where the file cannot be read, ConfigError where it or an override is not a valid `kind`.
    """
    try:
        values = _load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such recipe", seen=path, next_step="give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the recipe cannot be read", seen=f"{path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError("the recipe is not valid YAML", seen=f"{path}: {error}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError("a recipe is a mapping of keys to values", seen=f"{path}: {type(values).__name__}")
    for override in overrides:
        _apply_override(values, override)
    return kind.parse(values, f"{path} with --set" if overrides else str(path))


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """The nested values that `key.path=value` overrides say. Raises ConfigError."""
    values: dict[str, Any] = {}
    for override in overrides:
        _apply_override(values, override)
    return values


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    *parents, last = key.strip().split(".")
    if not sign or not last or not all(parents):
        raise ConfigError("an override is key.path=value", seen=override)
    try:
        value = _load_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError("the override's value is not valid YAML", seen=override) from None
    here = values
    for parent in parents:
        if here.get(parent) is None:  # absent, or a section left empty
            here[parent] = {}
        here = here[parent]
        if not isinstance(here, dict):
            raise ConfigError("the override goes through a value that has no keys", seen=override)
    here[last] = value


def _config_error(kind: type[BaseModel], error: ValidationError, source: str) -> ConfigError:
    """The first thing pydantic complains of, in our words; a misspelt key before the missing one that it leaves."""
    errors = error.errors(include_url=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    location = first["loc"]
    key = ".".join(str(part) for part in location) or "(the whole)"
    if first["type"] == "extra_forbidden":
        names = _field_names(kind, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), names, n=1, cutoff=0.5)
        return ConfigError(
            "unknown key",
            seen=f"{key} in {source}",
            allowed=", ".join(names),
            next_step=f"did you mean {near[0]!r}?" if near else "remove the key",
        )
    what = "a value is missing" if first["type"] == "missing" else "a value is not allowed"
    seen = f"{key} in {source}" + ("" if first["type"] == "missing" else f": {first['input']!r:.200}")
    allowed = first["msg"].removeprefix("Value error, ")  # pydantic's, before what our validators say
    return ConfigError(what, seen=seen, allowed=allowed, next_step="see `codechoir recipe show`")


def _field_names(kind: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that are valid at `location`, descending through nested configs, lists, dicts and unions."""
    here: list[Any] = [kind]
    for part in location:
        if len(here) > 1:  # of a union, pydantic names the member that it tried before it goes on inside
            here = [member for member in here if _is_named(member, part)] or here
        else:
            here = _below(here[0], part) or here
    return sorted({name for member in here if _is_model(member) for name in member.model_fields})


def _below(annotation: Any, part: str | int) -> list[Any]:
    """The types that `part`, a field, key or index, may have within a value of type `annotation`."""
    if _is_model(annotation):
        return _members(annotation.model_fields[part].annotation) if part in annotation.model_fields else []
    if get_origin(annotation) in (dict, list, tuple):
        return _members(next(inner for inner in reversed(get_args(annotation)) if inner is not Ellipsis))
    return []


def _members(annotation: Any) -> list[Any]:
    """The members of a union, None left out; of any other type, itself."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for inner in get_args(annotation) for member in _members(inner)]
    return [] if annotation is types.NoneType else [annotation]


def _is_named(member: Any, name: str | int) -> bool:
    """Whether pydantic calls the union's member so: by the value of its tag field, or by its class."""
    if not _is_model(member):
        return False
    tags = [field.annotation for field in member.model_fields.values() if get_origin(field.annotation) is Literal]
    return name == member.__name__ or any(get_args(tag) == (name,) for tag in tags)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
