"""`codechoir run` with what a user can get wrong; whole runs are in test_pipeline.py."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codechoir.artifacts import locked
from codechoir.cli.run import _STAGES
from codechoir.documents import DOCUMENT_SCHEMA, read_texts, write_parquet
from codechoir.pipeline import Stage


def made(out: Path) -> set[str]:
    """What lies in a run's folder, at its top."""
    return {path.name for path in out.iterdir()} if out.exists() else set()


def unfinished(out: Path) -> bool:
    return not list(out.rglob("manifest.json"))


def results(run: Path) -> dict[str, bytes]:
    files = [*run.glob("**/*.safetensors"), *run.glob("generate/*/*.jsonl"), run / "evaluate" / "scores.json"]
    return {str(file.relative_to(run)): file.read_bytes() for file in sorted(files)}


def test_the_stages_are_the_pipelines() -> None:
    assert tuple(Stage) == _STAGES


def test_an_unknown_key(codechoir, tiny: list[str], tmp_path: Path) -> None:
    message = codechoir(*tiny, "--set", "train.lerning_rate=1", "--out", tmp_path / "run").refusal()
    assert message.startswith("unknown key\n  seen:    train.lerning_rate in ")
    assert "did you mean 'learning_rate'?" in message
    assert "sequence_length" in message
    assert made(tmp_path / "run") == set()


def test_a_missing_recipe(codechoir, tmp_path: Path) -> None:
    assert str(tmp_path / "none.yaml") in codechoir("run", tmp_path / "none.yaml").refusal()


def test_a_missing_base_is_told_before_any_work(codechoir, tiny: list[str], tmp_path: Path) -> None:
    base = f"base={{kind: folder, path: {tmp_path / 'nowhere'}}}"
    message = codechoir(*tiny, "--set", base, "--out", tmp_path / "run").refusal()
    assert message.startswith("no such model folder")
    assert made(tmp_path / "run") == {"recipe.yaml"}


def test_a_base_of_a_family_that_cannot_be_composed(codechoir, tiny: list[str], tmp_path: Path, trunk: Path) -> None:
    model = Path(shutil.copytree(trunk, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    base = f"base={{kind: folder, path: {model}}}"
    message = codechoir(*tiny, "--set", base, "--out", tmp_path / "run").refusal()
    assert message.startswith("this model family cannot be composed: its feed-forward keeps its weights transposed")
    assert not list((tmp_path / "run" / "train").rglob("manifest.json"))


def test_a_machine_without_bubblewrap_is_told_before_any_work(codechoir, tiny: list[str], tmp_path: Path) -> None:
    message = codechoir(*tiny, "--out", tmp_path / "run", hidden=["bwrap"]).refusal()
    assert message.startswith("bubblewrap is needed")
    assert "apt-get install bubblewrap" in message
    assert made(tmp_path / "run") == {"recipe.yaml"}


def test_a_machine_without_a_compiler_is_told_before_any_work(
    codechoir, tiny: list[str], tmp_path: Path, problems: Path
) -> None:
    folder = Path(shutil.copytree(problems, tmp_path / "problems"))
    problem = {"name": "one", "language": "cpp", "prompt": "int one() {\n", "tests": "}\nint main() {}\n"}
    (folder / "cpp.json").write_text(json.dumps([problem]))
    changes = ("--set", f"problems.source={folder}", "--set", "languages=[python, cpp]", "--set", "curate.held_out={}")
    message = codechoir(*tiny, *changes, "--out", tmp_path / "run", hidden=["g++"]).refusal()
    assert message.startswith("cpp programs cannot be run here\n  seen:    missing: g++")
    assert "apt-get install g++" in message
    assert made(tmp_path / "run") == {"recipe.yaml"}


def test_problems_in_a_language_that_is_never_run_are_skipped(
    codechoir, tiny: list[str], tmp_path: Path, problems: Path
) -> None:
    folder = Path(shutil.copytree(problems, tmp_path / "problems"))
    problem = {"name": "one", "language": "hs", "prompt": "one :: Int\n", "tests": "\nmain = pure ()\n"}
    (folder / "hs.json").write_text(json.dumps([problem]))
    changes = (
        "--set",
        f"problems.source={folder}",
        "--set",
        "languages=[python, haskell]",
        "--set",
        "curate.held_out={}",
    )
    message = codechoir(*tiny, *changes, "--only", "evaluate", "--out", tmp_path / "run").refusal()
    assert message.startswith("the stage is not finished")  # generate: the problems were no hindrance


def test_no_sandbox_is_needed_where_nothing_is_completed(codechoir, tiny: list[str], tmp_path: Path) -> None:
    changes = ("--set", "generate.complete=[]", "--only", "curate", "--only", "evaluate")
    message = codechoir(*tiny, *changes, "--out", tmp_path / "run", hidden=["bwrap", "node"]).refusal()
    assert message.startswith("the stage is not finished")  # generate: evaluation itself could begin


def test_a_package_of_another_checksum(codechoir, tiny: list[str], tmp_path: Path) -> None:
    """A client in npm's place that fetches an archive, but not the pinned one."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as members:
        member = tarfile.TarInfo("package/index.js")
        member.size = 2
        members.addfile(member, io.BytesIO(b"1\n"))
    (tmp_path / "other.tgz").write_bytes(archive.getvalue())
    (tmp_path / "bin").mkdir()
    client = tmp_path / "bin" / "npm"
    client.write_text(f'#!/bin/sh\ncp "{tmp_path / "other.tgz"}" .\n')
    client.chmod(0o755)
    package = {"registry": "npm", "name": "pinned", "version": "1.0.0", "sha256": "0" * 64}
    source = {"kind": "package", "package": package, "licence": "MIT", "languages": ["python", "javascript"]}
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    arguments = (*tiny, "--set", f"curate.sources={json.dumps([source])}", "--out", tmp_path / "run")
    message = codechoir(*arguments, env=path).refusal()
    assert message.startswith("the package npm:pinned@1.0.0 has another checksum than the pinned one")
    assert f"allowed: {'0' * 64}" in message
    assert unfinished(tmp_path / "run")


def test_a_truncated_parquet_file(codechoir, tiny: list[str], tmp_path: Path, finished_run: Path) -> None:
    rows = [
        {"content": text.content, "lang": name, "max_stars_repo_name": text.package, "max_stars_repo_path": text.key}
        for name in ("python", "javascript")
        for split in ("train", "held_out")
        for text in read_texts(finished_run / "curate" / "documents", name, split)
    ]
    stack = tmp_path / "stack" / "part.parquet"
    write_parquet(stack, rows, DOCUMENT_SCHEMA)
    whole = stack.read_bytes()
    stack.write_bytes(whole[: len(whole) // 2])
    source = f"curate.sources=[{{kind: parquet, path: {stack.parent}, licence: MIT}}]"
    message = codechoir(*tiny, "--set", source, "--out", tmp_path / "run").refusal()
    assert message.startswith(f"the table is damaged\n  seen:    {stack}")
    assert unfinished(tmp_path / "run")
    stack.write_bytes(whole)
    assert codechoir(*tiny, "--set", source, "--out", tmp_path / "run", "--only", "curate").code == 0
    documents = tmp_path / "run" / "curate" / "documents"
    num_rows = sum(pq.read_metadata(path).num_rows for path in documents.rglob("*.parquet"))
    assert num_rows == len(rows)


def test_a_folder_that_is_not_ours_is_left_alone(codechoir, tiny: list[str], tmp_path: Path) -> None:
    precious = tmp_path / "run" / "curate" / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("all of it")
    message = codechoir(*tiny, "--out", tmp_path / "run").refusal()
    assert message.startswith("the output folder holds other files")
    assert precious.read_text() == "all of it"
    assert unfinished(tmp_path / "run")


def test_a_recipe_is_not_overwritten_by_its_own_run(codechoir, tiny: list[str], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(before := "# mine\n" + Path(tiny[1]).read_text())
    message = codechoir("run", recipe, *tiny[2:], "--out", tmp_path).refusal()
    assert message.startswith(f"the run's folder would overwrite the recipe\n  seen:    {recipe}")
    assert recipe.read_text() == before


def test_two_runs_in_one_folder(codechoir, tiny: list[str], tmp_path: Path) -> None:
    with locked(tmp_path):
        message = codechoir(*tiny, "--out", tmp_path).refusal()
        assert message.startswith(f"another process is at work in this folder\n  seen:    {tmp_path}")
        assert not list(tmp_path.iterdir())


def test_an_output_folder_that_cannot_be(codechoir, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert str(tmp_path / "file") in codechoir(*tiny, "--out", tmp_path / "file" / "run").refusal()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, to be made full; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk(disk: Path, codechoir, tiny: list[str], finished_run: Path) -> None:
    """It fills up in one stage after the other, grows each time, and the run carries on."""
    for size in ("64k", "600k", "1500k", "2500k"):
        subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
        message = codechoir(*tiny, "--out", disk / "run").refusal()
        assert "no space left" in message.lower() or "disk is full" in message
        assert "make room" in message
    finished = {path.parent.name for path in disk.rglob("manifest.json")}
    assert {"curate", "trunk"} <= finished
    assert "report" not in finished
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    assert codechoir(*tiny, "--out", disk / "run").code == 0
    assert results(disk / "run") == results(finished_run)


def test_a_limit_on_file_sizes(tmp_path: Path, codechoir, tiny: list[str], finished_run: Path) -> None:
    """The same without the right to mount: too large are the base, then the training's checkpoint."""
    arguments, env = (*tiny, "--out", tmp_path / "run"), {"CODECHOIR_CACHE": str(tmp_path / "cache")}
    for limit in (100_000, 400_000):
        message = codechoir(*arguments, env=env, file_limit=limit).refusal()
        assert message.startswith("the disk is full, or a limit on file sizes is reached")
    assert [path.name for path in (tmp_path / "cache" / "bases").iterdir()]
    finished = [path.parent for path in (tmp_path / "run").rglob("manifest.json")]
    assert [path.name for path in finished if path.parent.name != "tokens"] == ["curate"]
    assert not list(tmp_path.rglob("*.partial"))
    assert codechoir(*arguments, env=env, file_limit=0).code == 0
    assert results(tmp_path / "run") == results(finished_run)


@pytest.mark.network
def test_the_tiny_recipe_as_it_ships(codechoir, tmp_path: Path) -> None:
    """Packages of both registries and HumanEval from the cache of the user or the registries."""
    recipe = Path(__file__).parents[2] / "recipes" / "tiny.yaml"
    done = codechoir("run", recipe, "--out", tmp_path / "run")
    assert (done.code, done.stdout) == (0, f"{tmp_path / 'run' / 'report' / 'index.html'}\n"), done.stderr
    scores = json.loads((tmp_path / "run" / "evaluate" / "scores.json").read_text())
    assert not scores["skipped"]
    measured = {(score["metric"], score["language"]) for score in scores["scores"]}
    assert {("bits_per_byte", "python"), ("bits_per_byte", "javascript"), ("pass@1", "javascript")} <= measured
    held_out = {text.package for text in read_texts(tmp_path / "run" / "curate" / "documents", "python", "held_out")}
    assert held_out == {"toolz"}
