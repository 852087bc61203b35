"""The engines: the same rows from this machine and from Ray, whole folders or none, and clear refusals."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codechoir.data import engine
from codechoir.data.config import CurateConfig
from codechoir.data.engine import read, start, store
from codechoir.data.stage import curate
from codechoir.errors import InputError, ToolMissingError

ON_RAY = """
import sys
from pathlib import Path
from codechoir.data.config import CurateConfig
from codechoir.data.stage import curate

config = CurateConfig.model_validate_json(sys.argv[1])
curate(config, ["python", "javascript"], Path(sys.argv[2]) / "cache", Path(sys.argv[2]) / "ray")
"""


def content(out: Path) -> dict[str, Any]:
    tables = {
        name: sorted(
            (row for path in (out / name).rglob("*.parquet") for row in pq.read_table(path).to_pylist()),
            key=lambda row: row["key"],
        )
        for name in ("documents", "rejected")
    }
    manifest = json.loads((out / "manifest.json").read_text())
    return {**tables, "digest": manifest["digest"], "facts": manifest["facts"]}


def test_ray_gives_the_same_rows(corpus: Path, tmp_path: Path) -> None:
    """Two sources, one a table of many row groups; near-duplicates, copies and a sample are in it."""
    files = sorted(path for path in corpus.rglob("*") if path.is_file())
    rows = [
        {
            "content": path.read_text() + "\n" * (number % 3) + f"value = {number % 5}\n",
            "lang": {".py": "Python", ".js": "JavaScript"}[path.suffix],
            "max_stars_repo_name": f"owner/{path.parent.name}",
            "max_stars_repo_path": path.name,
            "max_stars_repo_licenses": ["MIT" if number % 7 else "GPL-3.0"],
            "max_stars_count": number,
        }
        for number, path in enumerate(files)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table.parquet", row_group_size=3)
    values = {
        "sources": [
            {"kind": "folder", "path": str(corpus), "licence": "MIT"},
            {"kind": "parquet", "path": str(tmp_path / "table.parquet")},
        ],
        "held_out": {"python": ["owner/held"], "javascript": ["owner/held"]},
        "decontaminate": {"against": []},
        "sampling": {"precision": 0.25, "rho": 0},
    }
    ours = CurateConfig.parse(values, "test")
    curate(ours, ["python", "javascript"], tmp_path / "cache", tmp_path / "native")
    on_ray = ours.model_copy(update={"engine": "ray"})
    command = [sys.executable, "-c", ON_RAY, on_ray.model_dump_json(), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    native = content(tmp_path / "native")
    assert content(tmp_path / "ray") == native
    reasons = {row["reason"] for row in native["rejected"]}
    assert {"near-duplicate", "licence-not-allowed", "not-sampled"} <= reasons
    assert native["facts"]["sampling"][0]["chosen"] < native["facts"]["sampling"][0]["num_files"]


def test_a_process_has_one_engine() -> None:
    start("native")
    start("native")
    with pytest.raises(InputError, match="this process runs on 'native'"):
        start("ray")


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("No module named 'ray'")

    monkeypatch.setattr(daft, "set_runner_ray", missing)
    monkeypatch.setattr(engine, "_started", [])
    with pytest.raises(ToolMissingError, match=r"codechoir\[ray\]"):
        start("ray")


def test_a_folder_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    start("native")
    frame = daft.from_pydict({"a": [3, 1, 2]})
    store(frame, tmp_path / "out")
    assert sorted(read(tmp_path / "out").to_pydict()["a"]) == [1, 2, 3]

    @daft.func(return_dtype=daft.DataType.int64())
    def fail(_: int) -> int:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        store(frame.select(fail(daft.col("a"))), tmp_path / "broken")
    assert not (tmp_path / "broken").exists()
    store(frame.where(daft.col("a") > 5), tmp_path / "out")
    assert read(tmp_path / "out").to_pydict() == {"a": []}
