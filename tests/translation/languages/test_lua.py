"""Lua: texts worked out by hand, run by the real lua, and literals read back by it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.lua import Lua
from codechoir.translation.problem import Assertion, Example, Parameter, PythonProblem, Signature
from codechoir.translation.types import ANY, BOOL, FLOAT, INT, STR, dict_of, list_of, optional_of

LUA = next(filter(None, map(shutil.which, ("lua5.4", "lua"))), "")
NEEDS_LUA = pytest.mark.skipif(not LUA, reason="lua is not installed")
SIGNATURE = Signature(
    "pick",
    (Parameter("stock", dict_of(STR, INT)), Parameter("key", STR), Parameter("loud", BOOL)),
    optional_of(list_of(FLOAT)),
)
EXAMPLE = Assertion(({"it's": 3}, "it's", False), [1.5, 6.0])
PROBLEM = PythonProblem(
    "Own_4_pick",
    SIGNATURE,
    (
        "Half and double of what a dictionary has, as a list, or None.\n    True gives the double alone.\n    ",
        Example("pick", EXAMPLE, 'pick({"it\'s": 3}, "it\'s", False)'),
    ),
    (
        EXAMPLE,
        Assertion(({}, "\\n", True), None),
        Assertion(({"\"'\n": -1}, "\"'\n", True), [-2.0]),
    ),
)
PROMPT = """\
-- Half and double of what a table has, as a table, or nil.
-- true gives the double alone.
-- >>> pick({["it's"] = 3}, "it's", false)
-- {1.5, 6.0}
local function pick(stock, key, loud)
"""
TESTS = r"""lu = require('luaunit')

function test_humaneval()
local candidate = pick
    lu.assertEquals(candidate({["it's"] = 3}, "it's", false), {1.5, 6.0})
    lu.assertEquals(candidate({}, '\\n', true), None)
    lu.assertEquals(candidate({['"\'\n'] = -1}, '"\'\n', true), {-2.0})
end

os.exit(lu.LuaUnit.run())"""
SOLUTION = """\
    local found = stock[key]
    if found == nil then return nil end
    if loud then return {found * 2} end
    return {found / 2, found * 2}
end
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    path = folder / "program.lua"
    path.write_bytes(program.encode())
    return subprocess.run([LUA, path], capture_output=True, check=False)


def test_the_prompt() -> None:
    assert Lua(SIGNATURE).prompt(PROBLEM) == PROMPT


def test_the_tests() -> None:
    assert Lua(SIGNATURE).tests(PROBLEM.assertions) == TESTS


def test_names_that_mean_something_else_get_an_underscore() -> None:
    lua = Lua(Signature("end", (Parameter("until", INT), Parameter("x", INT)), INT))
    assert lua.opening() == "local function end_(until_, x)\n"
    assert "local candidate = end_" in lua.before_tests()
    assert lua.applied("end", ["1", "2"]) == "end_(1, 2)"


@NEEDS_LUA
def test_a_right_solution_passes_and_a_wrong_one_fails(tmp_path: Path) -> None:
    right = run(f"{PROMPT}{SOLUTION}\n{TESTS}", tmp_path)
    wrong = run(f"{PROMPT}{SOLUTION.replace('return nil', 'return {}')}\n{TESTS}", tmp_path)
    if b"module 'luaunit' not found" in right.stderr:
        pytest.skip("Lua's luaunit is not installed")
    assert (right.returncode, right.stderr) == (0, b"")
    assert wrong.returncode == 1


def test_what_lua_cannot_say_is_refused() -> None:
    lua = Lua(SIGNATURE)
    assert lua.value([2**63 - 1, -(2**63) + 1], ANY) == "{9223372036854775807, -9223372036854775807}"
    for value in (2**63, -(2**63), "\ud800", {(1, 2): 3}, {None: 3}):
        with pytest.raises(Untranslatable):
            lua.value(value, ANY)


@given(st.text(st.characters(codec="ascii") | st.sampled_from("'\"\\"), max_size=8))
def test_a_string_is_written_as_python_writes_it(text: str) -> None:
    assert Lua(SIGNATURE).value(text, STR) == repr(text)


@NEEDS_LUA
@settings(max_examples=20)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\\\"'\r\n0[]"), max_size=8), min_size=10
    )
)
def test_lua_reads_every_string_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    literals = Lua(SIGNATURE).value(texts, list_of(STR))
    hexadecimal = "text:gsub('.', function(c) return ('%02x'):format(c:byte()) end)"
    found = run(f"for _, text in ipairs({literals}) do print(({hexadecimal})) end", tmp_path_factory.mktemp("lua"))
    assert found.stdout.decode().split("\n") == [*(text.encode().hex() for text in texts), ""]
