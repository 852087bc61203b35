"""Counting what sources hold, against files laid out by hand."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codechoir.data.config import CurateConfig
from codechoir.errors import InputError
from codechoir.languages import language
from codechoir.planning import corpus
from codechoir.planning.corpus import Amount, Corpus, count_corpus
from codechoir.registries import PackageGoneError


def count(sources: list[dict[str, Any]], cache: Path, *languages: str) -> Corpus:
    config = CurateConfig.parse({"sources": sources}, "test")
    return count_corpus(config, [language(name) for name in languages], cache)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two packages with files of three languages, one of them empty, one no text, one of no language."""
    files = {
        "one/a.py": b"x = 1\n",
        "one/b.py": b"",
        "one/lib/c.js": b"var c\n",
        "two/d.py": b"\xff\xfe\x00",
        "two/e.rs": b"fn e() {}\n",
        "two/f.xyz": b"what",
        "two/README": b"words",
    }
    for name, content in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "tree"


def test_a_folder(tree: Path, tmp_path: Path) -> None:
    source = {"kind": "folder", "path": str(tree), "licence": "MIT", "exclude": ["one/lib/*"]}
    found = count([source], tmp_path / "cache", "python", "javascript")
    assert found.there == {"python": Amount(3, 9, 2), "javascript": Amount(1, 6, 1), "rust": Amount(1, 10, 1)}
    assert found.taken == {"python": Amount(3, 9, 2)}
    assert found.gone == ()


def test_no_content_is_read(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    read_unit = corpus.read_unit
    monkeypatch.setattr(
        corpus, "read_unit", lambda *some, **more: (rows.append(row) or row for row in read_unit(*some, **more))
    )
    count([{"kind": "folder", "path": str(tree), "licence": "MIT"}], tmp_path, "python")
    assert {row["content"] for row in rows} == {None, ""}


def archive(cache: Path, members: dict[str, bytes]) -> dict[str, str]:
    """A tarball in the cache, as if fetched from npm, and its pin."""
    folder = cache / "packages" / "npm" / "p-1.0"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "p-1.0.tgz", "w:gz") as tarred:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content))
    sha256 = hashlib.sha256((folder / "p-1.0.tgz").read_bytes()).hexdigest()
    return {"registry": "npm", "name": "p", "version": "1.0", "sha256": sha256}


def test_two_sources_of_one_package(tmp_path: Path) -> None:
    """What is there counts once; what is taken counts in each, the package once a language."""
    members = {"package.json": json.dumps({"license": "MIT"}).encode(), "src/a.js": b"1;\n", "src/b.cc": b"int b;\n"}
    members |= {"lib/a.js": b"12;\n", "lib/c.ts": b"let c\n"}
    package = archive(tmp_path, {f"package/{name}": content for name, content in members.items()})
    one = {"kind": "package", "package": package, "licence": "MIT", "languages": ["javascript"]}
    sources = [{**one, "include": ["src/*"]}, {**one, "include": ["lib/*"]}, {**one, "languages": ["cpp"]}]
    found = count(sources, tmp_path, "javascript", "cpp")
    assert found.there == {"javascript": Amount(2, 7, 1), "cpp": Amount(1, 7, 1), "typescript": Amount(1, 6, 1)}
    assert found.taken == {"javascript": Amount(2, 7, 1), "cpp": Amount(1, 7, 1)}
    assert count(sources, tmp_path, "cpp").taken == {"cpp": Amount(1, 7, 1)}


@pytest.mark.parametrize("stated", [True, False], ids=["sizes stated", "sizes not stated"])
def test_a_table(stated: bool, tmp_path: Path) -> None:
    rows = [("Python", "o/r", "a.py", "x = 1\n"), ("Python", "o/r", "b.py", "é\n"), ("Python", "o/s", "a.py", "")]
    rows += [("Rust", "o/s", "a.rs", "fn a() {}\n"), ("Ook", "o/s", "a.ook", "Ook?")]
    columns = dict(
        zip(("lang", "max_stars_repo_name", "max_stars_repo_path", "content"), zip(*rows, strict=True), strict=True)
    )
    sizes = {"size": [1000, 2000, 3000, 4000, 5000]} if stated else {}
    (tmp_path / "stack").mkdir()
    pq.write_table(
        pa.table({name: list(column) for name, column in columns.items()} | sizes), tmp_path / "stack/a.parquet"
    )
    found = count([{"kind": "parquet", "path": str(tmp_path / "stack")}], tmp_path, "python")
    python, rust = (6000, 4000) if stated else (6 + 3, 10)
    assert found.there == {"python": Amount(3, python, 2), "rust": Amount(1, rust, 1)}
    assert found.taken == {"python": Amount(3, python, 2)}
    narrowed = [{"kind": "parquet", "path": str(tmp_path / "stack"), "languages": ["rust"]}]
    assert count(narrowed, tmp_path, "python", "rust").taken == {"rust": Amount(1, rust, 1)}


def test_a_package_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise PackageGoneError("the registry has no such release", seen="p")

    monkeypatch.setattr(corpus, "read_unit", gone)
    package = {"registry": "npm", "name": "p", "version": "1.0", "sha256": "0" * 64}
    source = {"kind": "package", "package": package, "licence": "MIT", "languages": ["python"]}
    with pytest.raises(PackageGoneError):
        count([source], tmp_path, "python")
    assert count([{**source, "optional": True}], tmp_path, "python") == Corpus({}, {}, ("npm:p@1.0",))


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        count([{"kind": "folder", "path": str(tmp_path / "none")}], tmp_path, "python")
