"""Detection on small files as they occur: what each suffix may hide, what is only doubtful, and what is clear."""

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.data.sources.detection import _SHARED, candidates, detect
from codechoir.languages import LANGUAGES, language_of_path


def found(path: str, content: str) -> tuple[str | None, str]:
    detection = detect(path, dedent(content).lstrip("\n"))
    return (detection.language.id if detection.language else None, detection.doubt)


# path, expected language, content; all without doubt
CLEAR = [
    ("a.py", "python", "import os\n"),
    ("a.py", "python", "#!/usr/bin/env python3\n"),
    ("a.py", "python", "#!/bin/sh\n''':'\nexec python3 \"$0\" \"$@\"\n'''\n"),
    ("a.py", "python", ""),
    ("a.py", "python", "[x for x in y]\n"),
    ("a.py", "python", "{'a': 1}\n"),
    ("a.hs", "haskell", "#!/bin/sh\nmain = print 1\n"),
    ("a.ts", "typescript", "#!/usr/bin/env node\nconst x: number = 1\n"),
    ("a.md", "markdown", "<html>\n<b>bold</b>\n"),
    ("a.js", "javascript", "<!-- hide from old browsers\nalert(1)\n// -->\n"),
    ("a.js", "javascript", "[1, 2].map(f)\n"),
    ("a.js", "javascript", '{"use strict"; f()}\n'),
    ("a.rs", "rust", "#![allow(dead_code)]\nfn main() {}\n"),
    ("a.cs", "csharp", "using System;\nnamespace A { class B {} }\n"),
    ("a.jl", "julia", "function f(x)\n  x; end\n"),
    ("a.cmd", "batchfile", "@echo off\nrem hello\n"),
    ("a.php", "php", "<?php\necho 1;\n"),
    ("a.html", "html", "<!DOCTYPE html>\n<p>Hello</p>\n"),
    ("a.xhtml", "html", '<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml"></html>\n'),
    ("a.sql", "sql", "SELECT 1;\n"),
    # headers
    ("a.h", "cpp", "#pragma once\nnamespace a {\nint f();\n}\n"),
    ("a.h", "cpp", "#include <vector>\n"),
    ("a.h", "cpp", "class Foo : public Bar {\n};\n"),
    ("a.h", "cpp", "template <typename T> T id(T x);\n"),
    ("a.h", "cpp", "int f(const Foo& x);\n"),
    ("a.h", "cpp", "struct A {\n  bool operator==(A other);\n};\n"),
    ("a.h", "cpp", "// -*- C++ -*-\nint f();\n"),
    ("a.h", "c", "/* -*- Mode: C; tab-width: 8 -*- */\nint f();\n"),
    ("a.h", "c", "#ifndef A_H\n#define A_H\n#include <stdint.h>\nint f(int x);\n#endif\n"),
    ("a.h", "c", "/* A class of its own;\n * std::vector has nothing on it. */\ntypedef struct a { int x; } a;\n"),
    ("a.h", "c", "struct list *next(void); // template <class T>\n"),
    (
        "a.h",
        "c",
        """
        #ifdef __cplusplus
        extern "C" {
        namespace a { class B; }
        #endif
        int f(int x);
        """,
    ),
    ("a.h", "c", "const char *sqlite_column_decltype(struct stmt *);\nint operator_type;\n"),
    ("a.h", "c", "#if defined(__cplusplus)\nclass A {\n"),
    ("A.C", "cpp", "int f() {}\n#include <iostream>\n"),
    ("a.C", "c", "typedef int x;\n"),
    # Perl and others
    ("a.pl", "perl", "use strict;\nmy $x = 1;\n"),
    ("a.pl", "perl", "#!/usr/bin/perl -w\nprint 1;\n"),
    ("a.pl", "perl", "print $x->{y};\n"),
    ("a.pl", "perl", "#!/bin/sh\n#! -*-perl-*-\neval 'exec perl -x -wS $0 ${1+\"$@\"}'\n  if 0;\n"),
    ("a.pm", "perl", "package A::B;\n1;\n"),
    ("t/a.t", "perl", "use Test::More tests => 1;\nok(1);\n"),
    # include files
    ("a.inc", "php", "<?php function f() {}\n"),
    ("a.inc", "html", "<div>\n  <p>x</p>\n</div>\n"),
    ("a.inc", "c", "#define A 1\nstatic int x = A;\n"),
    ("a.inc", "cpp", "#define A 1\nnamespace b {}\n"),
    ("a.inc", "assembly", "; constants\nSCREEN equ 0xb800\n  mov ax, bx\n"),
    ("a.inc", "fortran", "      COMMON /BLOCK/ X, Y\n      REAL X\n"),
    ("Rules.inc", "makefile", "OBJS = $(SRCS:.c=.o)\n"),
    # the rest
    ("a.cls", "tex", "\\NeedsTeXFormat{LaTeX2e}\n\\ProvidesClass{a}\n"),
    ("A.cls", "visual-basic", 'VERSION 1.0 CLASS\nBEGIN\nEND\nAttribute VB_Name = "A"\n'),
    ("a.bas", "visual-basic", 'Attribute VB_Name = "A"\nPublic Sub F()\nEnd Sub\n'),
    ("a.frm", "visual-basic", "VERSION 5.00\nBegin VB.Form A\nEnd\n"),
    ("a.f", "fortran", "      PROGRAM A\n      END\n"),
    ("a.for", "fortran", "C     a comment\n"),
    ("a.S", "assembly", "#include <asm.h>\n  .text\n  .globl main\nmain:\n  ret\n"),
    ("a.asm", "assembly", "org 100h\nmov ah, 9\n"),
    ("a.s", "assembly", "loop:\tldr r0, [r1]\n"),
    # names without a suffix
    ("bin/run", "shell", "#!/bin/sh\nset -e\n"),
    ("bin/run", "python", "#!/usr/bin/env -S python3.11 -u\n"),
    ("bin/run", "javascript", "#!/usr/bin/env node\n"),
    ("bin/run", "lua", "#!/usr/local/bin/lua5.1\n"),
    ("debian/rules", "makefile", "#!/usr/bin/make -f\n%:\n\tdh $@\n"),
    ("bin/run", "python", "#!/bin/sh\n''':'\nexec python3 \"$0\" \"$@\"\n'''\n"),
    ("include/vector", "cpp", "// <vector> -*- C++ -*-\n#include <bits/x>\n"),
    ("bin/run", "ruby", "puts 1\n" * 200 + "\n# vim: set ft=ruby sw=2:\n"),
    ("cgi-bin/a.cgi", "perl", "#!/usr/bin/perl\n"),
    ("Makefile", "makefile", "all:\n"),
    ("Dockerfile.test", "dockerfile", "# syntax=docker/dockerfile:1\nFROM debian\n"),
    ("makefile.linux", "makefile", "CC = gcc\nall: a.o\n"),
]


@pytest.mark.parametrize(("path", "expected", "content"), CLEAR)
def test_what_is_clear(path: str, expected: str, content: str) -> None:
    assert found(path, content) == (expected, "")


# path, expected language, doubt, content
DOUBTFUL = [
    ("a.h", "cpp", "suffix .h: no sign of Objective-C, C++ or C", "#define A 1\n"),
    ("a.h", "cpp", "suffix .h: no sign of Objective-C, C++ or C", "int x;\n/* never closed\nclass A {\n"),
    ("a.h", None, "suffix .h: Objective-C", "#import <Foundation/Foundation.h>\n@interface A : NSObject\n@end\n"),
    ("a.h", "python", "suffix .h, but it says Python", "#!/usr/bin/env python3\n"),
    ("a.C", "cpp", "suffix .C: no sign of C++ or C", "int x;\n"),
    ("a.pl", None, "suffix .pl: Prolog", ":- module(a, [b/1]).\nb(X) :- c(X, y), !.\n"),
    ("a.pl", None, "suffix .pl: Prolog", "% facts\nparent(tom, bob).\nparent(bob, ann).\n"),
    ("a.pl", None, "suffix .pl, but it says swipl", "#!/usr/bin/swipl\nmain.\n"),
    ("a.pl", None, "suffix .pl: Prolog", "% -*- Mode: Prolog -*-\n"),
    ("a.pl", "perl", "suffix .pl: no sign of Raku, Perl or Prolog", "+{ a => 1 }\n"),
    ("a.pm", None, "suffix .pm: XPM", "/* XPM */\nstatic char *a[] = {};\n"),
    ("a.pm", None, "suffix .pm: Raku", "unit module A;\nour sub f() is export {}\n"),
    ("a.t", None, "suffix .t: Raku", "use v6;\nuse Test;\n"),
    ("a.t", None, "suffix .t: Cram", "A test\n\n  $ echo 1\n  1\n"),
    ("a.t", None, "suffix .t: no sign of Raku, Perl, Roff or Cram", "x\n"),
    ("a.inc", None, "suffix .inc: Pascal", "{$mode objfpc}\nprocedure A;\n"),
    ("a.cls", None, "suffix .cls: Apex", "public with sharing class A {\n}\n"),
    ("a.cls", None, "suffix .cls: ObjectScript", "Class A.B Extends %Persistent\n{\n}\n"),
    ("a.cls", "tex", "suffix .cls: no sign of TeX, Visual Basic, Apex or ObjectScript", "x\n"),
    ("a.bas", None, "suffix .bas: BASIC", '10 PRINT "HELLO"\n20 GOTO 10\n'),
    ("a.bas", None, "suffix .bas: FreeBASIC", '#include "fbgfx.bi"\nsub f\nend sub\n'),
    ("a.f", None, "suffix .f: Forth", ": square dup * ;\n"),
    ("a.s", "assembly", "suffix .s: no sign of Assembly", "x <- 1\n"),
    ("a.cs", None, "suffix .cs: Smalltalk", "!Object methodsFor: 'a'!\nb ^1! !\n"),
    ("a.md", None, "suffix .md: GCC machine description", ';; x\n(define_insn "addsi3" [])\n'),
    ("a.jl", None, "suffix .jl: Lisp", ";; sawfish\n(defun f () 1)\n"),
    ("a.cmd", None, "suffix .cmd: Rexx", "/* REXX */\nsay 1\n"),
    ("a.rs", None, "suffix .rs: RenderScript", "#pragma version(1)\n#pragma rs java_package_name(a)\n"),
    ("a.sql", "sql", "suffix .sql: no sign of SQL", "1,2,3\n"),
    ("a.ts", None, "suffix .ts, but XML", '<?xml version="1.0"?>\n<!DOCTYPE TS>\n<TS version="2.1"></TS>\n'),
    ("a.ts", None, "suffix .ts, but XML", "<!DOCTYPE TS><TS></TS>\n"),
    ("a.js", "html", "suffix .js, but HTML", "\n<!DOCTYPE html>\n<html><body>Not found</body></html>\n"),
    ("a.js", None, "suffix .js, but JSON", '{"a": [1, 2, null]}\n'),
    ("a.js", "php", "suffix .js, but PHP", "<?php header('x'); ?>\nvar a;\n"),
    ("a.py", None, "suffix .py, but JSON", '[\n  {"a": 1}\n]\n'),
    ("a.py", "html", "suffix .py, but HTML", "<html>\n"),
    ("a.py", "javascript", "suffix .py, but #! names node", "#!/usr/bin/env node\n"),
    ("a.sh", "python", "suffix .sh, but #! names python", "#!/usr/bin/python3\n"),
    ("a.sh", "shell", "suffix .sh, but #! names tclsh", "#!/usr/bin/tclsh8.6\n"),
    ("Makefile", None, "name Makefile, but XML", "<?xml version='1.0'?>\n"),
    ("a.html", None, "suffix .html, but XML", '<?xml version="1.0"?>\n<help/>\n'),
    ("a.html", "html", "suffix .html: holds no tag", "just text, 1 < 2\n"),
    ("a.html", "html", "suffix .html: a template (Jinja or Django)", "<p>{% if a %}x{% endif %}</p>\n"),
    ("a.html", "html", "suffix .html: a template (Mustache or Angular)", "<p>{{ a }}</p>\n"),
    ("a.html", "html", "suffix .html: a template (PHP)", "<p><?php echo 1 ?></p>\n"),
    ("a.html", "html", "suffix .html: a template (ERB, EJS or ASP)", "<p><%= a %></p>\n"),
    ("a.php", "php", "suffix .php: mostly HTML or text, 10% PHP", "<?= $x ?>" + "<p>abcdef</p>" * 6 + "abc"),
    ("a.php", "php", "suffix .php: mostly HTML or text, 0% PHP", "<p>nothing</p>\n"),
    ("a.py", None, "suffix .py: holds NUL characters", "a\0b\0"),
    ("a.py", None, "suffix .py: a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    # what never promised to be in the table is no doubt
    ("a.m", None, "", "@implementation A\n@end\n"),
    ("a.v", None, "", "module a; endmodule\n"),
    ("a.json", None, "", "{}\n"),
    ("LICENSE", None, "", "MIT License\n"),
    (".gitignore", None, "", "*.o\n"),
    ("bin/run", None, "", "#!/usr/bin/awk -f\n"),
    ("bin/run", None, "", '#!/bin/sh\n# the next line restarts \\\nexec tclsh "$0" "$@"\n'),
    ("Dockerfile.txt", None, "", "how to build\n"),
    ("Gemfile.lock", None, "", "GEM\n"),
]


@pytest.mark.parametrize(("path", "expected", "doubt", "content"), DOUBTFUL)
def test_what_is_doubtful_or_something_else(path: str, expected: str | None, doubt: str, content: str) -> None:
    assert found(path, content) == (expected, doubt)


@pytest.mark.parametrize(("path", "expected", "content"), [c for c in CLEAR if not c[2].startswith(("\n", "<?xml"))])
def test_carriage_returns_and_long_headers_change_nothing(path: str, expected: str, content: str) -> None:
    assert found(path, content.replace("\n", "\r\n"))[0] == expected
    if content[:2] not in ("#!", "//", "/*", "<!", "<?") and "." in path:
        assert found(path, "\n" * 3000 + content)[0] == expected


@pytest.mark.parametrize("entry", LANGUAGES.values(), ids=LANGUAGES)
def test_a_name_of_the_table_means_its_language(entry) -> None:
    for path in [f"src/x{suffix}" for suffix in entry.suffixes] + [f"src/{name}" for name in entry.file_names]:
        assert entry in candidates(path), path
        assert detect(path, "x\n").language is entry, path
    for interpreter in entry.interpreters:
        assert detect("run", f"#!/usr/bin/env {interpreter}\n").language is entry
    assert detect("run", f"# -*- {entry.stack_name} -*-\n").language is entry


SNIPPETS = st.sampled_from([content for *_, content in CLEAR] + [content for *_, content in DOUBTFUL])
PATHS = st.sampled_from(
    [f"a{suffix}" for suffix in _SHARED] + [path for path, *_ in CLEAR] + [path for path, *_ in DOUBTFUL]
)


@given(PATHS, st.lists(SNIPPETS | st.text(max_size=30), max_size=4).map("".join))
def test_what_is_detected_was_a_candidate_or_contradicts_the_name(path: str, content: str) -> None:
    detection = detect(path, content)
    if detection.language and ", but " not in detection.doubt:
        assert detection.language in candidates(path)
    if detection.language is None and language_of_path(path):
        assert detection.doubt
    assert detect(f"some/folder.js/{path}", content) == detection


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.py", {"python"}),
        ("a.h", {"c", "cpp"}),
        ("a.C", {"c", "cpp"}),
        ("a.t", {"perl"}),
        ("a.cls", {"tex", "visual-basic"}),
        ("a.inc", {"php", "html", "makefile", "cpp", "c", "assembly", "fortran"}),
        ("run", set(LANGUAGES)),
        ("a.cgi", set(LANGUAGES)),
        ("Dockerfile.test", {"dockerfile"}),
        ("a.json", set()),
        (".gitignore", set()),
    ],
)
def test_which_files_are_worth_reading(path: str, expected: set[str]) -> None:
    assert {entry.id for entry in candidates(f"some/{path}")} == expected


UNITS = [
    "a(",
    "/*",
    "//",
    "#if __cplusplus\n",
    "<?",
    "{",
    "[",
    " ",
    "\n",
    "<",
    "x ",
    ": ",
    "f(g(",
    "-*- ",
    "\nclass a",
    "\n1 ",
]


@pytest.mark.parametrize("path", [*(f"a{suffix}" for suffix in _SHARED), "a.php", "a.html", "a.js", "run"])
def test_no_content_takes_long(path: str) -> None:
    """Much of one thing: a pattern that goes back over it again and again would take minutes."""
    for unit in UNITS:
        content = unit * (2**17 // len(unit))
        assert detect(path, content) == detect(path, content)
