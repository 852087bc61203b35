"""What a composed model is made of: base and experts by name, with the licences that their folders tell; how.

In: the folders, and what a composed folder's manifest says. Out: plain values for a manifest, read back by whatever is
made from the composed folder (a model that grows, an export).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codechoir.artifacts import MANIFEST
from codechoir.errors import InputError
from codechoir.model.licences import origin_of
from codechoir.records import read_json


def made_of(base: Path, experts: Mapping[str, Path]) -> dict[str, Any]:
    """`{"base": origin, "experts": {name: origin}}`; see `Origin`."""
    return {
        "base": origin_of(base).facts(),
        "experts": {name: origin_of(folder).facts() for name, folder in experts.items()},
    }


def recorded(folder: Path) -> dict[str, Any]:
    """What the manifest in a composed folder, or in an export of one, says of what it is made of; empty: nothing."""
    told = facts_of(folder).get("made_of")
    if not isinstance(told, dict) or not all(isinstance(told.get(key), dict) for key in ("base", "experts")):
        return {}
    return told if all(isinstance(each, dict) for each in (told["base"], *told["experts"].values())) else {}


def facts_of(folder: Path) -> dict[str, Any]:
    """The facts of the manifest in a folder; empty where it has none, or a damaged one."""
    path = folder / MANIFEST
    try:
        facts = read_json(path).get("facts") if path.is_file() else None
    except (InputError, AttributeError):
        return {}
    return facts if isinstance(facts, dict) else {}


def own_share(folder: Path) -> float:
    """How much of its own each expert of a composed folder has kept; all where its manifest does not say."""
    return float(facts_of(folder).get("own_share", 1.0))


def changed(before: Path, experts: Mapping[str, Path]) -> dict[str, Any]:
    """What a changed model is made of: as the composed folder `before` says, where it says so.

    `experts` are the changed model's; those that stay have the folder `before`.
    """
    told = recorded(before) or {"base": origin_of(before).facts(), "experts": {}}
    known = told["experts"]
    return {
        "base": told["base"],
        "experts": {
            name: known[name] if folder == before and name in known else origin_of(folder).facts()
            for name, folder in experts.items()
        },
    }
