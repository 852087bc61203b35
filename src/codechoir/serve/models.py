"""The models that are served, the names that choose one and its routing, and how a folder becomes one.

Names: NAME and NAME/auto route by the prompt, NAME/token by token, NAME/LANG by that expert alone; a dense model has
NAME alone. Where the file is known, its language chooses the expert of NAME and NAME/auto.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from codechoir.errors import InputError
from codechoir.languages import language_of_path
from codechoir.model.infilling_format import InfillingFormat, infilling_format
from codechoir.model.opening import open_any
from codechoir.model.requests import CompletionEngine, RoutingChoice
from codechoir.serve.refusals import RefusedError

Source = Literal["model", "path", "prompt", "token"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An engine under a name, and how it is asked to chat and to fill in; None where it cannot."""

    name: str
    engine: CompletionEngine
    chat_template: Any | None  # the tokenizer of transformers that has one
    infilling: InfillingFormat | None
    _pieces: dict[int, str] = field(default_factory=dict)

    def piece(self, token: int) -> str:
        """A token's text; of part of a character, U+FFFD; of a special token, nothing."""
        if token not in self._pieces:
            self._pieces[token] = str(self.engine.tokenizer.decode([token], skip_special=True))
        return self._pieces[token]

    def ids(self) -> list[str]:
        """The names that choose this model."""
        abilities = self.engine.abilities
        routings = ["auto", *(routing for routing in abilities.routings if routing == "token")]
        return [self.name, *(f"{self.name}/{tail}" for tail in [*routings, *abilities.experts] if abilities.experts)]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a model's name, and a file's name, chose. `source`: what decides the expert; None for a dense model."""

    id: str
    model: ServedModel
    routing: RoutingChoice | None = None
    expert: str | None = None
    source: Source | None = None


class Catalogue:
    """The served models by name."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self.models: Mapping[str, ServedModel] = {model.name: model for model in models}
        if len(self.models) != len(models) or not models:
            raise InputError("each model needs a name of its own", seen=[model.name for model in models])

    def ids(self) -> Iterator[tuple[str, ServedModel]]:
        """Every name and its model."""
        for model in self.models.values():
            for id in model.ids():
                yield id, model

    def choose(self, id: str, path: str | None = None) -> Choice:
        """What a request's `model` and file name choose; an empty id the first model. Raises RefusedError (404)."""
        name, _, tail = (id or next(iter(self.models))).partition("/")
        model = self.models.get(name)
        if model is None or (tail and f"{name}/{tail}" not in model.ids()):
            known = ", ".join(known for known, _ in self.ids())
            raise RefusedError(404, f"no such model; there are: {known}", param="model", code="model_not_found")
        id, abilities = f"{name}/{tail}" if tail else name, model.engine.abilities
        if not abilities.experts:
            return Choice(id, model)
        if tail == "token":
            return Choice(id, model, "token", source="token")
        if tail in abilities.experts:
            return Choice(id, model, expert=tail, source="model")
        language = language_of_path(path) if path else None
        if language is not None and language.id in abilities.experts:
            return Choice(id, model, expert=language.id, source="path")
        return Choice(id, model, "prompt" if "prompt" in abilities.routings else None, source="prompt")


def parse_model(argument: str) -> tuple[str, Path]:
    """The name and path of a command line's `[NAME=]PATH`; the folder's or GGUF file's own name where none is given."""
    name, sign, given = argument.partition("=")
    path = Path(given if sign else argument)
    own = path.resolve()
    name = name if sign else own.stem if own.suffix == ".gguf" else own.name
    if not _NAME.fullmatch(name):
        raise InputError("not a name for a model", seen=name, allowed="NAME=PATH; letters, digits, - _ . in NAME")
    return name, path


def open_model(name: str, path: Path, max_sequences: int) -> ServedModel:
    """Loads a dense or composed model's folder, or a GGUF file, and starts its engine. Raises InputError.

    A GGUF file's tokenizer is llama.cpp's own: it has no chat template and no infilling here.
    """
    if path.suffix != ".gguf" and not (path / "config.json").exists():
        raise InputError(
            "no model in this folder", seen=path, allowed="a folder that train or compose wrote, or a .gguf file"
        )
    opened = open_any(path, max_sequences)
    if opened.tokenizer is None:
        return ServedModel(name, opened.engine, None, None)
    return served(name, opened.engine, opened.tokenizer)


def served(name: str, engine: CompletionEngine, tokenizer: Any) -> ServedModel:
    """An engine and its tokenizer, to be served under a name."""
    return ServedModel(name, engine, tokenizer if tokenizer.chat_template else None, infilling_format(tokenizer))
