"""Decontamination: problems in other languages and forms are found, ordinary code is not, a plain count agrees."""

import copy
import importlib
import inspect
import json
import random
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.artifacts import cache_dir
from codechoir.data.config import DecontaminateConfig
from codechoir.data.files.benchmarks import BenchmarkProblem, read_benchmarks
from codechoir.data.files.contamination import MIN_DIFFERENT_WORDS, Benchmarks, index, load_benchmarks
from codechoir.data.files.rejection import Rejection
from codechoir.errors import ConfigError, InputError

NOWHERE = Path("/nonexistent")  # a cache that no test here may need

# In HumanEval's form.
GARDEN = {
    "task_id": "Toy/0",
    "entry_point": "thirsty_beds",
    "prompt": '''from typing import List


def thirsty_beds(moisture: List[float], limit: float) -> List[int]:
    """ A gardener measures the moisture of each flower bed every morning. Beds whose moisture
    lies below the limit get water, the driest bed before the others; a bed without a
    measurement (a negative moisture) is left alone.
    >>> thirsty_beds([0.25, 0.75, -1.0], 0.5)
    [0]
    >>> thirsty_beds([0.5, 0.125, 0.375], 0.625)
    [1, 2, 0]
    """
''',
    "canonical_solution": """    dry = [bed for bed, level in enumerate(moisture) if 0 <= level < limit]
    dry.sort(key=lambda bed: (moisture[bed], bed))
    watered = []
    while dry:
        watered.append(dry.pop(0))
    return watered
""",
    "test": """METADATA = {'author': 'nobody'}


def check(candidate):
    assert candidate([0.25, 0.75, -1.0], 0.5) == [0], "Only the first bed is dry"
    assert candidate([0.5, 0.125, 0.375], 0.625) == [1, 2, 0], "Driest first " + str(candidate([0.5], 0.625))
    assert candidate([12.5, 88.25, 31.75], 42.0) == [0, 2]
    assert candidate([], 7.5) == []
    assert True, "Still here"
""",
}
SHORT = {
    "task_id": "Toy/1",
    "entry_point": "sonnet_rhyme",
    "prompt": 'def sonnet_rhyme(word):\n    """Whether both vowels of a sonnet rhyme with yonder meadow."""\n',
    "canonical_solution": "    return word == word[::-1]\n",
    "test": "def check(candidate):\n    assert candidate('ab') == False\n",
}
PROSE = textwrap.dedent(GARDEN["prompt"].split('"""')[1]).strip()
TESTS = {
    "java": """public static void main(String[] args) {
    assert(thirstyBeds((new ArrayList<Float>(Arrays.asList((float)0.25f, (float)0.75f, (float)-1.0f))), (0.5f)).equals(
        (new ArrayList<Long>(Arrays.asList((long)0l)))));
    assert(thirstyBeds((new ArrayList<Float>(Arrays.asList((float)0.5f, (float)0.125f, (float)0.375f))), (0.625f))
        .equals((new ArrayList<Long>(Arrays.asList((long)1l, (long)2l, (long)0l)))));
    assert(thirstyBeds((new ArrayList<Float>(Arrays.asList((float)12.5f, (float)88.25f, (float)31.75f))), (42.0f))
        .equals((new ArrayList<Long>(Arrays.asList((long)0l, (long)2l)))));
}""",
    "cpp": """int main() {
    auto candidate = thirsty_beds;
    assert(candidate((std::vector<float>({(float)0.25f, (float)0.75f, (float)-1.0f})), (0.5f)) ==
           (std::vector<long>({(long)0})));
    assert(candidate((std::vector<float>({(float)0.5f, (float)0.125f, (float)0.375f})), (0.625f)) ==
           (std::vector<long>({(long)1, (long)2, (long)0})));
    assert(candidate((std::vector<float>({(float)12.5f, (float)88.25f, (float)31.75f})), (42.0f)) ==
           (std::vector<long>({(long)0, (long)2})));
}""",
    "rust": """assert_eq!(candidate(vec![0.25, 0.75, -1.0], 0.5), vec![0]);
    assert_eq!(candidate(vec![0.5, 0.125, 0.375], 0.625), vec![1, 2, 0]);
    assert_eq!(candidate(vec![12.5, 88.25, 31.75], 42.0), vec![0, 2]);""",
    "javascript": """let candidate = thirsty_beds;
  assert.deepEqual(candidate([0.25, 0.75, -1.0], 0.5),[0]);
  assert.deepEqual(candidate([0.5, 0.125, 0.375], 0.625),[1, 2, 0]);
  assert.deepEqual(candidate([12.5, 88.25, 31.75], 42.0),[0, 2]);""",
    "php": """if (candidate(array(0.25, 0.75, -1.0), 0.5) !== array(0)) { throw new Exception("Test failed!"); }
    if (candidate(array(0.5, 0.125, 0.375), 0.625) !== array(1, 2, 0)) { throw new Exception("Test failed!"); }
    if (candidate(array(12.5, 88.25, 31.75), 42.0) !== array(0, 2)) { throw new Exception("Test failed!"); }""",
    "lua": """lu.assertEquals(candidate({0.25, 0.75, -1.0}, 0.5), {0})
    lu.assertEquals(candidate({0.5, 0.125, 0.375}, 0.625), {1, 2, 0})
    lu.assertEquals(candidate({12.5, 88.25, 31.75}, 42.0), {0, 2})""",
}
MODULES = [
    *(
        "argparse",
        "ast",
        "asyncio.base_events",
        "calendar",
        "collections",
        "configparser",
        "csv",
        "datetime",
        "difflib",
    ),
    *("dis", "doctest", "email.message", "fractions", "ftplib", "functools", "heapq", "html.parser", "http.client"),
    *("inspect", "ipaddress", "json.decoder", "logging", "mailbox", "optparse", "pathlib", "pdb", "platform", "random"),
    *("shutil", "smtplib", "statistics", "string", "subprocess", "tarfile", "textwrap", "threading", "tokenize"),
    *("turtle", "typing", "unittest.mock", "urllib.parse", "uuid", "zipfile"),
]


def config(**values: Any) -> DecontaminateConfig:
    return DecontaminateConfig.parse({"against": [], **values}, "test")


def write(folder: Path, rows: object, name: str = "toy.json") -> str:
    path = folder / name
    path.write_text(json.dumps(rows))
    return str(path)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Benchmarks:
    return load_benchmarks(config(against=[write(tmp_path_factory.mktemp("toys"), [GARDEN, SHORT])]), NOWHERE)


def found(benchmarks: Benchmarks, content: str) -> str | None:
    match = benchmarks.match(content)
    return match and match.problem


def lines(text: str, prefix: str) -> str:
    return "\n".join(f"{prefix}{line}" for line in text.splitlines())


STYLES: dict[str, Callable[[str], str]] = {
    "python": lambda text: f'def thirsty_beds(a, b):\n    """{text}\n    """\n    return []\n',
    "cpp": lambda text: f"#include <vector>\n{lines(text, '// ')}\nint thirsty_beds() {{ return 0; }}\n",
    "java": lambda text: f"class A {{\n    /**\n{lines(text, '     * ')}\n     */\n    void thirstyBeds() {{}}\n}}\n",
    "haskell": lambda text: f"{lines(text, '-- ')}\nthirstyBeds :: [Float] -> [Int]\n",
    "lisp": lambda text: f"{lines(text, ';; ')}\n(defun thirsty-beds (x) x)\n",
    "shell": lambda text: f"#!/bin/bash\n{lines(text, '# ')}\nthirsty_beds() {{ :; }}\n",
    "batch": lambda text: lines(text, "REM "),
    "json": lambda text: json.dumps({"prompt": text, "n": 3}),
    "upper case": str.upper,
    "one line": lambda text: " ".join(text.split()),
    "narrow": lambda text: textwrap.fill(text, 30, initial_indent="\t//\t", subsequent_indent="\t//\t"),
    "two characters a break": lambda text: text.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("style", STYLES)
def test_a_docstring_is_found_in_every_comment_style(toys: Benchmarks, style: str) -> None:
    match = toys.match(STYLES[style](PROSE))
    assert match is not None
    assert (match.problem, match.overlap, match.num_problems) == ("Toy_0_thirsty_beds", 1, 1)
    prose = PROSE.split(">>>")[0]
    match = toys.match(STYLES[style](prose))
    assert match is not None
    assert (match.problem, match.part, match.overlap) == ("Toy_0_thirsty_beds", "docstring", 1)


@pytest.mark.parametrize("language", TESTS)
def test_tests_are_found_in_every_language(toys: Benchmarks, language: str) -> None:
    match = toys.match(TESTS[language])
    assert match is not None
    assert (match.problem, match.part) == ("Toy_0_thirsty_beds", "tests")
    assert match.overlap > 0.9


def test_terms_that_a_translation_changes_do_not_hide_a_prompt(tmp_path: Path) -> None:
    prompt = "# Sift a list of pebbles: None for a tuple of marble, else the dictionary that True granite owns.\n"
    rows = [{"name": "Toy_7_sift", "language": "py", "prompt": f"{prompt}def sift(p):\n", "tests": "sift(3)"}]
    benchmarks = load_benchmarks(config(against=[write(tmp_path, rows)], min_words=4), NOWHERE)
    java = "// Sift an array list of pebbles: null for a pair of marble, else the hash map that true granite owns.\n"
    assert found(benchmarks, java) == "Toy_7_sift"


def test_assertions_are_read_without_their_messages(tmp_path: Path) -> None:
    (problem,) = read_benchmarks([write(tmp_path, [GARDEN])], NOWHERE)
    whole, bare = [text for part, text in problem.texts if part == "tests"]
    assert whole == GARDEN["test"]
    assert bare.splitlines() == [
        "candidate([0.25, 0.75, -1.0], 0.5) == [0]",
        "candidate([0.5, 0.125, 0.375], 0.625) == [1, 2, 0]",
        "candidate([12.5, 88.25, 31.75], 42.0) == [0, 2]",
        "candidate([], 7.5) == []",
    ]


def test_solutions_and_whole_copies_are_found(toys: Benchmarks) -> None:
    match = toys.match(f"def water(moisture, limit):\n{GARDEN['canonical_solution']}")
    assert match is not None
    assert (match.part, match.overlap) == ("solution", 1)
    short = "zeta = quark(omega)\nlambda_, sigma = divmod(zeta, rho)\nreturn tau(sigma, pi)"  # how anyone writes it
    assert index([BenchmarkProblem("p", "", (("solution", short),))], config()).match(short) is None
    for row in (GARDEN, SHORT):
        name = f"{row['task_id'].replace('/', '_')}_{row['entry_point']}"
        assert found(toys, row["prompt"] + row["canonical_solution"] + row["test"]) == name


def test_the_rejection_names_the_problem_the_part_and_the_share(toys: Benchmarks) -> None:
    match = toys.match(f"# {SHORT['prompt']}")
    assert match is not None
    assert match.rejection() == Rejection(
        "contaminated",
        "Toy_1_sonnet_rhyme: prompt, 8 of 8 words ('word whether both vowels sonnet rhyme yonder meadow')",
    )


def test_a_copy_counts_by_the_share_that_is_left(toys: Benchmarks) -> None:
    words = PROSE.split(">>>")[0].split()
    assert found(toys, " ".join(words[: len(words) * 2 // 3])) == "Toy_0_thirsty_beds"
    assert found(toys, " ".join(words[len(words) // 3 :])) == "Toy_0_thirsty_beds"
    assert found(toys, " ".join(words[: len(words) // 3])) is None
    assert found(toys, " ".join(words[::2])) is None
    assert found(toys, " ".join(sorted(words))) is None
    gap = len(words) // 2
    assert found(toys, " ".join([*words[:gap], "peat", *words[gap + 1 :]])) == "Toy_0_thirsty_beds"


def test_a_short_docstring_is_found_as_a_whole_only(toys: Benchmarks) -> None:
    assert found(toys, "// whether both vowels of a sonnet rhyme with yonder meadow") == "Toy_1_sonnet_rhyme"
    assert found(toys, "// whether both vowels of a sonnet rhyme with yonder forest") is None


def test_the_thresholds_are_those_of_the_config(tmp_path: Path) -> None:
    half = " ".join(PROSE.split(">>>")[0].split()[:26])
    source = write(tmp_path, [GARDEN])
    match = load_benchmarks(config(against=[source]), NOWHERE).match(half)
    assert match is not None
    stricter = load_benchmarks(config(against=[source], threshold=match.overlap + 0.01), NOWHERE)
    assert found(stricter, half) is None
    assert found(load_benchmarks(config(against=[source], threshold=match.overlap), NOWHERE), half) is not None
    assert found(load_benchmarks(config(against=[source], ngram=32), NOWHERE), half) is None
    changed = GARDEN["canonical_solution"].replace("while dry", "for _ in dry")
    assert found(load_benchmarks(config(against=[source]), NOWHERE), changed) is None
    assert found(load_benchmarks(config(against=[source], solution_threshold=0.5), NOWHERE), changed) is not None


def random_problems(count: int) -> list[BenchmarkProblem]:
    rng = random.Random(0)
    syllables = ["ka", "lo", "mi", "ru", "te", "zu", "po", "shi"]
    words = ["".join(rng.choices(syllables, k=3)) for _ in range(300)]
    return [BenchmarkProblem(f"p{n}", "", (("docstring", " ".join(rng.choices(words, k=30))),)) for n in range(count)]


def test_of_many_problems_in_a_file_one_is_named_and_all_are_counted() -> None:
    problems = random_problems(50)
    content = "\n".join(f"# {problem.texts[0][1]}" for problem in reversed(problems))
    match = index(problems, config()).match(content)
    assert match is not None
    assert (match.problem, match.num_problems) == ("p0", 50)
    assert match.rejection().detail.endswith("; 49 more problems")


def test_boilerplate_of_many_problems_is_no_evidence() -> None:
    licence = "granted herewith without warranty to whoever copies borrows lends rents sells or burns these scrolls"
    problems = [
        BenchmarkProblem(each.name, "", (("prompt", f"{licence} {each.texts[0][1][:60]}"),))
        for each in random_problems(3)
    ]
    assert index(problems, config()).match(licence) is None
    match = index(problems[:2], config()).match(licence)
    assert match is not None and match.num_problems == 2  # of two problems alone it is evidence


def test_everyday_words_and_rows_of_numbers_are_no_evidence() -> None:
    def holds(text: str) -> bool:
        return index([BenchmarkProblem("p", "", (("tests", text),))], config()).match(text) is not None

    assert not holds("if it is not the same as the other then return")
    assert holds("if it is not the saffron as the walrus then unicorn")
    assert not holds("2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47")
    assert not holds("0, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1")
    assert not holds("4, 2, 1, 7, 3, 5, 4, 9, 9, 0")
    assert holds("4, 2, 1, 7, 3, 5, 4, 9, 9, 0, 8, 6, 3, 1, 2")
    assert not holds(" ".join(f"1{number:05000}" for number in range(12)))


def test_ordinary_code_is_kept(toys: Benchmarks) -> None:
    for name in MODULES:
        assert toys.match(inspect.getsource(importlib.import_module(name))) is None, name
    assert toys.match("") is None


def test_a_long_file_is_searched_to_its_end(toys: Benchmarks) -> None:
    filler = "zonk(7);\n" * 300_000
    assert found(toys, filler) is None
    expected = toys.match(PROSE)
    assert expected is not None
    for content in (filler + PROSE, filler.replace("\n", "") + PROSE, PROSE + filler, filler[:1_048_570] + PROSE):
        assert toys.match(content) == expected


WORDS = [a + b for a in "bcdfg" for b in ("ax", "ix", "ox")]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)


@given(TEXTS, TEXTS, TEXTS, st.integers(4, 6), st.floats(0.1, 1))
def test_the_share_is_that_of_a_plain_count(
    first: str, second: str, content: str, ngram: int, threshold: float
) -> None:
    problems = [BenchmarkProblem(name, "", (("docstring", text),)) for name, text in (("p", first), ("q", second))]
    values = {"ngram": ngram, "min_words": 4, "threshold": threshold}
    match = index(problems, config(**values)).match(f"{content} {first[: len(first) // 2]}")

    def covered(words: list[str], held: set[tuple[str, ...]] | None) -> set[int]:
        size = min(ngram, len(words))
        places = [(start, tuple(words[start : start + size])) for start in range(len(words) - size + 1)]
        counted = [(start, gram) for start, gram in places if len(set(gram)) >= MIN_DIFFERENT_WORDS]
        return {start + k for start, gram in counted if held is None or gram in held for k in range(size)}

    shares = {}
    file = f"{content} {first[: len(first) // 2]}".split()
    for name, text in (("p", first), ("q", second)):
        words = text.split()
        size = min(ngram, len(words))
        held = {tuple(file[start : start + size]) for start in range(len(file) - size + 1)}
        if len(words) >= 4 and (whole := covered(words, None)):
            shares[name] = len(covered(words, held)) / len(whole)
    over = {name: share for name, share in shares.items() if share >= threshold}
    if not over:
        assert match is None
    else:
        assert match is not None
        assert match.num_problems == len(over)
        assert match.overlap == pytest.approx(max(over.values()))
        assert over[match.problem] == max(over.values())


@given(st.text(max_size=200))
def test_any_text_can_be_looked_at(toys: Benchmarks, content: str) -> None:
    assert found(toys, content) is None
    assert found(toys, f"{content}\n{PROSE}\n{content}") == "Toy_0_thirsty_beds"
    assert found(index([BenchmarkProblem("p", content, (("prompt", content),))], config()), "while 1: pass") is None


def test_typographic_and_foreign_letters(tmp_path: Path) -> None:
    prompt = "Don’t fetch any “moonstones” when 0 ≤ depth ≤ 77 — dig where the badger’s burrow ends"
    rows = [{"task_id": 9, "text": prompt, "code": "def dig(depth):\n    pass", "test_list": ["assert dig(3)"]},
            {"task_id": 10, "text": "返回给定列表中的最大元素并且忽略负数", "test_list": ["assert f(1)"]}]  # fmt: skip
    benchmarks = load_benchmarks(config(against=[write(tmp_path, rows)]), NOWHERE)
    assert (
        found(benchmarks, "// don't fetch any \"moonstones\" when 0 <= depth <= 77 - dig where the badger's")
        == "mbpp_9_dig"
    )
    assert found(benchmarks, "# 返回给定列表中的最大元素并且忽略负数") == "mbpp_10_"
    assert found(benchmarks, "# 返回给定列表中的最小元素") is None


def test_mbpp_rows_are_read(tmp_path: Path) -> None:
    row = {
        "task_id": 0,
        "text": "Write a function to weigh the walnuts that a squirrel hoards in october.",
        "code": "def shell(nut):\n    return nut\n\ndef weigh_walnuts(nuts):\n    return sum(map(shell, nuts))",
        "test_list": ["assert weigh_walnuts([17, 23], 'oak') == 401", "assert weigh_walnuts([96, 55], 'elm') == 151"],
        "test_setup_code": None,
    }
    (problem,) = read_benchmarks([write(tmp_path, [row])], NOWHERE)
    assert (problem.name, problem.function) == ("mbpp_0_weigh_walnuts", "weigh_walnuts")
    benchmarks = load_benchmarks(config(against=[str(tmp_path)]), NOWHERE)
    match = benchmarks.match(
        "expect(weighWalnuts([17, 23], 'oak')).toEqual(401);\nexpect(weighWalnuts([96, 55], 'elm')).toBe(151)"
    )
    assert match is not None and match.part == "tests"
    assert found(benchmarks, "/* Write a function to weigh the walnuts that a squirrel hoards in October. */")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_multipl_e_rows_are_read_in_every_form_and_unknown_languages(tmp_path: Path, suffix: str) -> None:
    prompt = "#lang racket\n;; Count the herons that nest between twin lighthouses each april.\n(define (herons xs)\n"
    rows = [{"name": "HumanEval_900_herons", "language": "rkt", "prompt": prompt, "tests": "(check-equal? 1 1)"}]
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows[0]) if suffix == ".jsonl" else json.dumps(rows))
    (problem,) = read_benchmarks([str(tmp_path)], NOWHERE)
    assert problem.function == "herons"
    assert dict(problem.texts)["docstring"].strip() == (
        "Count the herons that nest between twin lighthouses each april."
    )
    benchmarks = load_benchmarks(config(against=[str(tmp_path)]), NOWHERE)
    assert (
        found(benchmarks, "# count the herons that nest between twin lighthouses each april") == "HumanEval_900_herons"
    )


def test_the_digest_is_of_the_problems_and_of_nothing_else(tmp_path: Path, problems: Path) -> None:
    source = write(tmp_path, [GARDEN, SHORT])
    first = load_benchmarks(config(against=[source]), NOWHERE)
    assert first.digest == load_benchmarks(config(against=[source, source], ngram=20), NOWHERE).digest
    assert first.digest != load_benchmarks(config(against=[write(tmp_path, [GARDEN], "b.json")]), NOWHERE).digest
    both = load_benchmarks(config(against=[source, str(problems)]), NOWHERE)
    assert both.digest != first.digest
    assert (first.num_problems, both.num_problems) == (2, 4)
    assert found(copy.deepcopy(both), PROSE) == "Toy_0_thirsty_beds"  # as it is when it has travelled
    assert both.match((problems / "py.json").read_text()) is None  # too little to tell


def test_against_nothing_nothing_is_contaminated() -> None:
    assert load_benchmarks(config(), NOWHERE).match(PROSE) is None


def test_bad_benchmarks_are_told(tmp_path: Path) -> None:
    for source in ("human-evil", str(tmp_path / "absent"), str(Path(write(tmp_path, [], "rows.txt")))):
        with pytest.raises(ConfigError, match=re.escape(source)):
            load_benchmarks(config(against=[source]), NOWHERE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no problems"):
        load_benchmarks(config(against=[str(tmp_path / "empty")]), NOWHERE)
    for row in ({"name": "a", "prompt": "b"}, {"prompt": "b", "tests": "c"}, {"name": "a", "tests": "b"}, 7, None):
        with pytest.raises(InputError, match=r"bad\.json, problem 2"):
            load_benchmarks(config(against=[write(tmp_path, [GARDEN, row], "bad.json")]), NOWHERE)
    with pytest.raises(ConfigError, match="min_words"):
        config(ngram=5, min_words=6)


@pytest.mark.network
def test_human_eval_is_found_whole_and_ordinary_code_is_not() -> None:
    benchmarks = load_benchmarks(DecontaminateConfig.parse({}, "test"), cache_dir())
    problems = read_benchmarks(["human-eval"], cache_dir())
    assert benchmarks.num_problems == len(problems) == 164
    by_part: dict[str, int] = dict.fromkeys(("docstring", "prompt", "tests", "solution", "all", "comment"), 0)
    for problem in problems:
        texts = {part: text for part, text in problem.texts if text}
        for part, text in texts.items():
            by_part[part] += benchmarks.match(text) is not None
        by_part["all"] += found(benchmarks, "\n".join(texts.values())) == problem.name
        by_part["comment"] += benchmarks.match(lines(texts["prompt"], "     * ")) is not None
    assert by_part["all"] >= 162
    assert by_part["prompt"] >= 160
    assert by_part["comment"] == by_part["prompt"]
    assert by_part["docstring"] >= 140
    assert by_part["tests"] >= 145
    assert by_part["solution"] >= 75
    for name in MODULES:
        assert benchmarks.match(inspect.getsource(importlib.import_module(name))) is None, name
