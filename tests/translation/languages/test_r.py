"""R: texts worked out by hand, run by the real Rscript, and strings read back by it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.r import R
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import ANY, FLOAT, INT, STR, dict_of, list_of, optional_of

RSCRIPT = shutil.which("Rscript") or ""
NEEDS_R = pytest.mark.skipif(not RSCRIPT, reason="Rscript is not installed")
SIGNATURE = Signature(
    "restock",
    (Parameter("stock", dict_of(STR, INT)), Parameter("next", list_of(list_of(STR))), Parameter("share", FLOAT)),
    optional_of(list_of(FLOAT)),
)
EXAMPLE = Assertion(({"it's": 4}, [["it's"], []], 0.5), [2.0])
PROBLEM = PythonProblem(
    "Own_1_restock",
    SIGNATURE,
    (
        "A share of what a dictionary has,\n    as a list, or None if it lacks something.\n\n    ",
        Example("restock", EXAMPLE, 'restock({"it\'s": 4}, [["it\'s"], []], 0.5)'),
    ),
    (EXAMPLE, Assertion(({"a": 1}, [["b"], ["a"]], 1.0), None), Assertion(({}, [], 1e-07), [])),
)
PROMPT = """\
# A share of what a named list has,
# as a list, or NULL if it lacks something.
# >>> restock(list("it's" = 4), list(c("it's"), c()), 0.5)
# c(2.0)
restock <- function(stock, `next`, share) {"""
TESTS = """\
test_humaneval <- function() {
    candidate <- restock
    stopifnot(isTRUE(all.equal(candidate(list("it's" = 4), list(c("it's"), c()), 0.5), c(2.0))))
    stopifnot(isTRUE(all.equal(candidate(list('a' = 1), list(c('b'), c('a')), 1.0), NULL)))
    stopifnot(isTRUE(all.equal(candidate(list(), c(), 1e-07), c())))
}
test_humaneval()"""
SOLUTION = """
    wanted <- unlist(`next`)
    if (!all(wanted %in% names(stock)) || length(wanted) == 0) return(NULL)
    unname(unlist(stock[wanted])) * share
}
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    path = folder / "program.R"
    path.write_bytes(program.encode())
    return subprocess.run([RSCRIPT, path], capture_output=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})


def test_the_prompt() -> None:
    assert R(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert R(SIGNATURE).tests(PROBLEM.assertions) == TESTS


@NEEDS_R
def test_a_right_solution_passes_and_a_wrong_one_fails(tmp_path: Path) -> None:
    right = run(f"{PROMPT}{SOLUTION}\n{TESTS}", tmp_path)
    wrong = run(f"{PROMPT}{SOLUTION.replace('* share', '+ share')}\n{TESTS}", tmp_path)
    assert (right.returncode, right.stderr) == (0, b"")
    assert wrong.returncode == 1


def test_only_values_of_one_kind_make_a_vector() -> None:
    texts = {
        "c(1, 2.5, -3)": [1, 2.5, -3],
        "c(TRUE, FALSE)": (True, False),
        "list(1, TRUE)": [1, True],
        "list('a', 1)": ["a", 1],
        "list(NULL, NULL)": (None, None),
        "list(list('a' = c(1)), c())": [{"a": [1]}, []],
        "list('5' = 'five', 'TRUE' = 'yes')": {5: "five", True: "yes"},
    }
    assert [R(SIGNATURE).value(value, ANY) for value in texts.values()] == list(texts)


def test_what_r_cannot_say_is_refused() -> None:
    for value in ("a\0b", {"": 1}):
        with pytest.raises(Untranslatable):
            R(SIGNATURE).value(value, ANY)


@NEEDS_R
@settings(max_examples=5, deadline=None)
@given(
    st.lists(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("\\\"'\n\x80\xa0u0")
        ),
        min_size=20,
    )
)
def test_r_reads_every_string_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    literals = R(SIGNATURE).value(texts, list_of(STR))
    folder = tmp_path_factory.mktemp("r")
    found = run(f"for (text in {literals}) cat(c('', utf8ToInt(text)), '\\n')\n", folder)
    assert [list(map(int, line.split())) for line in found.stdout.splitlines()] == [list(map(ord, t)) for t in texts]
