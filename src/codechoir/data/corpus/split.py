"""Which packages are held out. A package is on one side as a whole, for all its languages.

Goes in: the names of the packages that have documents left, by language, and the pairs of packages that share
near-duplicates. Comes out: the names held out. Linked packages are on the same side, so that no near-duplicate of a
held-out file is trained on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from codechoir.data.config import CurateConfig
from codechoir.data.corpus.sampling import RANKS, sample_rank
from codechoir.errors import ConfigError

Groups = Mapping[str, frozenset[str]]  # package -> it and all that are linked to it, directly or not


def held_out_packages(
    packages: Mapping[str, Collection[str]], config: CurateConfig, linked: Iterable[tuple[str, str]] = ()
) -> frozenset[str]:
    """The packages held out of `packages` (by Language.id), with those that are `linked` to them.

    Where `held_out` names a language's packages, those; elsewhere each whose seeded rank lies below the share
    `held_out_fraction` of all ranks, so that a package added to the corpus leaves the others where they are. At least
    one on each side: where all ranks lie on one side, the smallest is held out, or the largest is not. Linked packages
    go by the rank of the first by name.

    Raises ConfigError where a name is unknown or a language has packages on one side only.
    """
    groups = _groups({name for names in packages.values() for name in names}, linked)
    held_out: set[str] = set()
    for language, names in packages.items():
        named = config.held_out.get(language)
        if named is None:
            held_out |= _chosen(names, groups, config)
            continue
        unknown = sorted(set(named) - set(names))
        if unknown:
            raise ConfigError(
                f"held_out names packages that have no {language} documents",
                seen=", ".join(unknown),
                allowed=", ".join(sorted(names)),
            )
        held_out |= {other for name in named for other in groups[name]}
    for language, names in packages.items():
        _check_sides(language, set(names), held_out, groups)
    return frozenset(held_out)


def _groups(names: Collection[str], linked: Iterable[tuple[str, str]]) -> Groups:
    """The connected components of the links between `names`; links to other names are not looked at."""
    groups = {name: {name} for name in names}
    for one, other in linked:
        if one in groups and other in groups and groups[one] is not groups[other]:
            small, large = sorted((groups[one], groups[other]), key=len)
            large |= small
            for name in small:
                groups[name] = large
    return {name: frozenset(group) for name, group in groups.items()}


def _chosen(names: Collection[str], groups: Groups, config: CurateConfig) -> set[str]:
    ranked = sorted({(sample_rank(config.seed, first), first) for first in (min(groups[name]) for name in names)})
    num_below = sum(rank < config.held_out_fraction * RANKS for rank, _ in ranked)
    num_held_out = max(1, min(num_below, len(ranked) - 1))
    return {name for _, first in ranked[:num_held_out] for name in groups[first]}


def _check_sides(language: str, names: set[str], held_out: set[str], groups: Groups) -> None:
    for side, found in (("held-out", names & held_out), ("train", names - held_out)):
        if not found:
            links = sorted({", ".join(sorted(groups[name])) for name in names if len(groups[name]) > 1})
            tied = f"; near-duplicates tie together: {'; '.join(links)}" if links else ""
            raise ConfigError(
                f"no {side} package for {language}",
                seen=f"packages: {', '.join(sorted(names))}{tied}",
                allowed="at least one package on each side, for each language",
                next_step="add a source, or name other packages in held_out",
            )
