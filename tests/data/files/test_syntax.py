"""Verdicts on sound and on spoilt code of each kind, and shares of comments against Python's own tokenizer."""

import ast
import io
import threading
import tokenize
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechoir.data.files import syntax
from codechoir.data.files.syntax import GRAMMARS, conflict_line, estimated_comment_fraction, num_syntax_errors, parse
from codechoir.languages import LANGUAGES, language

PYTHON = 'def area(r):\n    """A circle\'s."""\n    # in the plane\n    return 3.14 * r * r\n' * 8
JAVA = (
    "class A {\n  // adds\n  int add(int a, int b) {\n    return a + b;\n  }\n" * 1
    + "  int c() {\n    return 1;\n  }\n" * 9
    + "}\n"
)
CPP = "namespace a {\nclass B {\n public:\n  int add(int a, int b) {\n    return a + b;\n  }\n};\n}  // namespace a\n"
SCRIPT = "function add(a, b) {\n  if (a) {\n    return a + b;\n  }\n  return b;\n}\n" * 6
PROSE = (
    "This chapter tells how the garden was laid out, and why the old wall was left standing.\nNobody's wish was it.\n"
    * 4
)
SOUND = {
    "c": "int main(void) {\n  return 0;\n}\n",
    "cmake": "add_library(a a.c)\n",
    "cpp": CPP,
    "csharp": "class A {\n  int B() => 1;\n}\n",
    "css": "a {\n  color: red;\n}\n",
    "dockerfile": "FROM debian\nRUN true\n",
    "fortran": "program a\n  print *, 1\nend program a\n",
    "go": "package a\n\nfunc b() int {\n\treturn 1\n}\n",
    "haskell": "module A where\n\nb :: Int\nb = 1\n",
    "html": "<!DOCTYPE html>\n<html><body><p>a</p></body></html>\n",
    "java": JAVA,
    "javascript": SCRIPT,
    "julia": "function a(x)\n    x + 1\nend\n",
    "lua": "local function a(x)\n  return x\nend\n",
    "makefile": "a: b\n\tcc b\n",
    "perl": "sub a {\n  my ($x) = @_;\n  return $x;\n}\n",
    "php": "<?php\nfunction a($x) {\n  return $x;\n}\n",
    "powershell": "function A($x) {\n  return $x\n}\n",
    "python": PYTHON,
    "ruby": "def a(x)\n  x\nend\n",
    "rust": "fn a(x: i32) -> i32 {\n    x\n}\n",
    "scala": "object A {\n  def b: Int = 1\n}\n",
    "shell": "#!/bin/sh\nif true; then\n  echo a\nfi\n",
    "tex": "\\documentclass{article}\n\\begin{document}\na\n\\end{document}\n",
    "typescript": "export function a(x: number): number {\n  return x;\n}\n",
}


def rejected(language_id: str, content: str, limit: float = 0.05) -> bool:
    found = parse(content, language(language_id))
    assert found is not None
    return found.error_fraction > limit or found.cut_off


def test_the_table_names_languages_that_are_known() -> None:
    assert set(GRAMMARS) <= set(LANGUAGES)
    assert set(SOUND) == set(GRAMMARS) - {"assembly"}


@pytest.mark.parametrize("language_id", sorted(SOUND))
def test_sound_code_parses(language_id: str) -> None:
    found = parse(SOUND[language_id], language(language_id))
    assert found is not None
    assert (found.error_fraction, found.num_errors, found.cut_off) == (0.0, 0, False)
    assert num_syntax_errors(SOUND[language_id], language(language_id)) == 0


@pytest.mark.parametrize("language_id", sorted(set(LANGUAGES) - set(GRAMMARS)))
def test_no_grammar_no_verdict(language_id: str) -> None:
    assert parse("anything {", language(language_id)) is None
    assert num_syntax_errors("anything {", language(language_id)) is None


@pytest.mark.parametrize("language_id", ["python", "java", "javascript", "typescript", "cpp", "c", "go", "rust"])
def test_prose_is_no_code(language_id: str) -> None:
    assert rejected(language_id, PROSE, 0.3)


@pytest.mark.parametrize(
    ("language_id", "content"),
    [("python", JAVA), ("python", CPP), ("python", SCRIPT), ("java", PYTHON), ("cpp", PYTHON), ("javascript", PYTHON)],
)
def test_another_language_under_the_suffix_is_told(language_id: str, content: str) -> None:
    assert rejected(language_id, content)


@pytest.mark.parametrize("language_id", ["java", "javascript", "cpp", "typescript"])
def test_a_file_cut_within_nested_blocks_is_told(language_id: str) -> None:
    whole = {"cpp": CPP.replace("};\n", "  int c() {\n    return 1;\n  }\n" * 9 + "};\n"), "typescript": SCRIPT}.get(
        language_id, SOUND[language_id]
    )
    assert not rejected(language_id, whole, 0.2)
    cut = whole[: whole.rindex("return ")]
    assert rejected(language_id, cut, 0.2)


@pytest.mark.parametrize(("language_id", "stem"), [("go", "package a\n\n"), ("rust", ""), ("csharp", "")])
def test_an_open_brace_is_told_in_other_languages(language_id: str, stem: str) -> None:
    assert rejected(language_id, stem + SOUND[language_id].rpartition("}")[0] + "  a(\n", 0.9)


def test_what_opens_in_shell_is_no_brace() -> None:
    assert not rejected("shell", "a() {\n  echo $((\n", 1.0)


def test_a_python_file_cut_within_brackets_is_told() -> None:
    assert rejected("python", PYTHON + "x = f(1,\n")
    assert rejected("python", PYTHON + 'x = {"a": 1,\n    "b": [1,\n')


def test_python_2_is_accepted() -> None:
    old = 'print "a"\nexec "b"\nif a <> 0777L:\n    print >>c, `d`\ntry:\n    raise E, "f"\nexcept E, e:\n    pass\n'
    with pytest.raises(SyntaxError):
        ast.parse(old)
    assert not rejected("python", old)


def test_flow_and_jsx_are_javascript() -> None:
    flow = "// @flow\nimport type {A} from './a';\nexport type B = {| a: number |};\n"
    typed = "function f(a: string, b: ?number): Promise<void> {\n  return g(a, b);\n}\n" * 9
    assert not rejected("javascript", "import type {A} from './a';\n" + typed.replace("?number", "number"))
    assert not rejected("javascript", "const a = (b) => <div className='c'>{b.map((d) => <p key={d}>{d}</p>)}</div>;\n")
    found = parse(flow + typed, language("javascript"))
    assert found is not None and not found.cut_off


def test_headers_are_c_cpp_or_objective_c() -> None:
    header = "#import <Foundation/Foundation.h>\n\n@interface A : NSObject\n- (void)b:(int)c;\n@end\n"
    assert not rejected("cpp", header)
    assert not rejected("c", header)
    assert not rejected("c", CPP)


def test_macros_do_not_spoil_a_header() -> None:
    begin = '#ifdef __cplusplus\nextern "C" {\n#endif\n\n'
    end = "\n#ifdef __cplusplus\n}\n#endif\n"
    body = "MY_BEGIN\n\nclass MY_EXPORT A {\n  MY_NO_COPY(A);\n public:\n  int b() const;\n};\n\nMY_END\n"
    split = "void f() {\n#if A\n  if (a) {\n#else\n  if (b) {\n#endif\n    g();\n  }\n}\n"
    for content in (begin + "int a(void);\n" * 9 + end, body, split * 3):
        assert not rejected("cpp", content, 0.2)


def test_an_unresolved_merge_is_found_where_it_begins() -> None:
    sides = "<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> other\n"
    assert conflict_line("y = 1\n" + sides) == 2
    assert conflict_line(sides) == 1
    assert conflict_line("x = 1\n=======\n") is None
    assert conflict_line("a\n>>>>>>> b\n=======\n<<<<<<< c\n") is None
    found = parse("y = 1\n" * 200 + sides, language("python"))
    assert found is not None and found.num_errors > 0
    quoted = parse(f'TEXT = """\n{sides}"""\n', language("python"))
    assert quoted is not None and quoted.num_errors == 0


def test_errors_are_counted() -> None:
    assert num_syntax_errors("def f(:\n    pass\n", language("python")) == 1
    assert num_syntax_errors("int f() { return 1 }\n", language("c")) == 1  # the semicolon is missing
    assert parse("", language("python")) is not None


def tokenized_comment_fraction(content: str) -> float:
    """By Python's tokenizer and parser: comments, and strings that are statements."""
    data = content.encode()
    tokens = tokenize.generate_tokens(io.StringIO(content).readline)
    size = sum(len(token.string.encode()) for token in tokens if token.type == tokenize.COMMENT)
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            size += len((ast.get_source_segment(content, node) or "").encode())
    return size / len(data.strip())


@pytest.mark.parametrize("module", [syntax, ast, tokenize, threading])
def test_comments_are_those_of_pythons_tokenizer(module: object) -> None:
    content = Path(str(module.__file__)).read_text(encoding="utf-8")  # type: ignore[attr-defined]
    found = parse(content, language("python"))
    assert found is not None
    assert found.comment_fraction() == pytest.approx(tokenized_comment_fraction(content), abs=1e-9)
    assert estimated_comment_fraction(content, language("python")) >= found.comment_fraction() - 0.05


@pytest.mark.parametrize(
    ("language_id", "comment"),
    [
        ("java", "/** a\n * b */"),
        ("rust", "/// words"),
        ("cpp", "// words"),
        ("ruby", "# words"),
        ("lua", "-- words"),
        ("haskell", "{- a\nb -}"),
        ("scala", "/* words */"),
        ("julia", "#= words =#"),
        ("css", "/* words */"),
        ("perl", "# words"),
        ("shell", "# words"),
        ("tex", "% words"),
        ("cmake", "#[[ words ]]"),
        ("html", "<!-- words -->"),
        ("go", "// words"),
        ("fortran", "! words"),
        ("powershell", "<# words #>"),
    ],
)
def test_comments_of_every_kind_are_counted(language_id: str, comment: str) -> None:
    content = comment + "\n" + SOUND[language_id]
    found = parse(content, language(language_id))
    base = parse(SOUND[language_id], language(language_id))
    assert found is not None and base is not None
    own = base.comment_fraction() * base.size
    assert found.comment_fraction() * found.size - own == pytest.approx(len(comment), abs=1)


def test_comments_without_a_grammar_are_estimated() -> None:
    assert estimated_comment_fraction("REM a\necho b\n", language("batchfile")) == 5 / 12
    assert estimated_comment_fraction("' words\nx = 1\n", language("visual-basic")) == 7 / 13
    assert estimated_comment_fraction("", language("sql")) == 0.0


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syntax, "BUDGET", 10)
    assert parse(PYTHON * 100, language("python")) is None
    assert num_syntax_errors(PYTHON * 100, language("python")) is None
    monkeypatch.setattr(syntax, "BUDGET", 10_000)
    assert num_syntax_errors(PYTHON * 100, language("python")) == 0


def test_threads_do_not_share_parsers() -> None:
    found: list[int | None] = []
    threads = [
        threading.Thread(target=lambda: found.extend(num_syntax_errors(PYTHON * 20, language("python")) for _ in "abc"))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 12


@settings(max_examples=50)
@given(st.sampled_from(sorted(GRAMMARS)), st.text(max_size=80))
def test_shares_are_shares_for_any_text(language_id: str, content: str) -> None:
    found = parse(content, language(language_id))
    assert found is not None
    assert 0.0 <= found.error_fraction <= 1.0
    assert 0.0 <= found.comment_fraction() <= 1.0
    assert (found.num_errors == 0) <= (found.error_fraction == 0.0)
