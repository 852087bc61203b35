"""Licence names as they are written, and which of them are permissive."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_spdx_licensing

from codechoir.data.files.spdx import RATINGS, all_of, canonical, ids_in, ids_rated, permitted_part


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("MIT", "MIT"),
        ("mit", "MIT"),
        ("The MIT License", "MIT"),
        ("OSI Approved :: MIT License", "MIT"),
        ("Apache 2.0", "Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("BSD (3 clause)", "BSD-3-Clause"),
        ("BSD", "BSD-3-Clause"),
        ("2-Clause BSD", "BSD-2-Clause"),
        ("GPL-2.0", "GPL-2.0-only"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("GPLv3", "GPL-3.0-only"),
        ("GPL", "GPL-1.0-or-later"),
        ("OSI Approved :: GNU Lesser General Public License v2 or later (LGPLv2+)", "LGPL-2.0-or-later"),
        ("GNU Affero General Public License v3", "AGPL-3.0-only"),
        # Debian's short names
        ("Expat", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("Artistic or GPL-1+", "Artistic-1.0-Perl OR GPL-1.0-or-later"),
        ("Expat and BSD-3-clause", "BSD-3-Clause AND MIT"),
        ("GPL-2 or Expat, and Apache-2.0", "Apache-2.0 AND (GPL-2.0-only OR MIT)"),
        ("perl and MIT", "MIT AND (Artistic-1.0-Perl OR GPL-1.0-or-later)"),
        # npm, crates
        ("(MIT OR GPL-2.0)", "GPL-2.0-only OR MIT"),
        ("MIT/Apache-2.0", "Apache-2.0 OR MIT"),
        ("Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ("MIT, BSD", "BSD-3-Clause AND MIT"),
    ],
)
def test_names_that_are_known(name: str, expression: str) -> None:
    assert canonical(name) == expression
    assert canonical(f"  {name.replace(' ', '  ')}\n") == expression
    assert canonical(expression) == expression


@pytest.mark.parametrize(
    "name",
    [
        "",
        "UNLICENSED",
        "SEE LICENSE IN LICENSE.md",
        "Proprietary",
        "MIT-like",
        "MIT AND",
        "OR",
        "(",
        "(MIT",
        "MIT OR Mine",
        "GPL-2+ with Font exception",
        "LicenseRef-mine",
        "MIT " * 100,
        "((((" * 60,
    ],
)
def test_names_that_are_not_known(name: str) -> None:
    assert canonical(name) is None


@given(st.text(max_size=40) | st.text(alphabet="MITor and()/,;-+ GPL2", max_size=30))
def test_any_name_is_known_in_one_form_or_not_at_all(name: str) -> None:
    known = canonical(name)
    assert known is None or canonical(known) == known


def test_every_rated_id_is_spdxs_own() -> None:
    """By the library's copy of SPDX's list."""
    licensing = get_spdx_licensing()
    for name in ids_rated("lead"):
        assert str(licensing.parse(name, validate=True)) == name
        assert canonical(name.upper()) == name


def test_ratings_add_up() -> None:
    sets = [ids_rated(rating) for rating in RATINGS]
    assert [len(one) for one in sets] == [2, 30, 148, 220]
    assert all(better < worse for better, worse in itertools.pairwise(sets))


@pytest.mark.parametrize(
    ("name", "rating"),  # looked up on the published list
    [
        ("BlueOak-1.0.0", "gold"),
        ("MIT", "silver"),
        ("Apache-2.0", "silver"),
        ("BSD-2-Clause", "silver"),
        ("ISC", "silver"),
        ("BSD-3-Clause", "bronze"),
        ("0BSD", "bronze"),
        ("Unlicense", "bronze"),
        ("Zlib", "bronze"),
        ("WTFPL", "lead"),
        ("Artistic-1.0", "lead"),
    ],
)
def test_a_licence_has_its_rating_and_no_better_one(name: str, rating: str) -> None:
    assert [one for one in RATINGS if name in ids_rated(one)] == list(RATINGS[RATINGS.index(rating) :])


@pytest.mark.parametrize(
    "name", ["GPL-2.0-only", "LGPL-2.1-or-later", "AGPL-3.0-only", "MPL-2.0", "EPL-2.0", "CC-BY-SA-4.0"]
)
def test_copyleft_is_not_rated(name: str) -> None:
    assert name not in ids_rated("lead")


A = frozenset({"MIT", "Apache-2.0", "BSD-3-Clause"})


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("MIT", "MIT"),
        ("GPL-2.0-only", None),
        ("GPL-2.0-only OR MIT", "MIT"),
        ("GPL-2.0-only AND MIT", None),
        ("Apache-2.0 OR MIT", "Apache-2.0 OR MIT"),
        ("MIT AND (BSD-3-Clause OR GPL-2.0-only)", "BSD-3-Clause AND MIT"),
        ("MIT AND (MPL-2.0 OR GPL-2.0-only)", None),
        ("Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", None),
    ],
)
def test_the_part_of_an_expression_that_may_be_chosen(expression: str, part: str | None) -> None:
    assert permitted_part(expression, A) == part


def test_an_exception_may_be_what_makes_a_licence_allowed() -> None:
    named = "GPL-2.0-only WITH Classpath-exception-2.0"
    assert permitted_part(named, A | {named}) == named
    assert permitted_part("GPL-2.0-only", A | {named}) is None


NAMES = st.sampled_from(["MIT", "Apache-2.0", "BSD-3-Clause", "GPL-2.0-only", "MPL-2.0"])
EXPRESSIONS = st.recursive(NAMES, lambda inner: st.tuples(st.sampled_from(["AND", "OR"]), inner, inner), max_leaves=6)


def written(tree: str | tuple) -> str:
    return tree if isinstance(tree, str) else f"({written(tree[1])} {tree[0]} {written(tree[2])})"


def is_allowed(tree: str | tuple, allowed: frozenset[str]) -> bool:
    if isinstance(tree, str):
        return tree in allowed
    return (all if tree[0] == "AND" else any)(is_allowed(one, allowed) for one in tree[1:])


@given(EXPRESSIONS)
def test_what_may_be_chosen_follows_and_and_or(tree: str | tuple) -> None:
    expression = canonical(written(tree))
    assert expression is not None
    part = permitted_part(expression, A)
    assert (part is not None) == is_allowed(tree, A)
    assert part is None or (ids_in(part) <= A and canonical(part) == part)


def test_all_of_several() -> None:
    assert all_of([]) is None
    assert all_of(["MIT", "MIT"]) == "MIT"
    assert all_of(["GPL-2.0-only OR MIT", "ISC"]) == "ISC AND (GPL-2.0-only OR MIT)"
