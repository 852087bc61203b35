"""The table of target languages: every language that problems can be translated into, by its id.

Adding a language is one module in `languages/` and one line here. Knows nothing of problems.
"""

from __future__ import annotations

from collections.abc import Mapping

from codechoir.errors import ConfigError
from codechoir.languages import language
from codechoir.translation.languages.cpp import Cpp
from codechoir.translation.languages.csharp import CSharp
from codechoir.translation.languages.d import D
from codechoir.translation.languages.go import Go
from codechoir.translation.languages.java import Java
from codechoir.translation.languages.javascript import JavaScript
from codechoir.translation.languages.julia import Julia
from codechoir.translation.languages.lua import Lua
from codechoir.translation.languages.perl import Perl
from codechoir.translation.languages.php import Php
from codechoir.translation.languages.python import Python
from codechoir.translation.languages.r import R
from codechoir.translation.languages.racket import Racket
from codechoir.translation.languages.ruby import Ruby
from codechoir.translation.languages.rust import Rust
from codechoir.translation.languages.scala import Scala
from codechoir.translation.languages.shell import Shell
from codechoir.translation.languages.swift import Swift
from codechoir.translation.languages.typescript import TypeScript
from codechoir.translation.target import Target

TARGETS: Mapping[str, type[Target]] = {
    target.language: target
    for target in (
        *(Cpp, CSharp, D, Go, Java, JavaScript, Julia, Lua, Perl, Php, Python, R, Racket, Ruby, Rust, Scala, Shell),
        *(Swift, TypeScript),
    )
}


def target_of(name: str) -> type[Target]:
    """The target called `name` by us, by The Stack or by MultiPL-E. Raises ConfigError for any other."""
    try:
        return TARGETS[language(name).id]
    except (ConfigError, KeyError):
        raise ConfigError("no translation into this language", seen=name, allowed=", ".join(TARGETS)) from None
