"""Bash: texts worked out by hand, run by the real bash, and strings read back by it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.shell import Shell
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

BASH = shutil.which("bash") or ""
NEEDS_BASH = pytest.mark.skipif(not BASH, reason="bash is not installed")
SIGNATURE = Signature(
    "column", (Parameter("rows", list_of(list_of(STR))), Parameter("place", INT)), optional_of(list_of(STR))
)
EXAMPLE = Assertion(([["a", '"b"'], ["$c", "`d`"]], 1), ["a", "$c"])
PROBLEM = PythonProblem(
    "Own_3_column",
    SIGNATURE,
    (
        "One column of a list\n    of lists, or None.\n\n    ",
        Example("column", EXAMPLE, "column([['a', '\"b\"'], ['$c', '`d`']], 1)"),
    ),
    (
        EXAMPLE,
        Assertion(([], 2), []),
        Assertion(([["\\"], ["x"]], 3), None),
    ),
)
PROMPT = r"""#!/bin/bash
# One column of a list
# of lists, or None.
# >>> $(column "a \"b\"\n\$c \`d\`" "1")
# "a \$c"
#
# $1 is a newline-separated, space-separated list
# $2 is an integer
column() {
"""
TESTS = r"""}

candidate() {
    column "$@"
}

set -e
run_test() {
    [[ $(candidate "a \"b\"\n\$c \`d\`" "1") = "a \$c" ]]
    [[ $(candidate "" "2") = "" ]]
    [[ $(candidate "\\\nx" "3") = "None" ]]
}

run_test"""
SOLUTION = r"""    if [[ $2 = 3 ]]; then echo None; return; fi
    local row found=()
    while read -ra row; do found+=("${row[$2 - 1]}"); done <<< "${1//\\n/$'\n'}"
    echo "${found[*]}"
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    path = folder / "program.sh"
    path.write_bytes(program.encode())
    return subprocess.run([BASH, path], capture_output=True, check=False)


def test_the_prompt() -> None:
    assert Shell(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert Shell(SIGNATURE).tests(PROBLEM.assertions) == TESTS


@NEEDS_BASH
def test_a_right_solution_passes_and_a_wrong_one_fails(tmp_path: Path) -> None:
    right = run(f"{PROMPT}{SOLUTION}\n{TESTS}", tmp_path)
    wrong = run(f"{PROMPT}{SOLUTION.replace('- 1', '- 0')}\n{TESTS}", tmp_path)
    assert (right.returncode, right.stderr) == (0, b"")
    assert wrong.returncode == 1


@pytest.mark.parametrize(
    ("type", "spoken"),
    [
        (list_of(ANY), "a space-separated list"),
        (list_of(tuple_of(INT, INT)), "a newline-separated, space-separated list"),
        (tuple_of(INT, STR), "a space-separated list"),
        (Type("many", (STR,)), "a space-separated list"),
        (dict_of(STR, STR), "a two column CSV in key,value order"),
        (FLOAT, "a floating point"),
        (STR, "a string"),
        (BOOL, "a $bool"),
        (optional_of(STR), "an argument"),
        (union_of(INT, STR), "an argument"),
    ],
)
def test_the_model_is_told_how_a_parameter_is_encoded(type: Type, spoken: str) -> None:
    assert Shell(Signature("f", (Parameter("x", type),), INT)).opening() == f"#\n# $1 is {spoken}\nf() {{\n"


def test_without_parameters_nothing_is_told() -> None:
    shell = Shell(Signature("now", (), STR))
    assert (shell.opening(), shell.call("now", ())) == ("now() {\n", "$(now )")


def test_values_become_words_and_lines() -> None:
    texts: dict[str, Value] = {
        '"1 2.5 true None"': (1, 2.5, True, None),
        r'"\n1\n2 3"': [[], [1], [2, 3]],
        r'"a,1\nb,x"': {"a": 1, "b": "x"},
        '"4   x"': [4, {}, [], "x"],
        '" a"': ["", "a"],
        r'"wait\!\nnow"': "wait!\nnow",
    }
    assert [Shell(SIGNATURE).value(value, ANY) for value in texts.values()] == list(texts)


@pytest.mark.parametrize(
    "value", [["a b"], ["a\tb"], [[["x"]]], [[], []], [{"a": 1}], {"a": [1]}, {"a b": 1}, [1, [2]], [[1, [2]]]]
)
def test_what_could_not_be_read_back_is_refused(value: Value) -> None:
    with pytest.raises(Untranslatable):
        Shell(SIGNATURE).value(value, ANY)


@NEEDS_BASH
@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0\n!") | st.sampled_from("\\\"'$`*~{}#\r ")
        ),
        min_size=10,
    )
)
def test_bash_reads_every_string_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    literals = " ".join(Shell(SIGNATURE).value(text, STR) for text in texts)
    found = run(f"printf '%s\\0' {literals}", tmp_path_factory.mktemp("bash"))
    assert found.stdout.decode().split("\0") == [*texts, ""]
