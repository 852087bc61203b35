"""Rust: texts worked out by hand, and judged by the real compiler where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.rust import Rust
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    STR,
    Type,
    Value,
    dict_of,
    list_of,
    optional_of,
    tuple_of,
    union_of,
)

SIGNATURE = Signature(
    "tally_words",
    (Parameter("words", list_of(STR)), Parameter("type", FLOAT), Parameter("known", dict_of(STR, BOOL))),
    optional_of(list_of(tuple_of(INT, optional_of(INT)))),
)
EXAMPLE = Assertion((['a"\\\n'], -1, {"é": True}), [(1, None), (2, -3)])
PROBLEM = PythonProblem(
    "Own_1_tally_words",
    SIGNATURE,
    ("\n    A dictionary of\n    a list, or None.\n\n", Example("tally_words", EXAMPLE, "tally_words(...)")),
    (EXAMPLE, Assertion(([], 0.5, {}), None)),
)
CALL = r"""vec![String::from("a\"\\
")], -1.0, HashMap::from([(String::from("é"), true)])"""
PROMPT = r"""use std::collections::HashMap;

/// A HashMap of
/// a vector, or None.
/// >>> tally_words(vec![String::from("a\"\\
/// ")], -1.0, HashMap::from([(String::from("é"), true)]))
/// Some(vec![(1, None), (2, Some(-3))])
fn tally_words(words: Vec<String>, r#type: f64, known: HashMap<String, bool>) -> Option<Vec<(isize, Option<isize>)>> {
"""
TESTS = rf"""}}

fn main() {{
    let candidate = tally_words;
    assert_eq!(candidate({CALL}), Some(vec![(1, None), (2, Some(-3))]));
    assert_eq!(candidate(Vec::<String>::new(), 0.5, HashMap::from([])), None);
}}
"""
BODY = """    if words.len() == 0 && r#type == 0.5 { return None; }
    let known = known["é"] && words[0].chars().count() == 4;
    Some(vec![(1, None), (2, if known { Some(-3) } else { None })])
"""


def test_the_prompt() -> None:
    assert Rust(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert Rust(SIGNATURE).tests(PROBLEM.assertions) == TESTS


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (3, FLOAT, "3.0"),
        ((1,), tuple_of(INT), "(1,)"),
        ([[], [1.5]], list_of(list_of(FLOAT)), "vec![vec![], vec![1.5]]"),
        ("\x07", STR, r'String::from("\u{7}")'),
    ],
)
def test_values(value: Value, type: Type, text: str) -> None:
    assert Rust(SIGNATURE).value(value, type) == text


def test_only_maps_are_imported() -> None:
    assert Rust(Signature("f", (Parameter("x", list_of(INT)),), STR)).preamble() == ""


@pytest.mark.parametrize("type", [ANY, union_of(INT, STR), Type("many", (INT,))])
def test_what_rust_has_no_type_for_is_refused(type: Type) -> None:
    with pytest.raises(Untranslatable):
        Rust(Signature("f", (), type)).opening()


@pytest.mark.skipif(shutil.which("rustc") is None, reason="no Rust compiler")
@pytest.mark.parametrize(("body", "passes"), [(BODY, True), (BODY.replace("-3", "-4"), False)])
def test_the_compiler_takes_it_and_tells_right_from_wrong(tmp_path: Path, body: str, passes: bool) -> None:
    (tmp_path / "own.rs").write_text(PROMPT + body + TESTS)
    subprocess.run(["rustc", "--edition", "2021", "own.rs"], cwd=tmp_path, check=True, capture_output=True)
    ran = subprocess.run([tmp_path / "own"], check=False, capture_output=True)
    assert (ran.returncode == 0) == passes
