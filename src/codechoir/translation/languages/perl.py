"""Perl: what MultiPL-E's problems look like in it.

Owns the language's data and literals; `target.py` owns the order of prompt and tests. Knows nothing of Python's syntax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from codechoir.translation.errors import Untranslatable
from codechoir.translation.languages.literals import number
from codechoir.translation.target import CANDIDATE, Target, Terms
from codechoir.translation.types import Type

# Ends of line stay as they are: Perl's strings may span lines. An @ is escaped only where Perl would read an array
# after it; MultiPL-E lets it read arrays and scalars.
_SPECIAL = re.compile(r"""["\\$\x00-\x09\x0b-\x1f\x7f]|[\ud800-\udfff]|@(?=[\w:'{$+-])""")


class Perl(Target):
    """Lists and tuples are array references, dicts are hash references, True is 1 and False the empty string."""

    language = "perl"
    terms = Terms(array="array", list="array", tuple="array", dictionary="hash", none="undef", true="1", false="''")
    comment = "# "

    def opening(self) -> str:
        parameters = ", ".join(f"${each.name}" for each in self.signature.parameters)
        return f"sub {self.signature.name} {{\n    my({parameters}) = @_;\n"

    def before_tests(self) -> Sequence[str]:
        return ("use Test::Deep;\n", "", "sub testhumaneval {", f"    my $candidate = \\&{self.signature.name};")

    def after_tests(self) -> Sequence[str]:
        return ("}", "", "testhumaneval();")

    def applied(self, function: str, arguments: Sequence[str]) -> str:
        called = f"${function}->" if function == CANDIDATE else function
        return f"{called}({', '.join(arguments)})"

    def assertion(self, call: str, expected: str) -> str:
        return f'        if(eq_deeply({call},{expected})) {{\n        print "ok!" }}else{{\n        exit 1;\n        }}'

    def literal(self, value: bool | int | float | str | None, type: Type) -> str:
        match value:
            case None:
                return "undef"
            case bool():
                return "1" if value else '""'
            case str():
                return f'"{_SPECIAL.sub(_escaped, value)}"'
            case _:
                return number(value)

    def list_of(self, items: Sequence[str], type: Type) -> str:
        return f"[{', '.join(items)}]"

    def dict_of(self, pairs: Sequence[tuple[str, str]], type: Type) -> str:
        if any(key == "undef" or key.startswith(("[", "{")) for key, _ in pairs):
            raise Untranslatable("a hash's keys are strings")
        return "{" + ", ".join(f"{key} => {value}" for key, value in pairs) + "}"


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character > "\x7f":
        raise Untranslatable("a text holds half of a surrogate pair")
    return f"\\{character}" if character in '"\\$@' else f"\\x{ord(character):02x}"
