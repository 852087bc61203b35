"""Which packages are held out. A package is on one side as a whole, for all its languages.

Goes in: the names of the packages that have documents left, by language. Comes out: the names held out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping

from codechoir.data.config import CurateConfig
from codechoir.errors import ConfigError


def held_out_packages(packages: Mapping[str, Collection[str]], config: CurateConfig) -> frozenset[str]:
    """The packages held out of `packages` (by Language.id).

    Where `held_out` names a language's packages, those; elsewhere the share `held_out_fraction` (at least one) with the
    smallest seeded hash of the name. Raises ConfigError where a name is unknown or a language has packages on one side
    only.
    """
    held_out: set[str] = set()
    for language, names in packages.items():
        named = config.held_out.get(language)
        if named is None:
            held_out |= _chosen(names, config)
            continue
        unknown = sorted(set(named) - set(names))
        if unknown:
            raise ConfigError(
                f"held_out names packages that have no {language} documents",
                seen=", ".join(unknown),
                allowed=", ".join(sorted(names)),
            )
        held_out |= set(named)
    for language, names in packages.items():
        _check_sides(language, set(names), held_out)
    return frozenset(held_out)


def _chosen(names: Collection[str], config: CurateConfig) -> set[str]:
    count = math.ceil(config.held_out_fraction * len(names))
    return set(sorted(names, key=lambda name: hashlib.sha256(f"{config.seed}:{name}".encode()).digest())[:count])


def _check_sides(language: str, names: set[str], held_out: set[str]) -> None:
    for side, found in (("held-out", names & held_out), ("train", names - held_out)):
        if not found:
            raise ConfigError(
                f"no {side} package for {language}",
                seen=f"packages: {', '.join(sorted(names))}",
                allowed="at least one package on each side, for each language",
                next_step="add a source, or name other packages in held_out",
            )
