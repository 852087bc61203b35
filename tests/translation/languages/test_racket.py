"""Racket: texts worked out by hand, run by the real racket, and strings read back by it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.translation.languages.racket import Racket
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import BOOL, FLOAT, INT, STR, dict_of, list_of, optional_of, tuple_of

RACKET = shutil.which("racket") or ""
NEEDS_RACKET = pytest.mark.skipif(not RACKET, reason="racket is not installed")
SIGNATURE = Signature(
    "restock",
    (Parameter("stock", dict_of(STR, INT)), Parameter("wanted", list_of(STR)), Parameter("all_of_it", BOOL)),
    optional_of(tuple_of(FLOAT, list_of(INT))),
)
EXAMPLE = Assertion(({'say "a"': 3, "b": -1}, ["b"], True), (-1.0, [-1]))
PROBLEM = PythonProblem(
    "Own_2_restock",
    SIGNATURE,
    (
        "Sum and items of what a dictionary has,\n    as a tuple, or None.\n\n    ",
        Example("restock", EXAMPLE, "restock({'say \"a\"': 3, 'b': -1}, ['b'], True)"),
    ),
    (EXAMPLE, Assertion(({"\\": 2}, ["\\"], False), None), Assertion(({}, [], True), (0.0, []))),
)
PROMPT = """\
#lang racket

;; Sum and items of what a hash has,
;; as a list, or #f.
;; >>> (restock #hash(("say \\"a\\"" .  3) ("b" .  -1)) (list "b") #t)
;; (list -1.0 (list -1))
(define (restock stock wanted all_of_it)
"""
TESTS = """\
(require rackunit)

(define (test-humaneval)\x20

  (let (( candidate restock))
    (check-within (candidate #hash(("say \\"a\\"" .  3) ("b" .  -1)) (list "b") #t) (list -1.0 (list -1)) 0.001)
    (check-within (candidate #hash(("\\\\" .  2)) (list "\\\\") #f) #f 0.001)
    (check-within (candidate #hash() (list ) #t) (list 0.0 (list )) 0.001)
))

(test-humaneval)"""
SOLUTION = """\
  (define found (map (lambda (name) (hash-ref stock name)) wanted))
  (if all_of_it (list (exact->inexact (apply + found)) found) #f))
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    path = folder / "program.rkt"
    path.write_bytes(program.encode())
    return subprocess.run([RACKET, path], capture_output=True, check=False)


def test_the_prompt() -> None:
    assert Racket(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert Racket(SIGNATURE).tests(PROBLEM.assertions) == TESTS


@NEEDS_RACKET
def test_a_right_solution_passes_and_a_wrong_one_fails(tmp_path: Path) -> None:
    right = run(f"{PROMPT}{SOLUTION}\n{TESTS}", tmp_path)
    wrong = run(f"{PROMPT}{SOLUTION.replace('found) #f', 'found) #t')}\n{TESTS}", tmp_path)
    if b"collection not found" in right.stderr:
        pytest.skip("Racket's rackunit is not installed")
    assert (right.returncode, right.stderr) == (0, b"")
    assert b"FAILURE" in wrong.stderr  # rackunit exits with 0 all the same


@NEEDS_RACKET
def test_a_hash_of_lists_holds_lists(tmp_path: Path) -> None:
    text = Racket(SIGNATURE).value({"a": [1, 2], "b": []}, dict_of(STR, list_of(INT)))
    assert text == '(hash "a" (list 1 2) "b" (list ))'
    found = run(f'#lang racket\n(write (hash-ref {text} "a"))', tmp_path)
    assert found.stdout == b"(1 2)"


@NEEDS_RACKET
@settings(max_examples=4, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\\\"'\n0u")), min_size=20))
def test_racket_reads_every_string_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    literals = Racket(SIGNATURE).value(texts, list_of(STR))
    program = f"#lang racket/base\n(for ([text {literals}]) (writeln (map char->integer (string->list text))))"
    found = run(program, tmp_path_factory.mktemp("racket")).stdout.decode().splitlines()
    assert [list(map(int, line.strip("()").split())) for line in found] == [list(map(ord, text)) for text in texts]
