"""Perl: texts worked out by hand, run by the real perl, and literals read back by it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.perl import Perl
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import ANY, BOOL, FLOAT, INT, STR, dict_of, list_of, optional_of, tuple_of

NEEDS_PERL = pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed")
SIGNATURE = Signature(
    "owner_of",
    (Parameter("mails", list_of(STR)), Parameter("ages", dict_of(STR, INT))),
    list_of(tuple_of(optional_of(FLOAT), BOOL)),
)
EXAMPLE = Assertion((["a@b.c"], {"a@b.c": 3}), [(1.5, True)])
PROBLEM = PythonProblem(
    "Own_3_owner_of",
    SIGNATURE,
    (
        "For each of a list of mails, half the age in a dictionary,\n"
        "    or None, and True where it is known, else False.\n    ",
        Example("owner_of", EXAMPLE, 'owner_of(["a@b.c"], {"a@b.c": 3})'),
    ),
    (
        EXAMPLE,
        Assertion((["$x \\ ", 'y"\n'], {'y"\n': -2}), [(None, False), (-1.0, True)]),
    ),
)
PROMPT = """\
# For each of an array of mails, half the age in a hash,
# or undef, and 1 where it is known, else ''.
# >>> owner_of(["a\\@b.c"], {"a\\@b.c" => 3})
# [[1.5, 1]]
sub owner_of {
    my($mails, $ages) = @_;
"""
TESTS = r"""use Test::Deep;


sub testhumaneval {
    my $candidate = \&owner_of;
        if(eq_deeply($candidate->(["a\@b.c"], {"a\@b.c" => 3}),[[1.5, 1]])) {
        print "ok!" }else{
        exit 1;
        }
        if(eq_deeply($candidate->(["\$x \\ ", "y\"
"], {"y\"
" => -2}),[[undef, ""], [-1.0, 1]])) {
        print "ok!" }else{
        exit 1;
        }
}

testhumaneval();"""
SOLUTION = """\
    return [map { exists $ages->{$_} ? [$ages->{$_} / 2, 1] : [undef, ""] } @$mails];
}
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    path = folder / "program.pl"
    path.write_bytes(program.encode())
    return subprocess.run(["perl", path], capture_output=True, check=False)


def test_the_prompt() -> None:
    assert Perl(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert Perl(SIGNATURE).tests(PROBLEM.assertions) == TESTS


@NEEDS_PERL
def test_a_right_solution_passes_and_a_wrong_one_fails(tmp_path: Path) -> None:
    right = run(f"{PROMPT}{SOLUTION}\n{TESTS}", tmp_path)
    wrong = run(f"{PROMPT}{SOLUTION.replace('/ 2', '/ 3')}\n{TESTS}", tmp_path)
    if b"Can't locate Test/Deep.pm" in right.stderr:
        pytest.skip("Perl's Test::Deep is not installed")
    assert (right.returncode, right.stdout, right.stderr) == (0, b"ok!ok!", b"")
    assert (wrong.returncode, wrong.stdout) == (1, b"")


def test_what_perl_cannot_say_is_refused() -> None:
    perl = Perl(SIGNATURE)
    assert perl.value(-(2**63) + 1, ANY) == "-9223372036854775807"
    for value in (2**64, float("inf"), "\ud800", {None: 1}, {(1, 2): 3}):
        with pytest.raises(Untranslatable):
            perl.value(value, ANY)


@NEEDS_PERL
@settings(max_examples=20)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("@$a{}:+-\\\"'\n[0"), max_size=8),
        min_size=10,
    )
)
def test_perl_reads_every_string_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    literals = Perl(SIGNATURE).value(texts, list_of(STR))
    found = run(f'print unpack("H*", $_), "\\n" for @{{{literals}}};', tmp_path_factory.mktemp("perl"))
    assert found.stdout.decode().split("\n") == [*(text.encode().hex() for text in texts), ""]
