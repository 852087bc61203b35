"""A function's description as prose and examples.

In goes the docstring; out come its parts in order, so that joining the prose and the examples' sources gives the
docstring again. An example is a doctest, or lines of prose that say the same: `f(1) == 2`, `f(1) ➞ 2`,
`For x = 1 the output should be 2.`, `Input: x = 1` with `Output: 2` below. What is not surely one stays prose.
Knows nothing of types and of target languages.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from codechoir.translation.constants import constant
from codechoir.translation.errors import Untranslatable
from codechoir.translation.problem import Assertion, Example
from codechoir.translation.types import Value

_SPOKEN: dict[str, Value] = {"true": True, "false": False}  # as prose writes them
_WORDY = (ast.BoolOp, ast.Compare, ast.ListComp, ast.GeneratorExp)  # prose rather than a value: `2 or 3`
_MOST_LINES = 6  # of one example
_CALL = re.compile(r"\s*(?:>>>|\*|-|assert\b|[Ff]or\b|[Ii]f\b)?\s*(?P<call>\w+\(.*\))\s*")
_GIVES = re.compile(
    r"#?\s*(?:=+>|-+>|={1,3}|➞|➡|→|(?:returns?|gives|should return)\s*(?:=\s*)?)\s*(?P<value>\S.*)", re.S
)
_NAMED = re.compile(
    r"\s*(?:For|If)\s+(?P<input>\w+\s*=.*?),?\s+the (?:.* the )?(?:output|result|answer) (?:should be|is|will be)\s+"
    r"(?P<value>\S.*)",
    re.S,
)
_INPUT = re.compile(r"\s*Input\s*:\s*(?P<input>\S.*)\n\s*Output\s*:\s*(?P<value>\S.*)", re.S)
_ASSIGNED = re.compile(r"(?:^|,)\s*([A-Za-z_]\w*)\s*=(?!=)")


def parts_of(docstring: str, function: str, parameters: Sequence[str]) -> tuple[str | Example, ...]:
    """The parts of the docstring of `function`, whose parameters have these names."""
    lines = docstring.splitlines(keepends=True)
    parts: list[str | Example] = []
    place = 0
    while place < len(lines):
        found = None if _is_definition(lines[place:], function) else _example(lines[place:], function, parameters)
        if found is not None:
            parts.append(found)
            place += len(found.source.splitlines())
            continue
        if parts and isinstance(parts[-1], str):
            parts[-1] += lines[place]
        else:
            parts.append(lines[place])
        place += 1
    return tuple(parts)


def _is_definition(lines: Sequence[str], function: str) -> bool:
    """Whether the lines from here on define the function by itself: `f(0) = 1` and `f(n) = f(n-1)` below."""
    for line in lines:
        calls = line.count(f"{function}(")
        if not calls or line.lstrip().startswith(">>>"):
            return False
        if calls > 1:
            return True
    return False


def _example(lines: Sequence[str], function: str, parameters: Sequence[str]) -> Example | None:
    """The example that the first of `lines` begins, or None."""
    if lines[0].lstrip().startswith(">>>"):
        doctest = _doctest(lines, parameters)
        if doctest is not None:
            return doctest
    for number in range(1, min(_MOST_LINES, len(lines)) + 1):
        source = "".join(lines[:number])
        if not lines[number - 1].strip():
            return None
        if (match := _INPUT.fullmatch(source)) or (match := _NAMED.fullmatch(source)):
            texts = _inputs(match["input"], parameters)
            if texts is not None and (found := _read(function, texts, match["value"], source)):
                return found
        for call, value in _said(source):
            if found := _called(call, value, source, parameters):
                return found
    return None


def _doctest(lines: Sequence[str], parameters: Sequence[str]) -> Example | None:
    """`>>> call` with its value on the lines below; without any it is None that is not shown."""
    for call_lines in range(1, min(_MOST_LINES, len(lines)) + 1):
        call = "".join(lines[:call_lines]).strip().removeprefix(">>>")
        if _tree(call) is None:
            continue
        below = lines[call_lines : call_lines + _MOST_LINES]
        if not below or not below[0].strip() or below[0].lstrip().startswith(">>>"):
            return _called(call, "None", "".join(lines[:call_lines]), parameters)
        for count in range(1, len(below) + 1):
            source = "".join(lines[: call_lines + count])
            if found := _called(call, "".join(below[:count]), source, parameters):
                return found
    return None


def _said(text: str) -> Iterator[tuple[str, str]]:
    """The ways to read `text` as a call and what it gives."""
    start = _CALL.match(text.replace("\n", " "))
    if start is None:
        return
    begin = start.start("call")
    for end in (match.end() for match in re.finditer(r"\)", text)):
        if (gives := _GIVES.fullmatch(text[end:].strip())) and _tree(text[begin:end]) is not None:
            yield text[begin:end], gives["value"]


def _inputs(text: str, parameters: Sequence[str]) -> list[str] | None:
    """The parameters' texts in `x = 1, y = 2`, or in a single value; None where they are not just these."""
    starts = list(_ASSIGNED.finditer(text))
    if not starts:
        return [text] if len(parameters) == 1 else None
    if [start[1] for start in starts] != list(parameters):
        return None
    ends = [*(start.start() for start in starts[1:]), len(text)]
    return [text[start.end() : end].strip().rstrip(",") for start, end in zip(starts, ends, strict=True)]


def _called(call: str, value: str, source: str, parameters: Sequence[str]) -> Example | None:
    """The example of a call's text and a value's, if they are one."""
    match _tree(call):
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]) if len(arguments) == len(parameters):
            return _read(function, [_argument(each) for each in arguments], value, source)
    return None


def _argument(node: ast.expr) -> str:
    """An argument's text; a bare word stands for the text that it is (`f(abc) => True`)."""
    if isinstance(node, ast.Name) and node.id not in _SPOKEN:
        return repr(node.id)
    return ast.unparse(node)


def _read(function: str, arguments: Sequence[str], value: str, source: str) -> Example | None:
    for text in _values(value):
        try:
            given = tuple(constant(_expression(argument), _SPOKEN) for argument in arguments)
            return Example(function, Assertion(given, constant(_expression(text), _SPOKEN)), source)
        except Untranslatable:
            continue
    return None


def _values(text: str) -> Iterator[str]:
    """What `text` may say the value is: all of it, or what stands before a remark or after the last `=`."""
    text = text.strip()
    bare = re.sub(r"(?<=\S)\.$", "", text)
    yield bare
    yield bare.split("#")[0]
    yield re.sub(r"\s+\([^()]*\)$", "", bare)
    worked, equals, result = bare.rpartition("=")
    if equals and (tree := _tree(worked)) is not None and _equal(tree, _tree(result)):
        yield result


def _equal(worked: ast.expr, result: ast.expr | None) -> bool:
    try:
        return result is not None and constant(worked) == constant(result)
    except Untranslatable:
        return False


def _expression(text: str) -> ast.expr:
    found = _tree(text)
    if found is None or any(isinstance(node, _WORDY) for node in ast.walk(found)):
        raise Untranslatable(f"{text} is no expression")
    return found


def _tree(text: str) -> ast.expr | None:
    try:
        return ast.parse(f"({text.strip()})", mode="eval").body if text.strip() else None
    except (SyntaxError, ValueError):
        return None
