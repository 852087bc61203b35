"""Verdicts and completions come together again, whatever their order in the files."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

from tests.evaluate.made import completion, problem_set

from codechoir.evaluate.export import write_multipl_e
from codechoir.evaluate.given import Completions, find
from codechoir.evaluate.ledger import Ledger, problems_by_name, verdict_path
from codechoir.records import Status, Verdict, write_records


def test_each_completion_stands_beside_its_own_verdict(tmp_path: Path) -> None:
    problems = problem_set(("python", "cpp"))
    rng = random.Random(4)
    for model in ("org/a", "b"):
        made = [
            completion(f"P_{n}", f"{model} {language} {n} {sample}", model=model, language=language, sample=sample)
            for language in ("python", "cpp")
            for n in range(4)
            for sample in range(3)
        ]
        rng.shuffle(made)
        write_records(tmp_path / f"{model.replace('/', '--')}.jsonl", made)
    lines = [path.read_text() for path in tmp_path.glob("*.jsonl")]
    (tmp_path / "all.jsonl").write_text("".join(lines))
    completions = Completions(find(tmp_path / "all.jsonl"), problems_by_name(problems))
    ledger = Ledger(completions, problems)
    every = list(completions)
    for group in ledger.groups:
        verdicts = [
            Verdict(
                model=each.model, language=each.language, problem=each.problem, sample=each.sample, temperature=0.0,
                status=Status.PASSED, exit_code=0, signal=None, cpu_seconds=0, wall_seconds=0, memory_mib=0,
                output=f"of {each.text}", attempts=1, toolchain="", sandbox="", problems="",
            )
            for each in every
            if (each.model, each.language) == (group.model, group.language)
        ]  # fmt: skip
        rng.shuffle(verdicts)
        write_records(verdict_path(tmp_path / "out", group.model, group.language), verdicts)
    write_multipl_e(tmp_path / "out", ledger, completions)
    files = sorted((tmp_path / "out" / "multipl-e").rglob("*.results.json.gz"))
    assert len(files) == 2 * 2 * 4
    for path in files:
        folder = path.parent
        model, number = folder.parent.name.replace("--", "/"), path.name[2]
        results = json.loads(gzip.decompress(path.read_bytes()))["results"]
        sheet = json.loads(gzip.decompress((folder / f"P_{number}.json.gz").read_bytes()))
        texts = [f"{model} {folder.name} {number} {sample}" for sample in range(3)]
        assert sheet["completions"] == texts
        assert [each["stdout"] for each in results] == [f"of {text}" for text in texts]
        assert [each["program"] for each in results] == [f"{sheet['prompt']}{text}\n{sheet['tests']}" for text in texts]
