"""Ruby: texts worked out by hand, run by the real ruby, and literals read back by it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.translation.languages.ruby import Ruby
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import FLOAT, INT, STR, dict_of, list_of, optional_of, tuple_of

NEEDS_RUBY = pytest.mark.skipif(shutil.which("ruby") is None, reason="ruby is not installed")
SIGNATURE = Signature(
    "first_long",
    (Parameter("Words", list_of(STR)), Parameter("N", INT)),
    tuple_of(optional_of(STR), dict_of(INT, FLOAT)),
)
EXAMPLE = Assertion((["tea", "#{1}"], 3), ("#{1}", {3: 0.5, 4: 0.5}))
PROBLEM = PythonProblem(
    "Own_2_first_long",
    SIGNATURE,
    (
        "Give the first word of a list with more than N letters, or None,\n"
        "    and a dictionary of shares by length.\n\n    ",
        Example("first_long", EXAMPLE, 'first_long(["tea", "#{1}"], 3)'),
    ),
    (
        EXAMPLE,
        Assertion(([], -2), (None, {})),
        Assertion((['"\\\n# 1'], 0), ('"\\\n# 1', {6: 1.0})),
    ),
)
PROMPT = """\
# Give the first word of an array with more than N letters, or nil,
# and a hash of shares by length.
# >>> first_long.call(["tea", "\\#{1}"], 3)
# ["\\#{1}", {3 => 0.5, 4 => 0.5}]
def first_long(words, n)
"""
TESTS = r"""require 'test/unit'
class TestHumanEval < Test::Unit::TestCase
  def test_first_long
    candidate = method(:first_long)
    assert_equal(["\#{1}", {3 => 0.5, 4 => 0.5}], candidate.call(["tea", "\#{1}"], 3))
    assert_equal([nil, {}], candidate.call([], -2))
    assert_equal(["\"\\
# 1", {6 => 1.0}], candidate.call(["\"\\
# 1"], 0))
  end
end
"""
SOLUTION = """\
  shares = words.group_by(&:length).transform_values { |all| all.length / words.length.to_f }
  [words.find { |word| word.length > n }, shares]
end
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    path = folder / "program.rb"
    path.write_bytes(program.encode())
    return subprocess.run(["ruby", "-Eutf-8", path], capture_output=True, check=False)


def test_the_prompt() -> None:
    assert Ruby(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert Ruby(SIGNATURE).tests(PROBLEM.assertions) == TESTS


def test_names_that_mean_something_else_get_an_underscore() -> None:
    ruby = Ruby(Signature("begin", (Parameter("If", INT), Parameter("x", INT)), INT))
    assert ruby.opening() == "def begin_(if_, x)\n"
    assert "    candidate = method(:begin_)" in ruby.before_tests()
    assert ruby.applied("begin", ["1", "2"]) == "begin_.call(1, 2)"


@NEEDS_RUBY
def test_a_right_solution_passes_and_a_wrong_one_fails(tmp_path: Path) -> None:
    right = run(f"{PROMPT}{SOLUTION}\n{TESTS}", tmp_path)
    wrong = run(f"{PROMPT}{SOLUTION.replace(' > ', ' < ')}\n{TESTS}", tmp_path)
    if b"cannot load such file -- test/unit" in right.stderr:
        pytest.skip("Ruby's test-unit is not installed")
    assert (right.returncode, right.stderr) == (0, b"")
    assert b"1 tests, 3 assertions, 0 failures, 0 errors" in right.stdout
    assert wrong.returncode == 1


@NEEDS_RUBY
@settings(max_examples=8)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("#{$@}\\\"'\r\n0"), max_size=8), min_size=10
    )
)
def test_ruby_reads_every_string_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    literals = Ruby(SIGNATURE).value(texts, list_of(STR))
    found = run(f"{literals}.each {{ |text| puts text.unpack1('H*') }}", tmp_path_factory.mktemp("ruby"))
    assert found.stdout.decode().split("\n") == [*(text.encode().hex() for text in texts), ""]
