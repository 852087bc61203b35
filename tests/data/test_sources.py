"""Reading sources: keys, packages, licences and languages of packages, folders and Parquet."""

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codechoir.data.config import CurateConfig
from codechoir.data.sources import SourceFile, input_digests, read_unit, units
from codechoir.errors import ChecksumError, ConfigError, InputError
from codechoir.languages import LANGUAGES, language

ALL = list(LANGUAGES.values())


def config(*sources: dict[str, Any]) -> CurateConfig:
    return CurateConfig.parse({"sources": list(sources)}, "test")


def read(source: dict[str, Any], cache: Path, languages: tuple[str, ...] = tuple(LANGUAGES)) -> list[SourceFile]:
    pieces = units(config(source), [language(name) for name in languages])
    return [file for unit in pieces for file in read_unit(unit, cache)]


def tree(root: Path, **files: str) -> Path:
    """Files below `root`; `__` in a name stands for a slash."""
    for name, content in files.items():
        stem, _, suffix = name.rpartition("_")
        path = root / f"{stem.replace('__', '/')}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def cached(cache: Path, registry: str, members: dict[str, bytes]) -> dict[str, Any]:
    """An archive with `members` in the cache, as if fetched, and the source that pins it."""
    folder = cache / "packages" / registry / "p-1.0"
    folder.mkdir(parents=True)
    archive = folder / ("p-1.0-py3-none-any.whl" if registry == "pypi" else "p-1.0.tgz")
    if registry == "pypi":
        with zipfile.ZipFile(archive, "w") as zipped:
            for name, content in members.items():
                zipped.writestr(name, content)
    else:
        with tarfile.open(archive, "w:gz") as tarred:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tarred.addfile(info, io.BytesIO(content))
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    package = {"registry": registry, "name": "p", "version": "1.0", "sha256": sha256}
    return {"kind": "package", "package": package, "licence": "MIT", "languages": ["python", "javascript"]}


NPM = {
    "package/package.json": json.dumps({"license": "MIT"}).encode(),
    "package/lib/b.js": b"var b = 1\n",
    "package/lib/a.mjs": b"var a = 1\n",
    "package/test/a.js": b"test()\n",
    "package/src/A.java": b"class A {}\n",
    "package/lib/bad.js": b"ok \xff\n",
}


def test_an_npm_package(tmp_path: Path) -> None:
    source = cached(tmp_path, "npm", NPM)
    files = read({**source, "exclude": ["test/*"]}, tmp_path)
    assert [file.key for file in files] == ["npm:p@1.0/lib/a.mjs", "npm:p@1.0/lib/b.js", "npm:p@1.0/lib/bad.js"]
    assert {file.package for file in files} == {"p"}
    assert files[1].content == "var b = 1\n"
    assert files[1].language.id == "javascript"
    assert files[1].repository["max_stars_repo_name"] == "p"
    assert files[1].repository["max_stars_repo_path"] == "lib/b.js"
    assert files[1].repository["max_issues_repo_licenses"] == ["MIT"]
    assert (files[2].content, files[2].damage) == (None, "byte 3: invalid start byte")


def test_a_wheel(tmp_path: Path) -> None:
    metadata = b"Name: p\nLicense-Expression: MIT\n\n"
    source = cached(tmp_path, "pypi", {"p/a.py": b"a = 1\n", "p/b.txt": b"", "p-1.0.dist-info/METADATA": metadata})
    assert [file.key for file in read(source, tmp_path)] == ["pypi:p@1.0/p/a.py"]


def test_vendored_files_have_a_licence_of_their_own(tmp_path: Path) -> None:
    source = {**cached(tmp_path, "npm", NPM), "files_licence": "BSD-3-Clause", "include": ["lib/b*"]}
    files = read(source, tmp_path)
    assert [file.repository["max_stars_repo_licenses"] for file in files] == [["BSD-3-Clause"]] * 2


def test_a_package_of_another_licence_is_refused(tmp_path: Path) -> None:
    source = {**cached(tmp_path, "npm", NPM), "licence": "Apache-2.0"}
    with pytest.raises(InputError, match="licence stated for npm:p@1"):
        read(source, tmp_path)


def test_a_package_of_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = cached(tmp_path, "npm", NPM)
    source["package"]["sha256"] = "0" * 64
    other = tmp_path / "other.tgz"

    other.write_bytes(b"another archive")
    monkeypatch.setattr("codechoir.packages._download", lambda *_: other)
    with pytest.raises(ChecksumError, match="0000"):
        read(source, tmp_path)


def test_a_source_without_a_wanted_language_is_not_looked_at(tmp_path: Path) -> None:
    package = {"registry": "npm", "name": "does-not-exist", "version": "1", "sha256": "0" * 64}
    source = {"kind": "package", "package": package, "licence": "MIT", "languages": ["cpp"]}
    assert read(source, tmp_path, ("python",)) == []
    assert input_digests(config(source), [language("python")]) == {}


def test_an_unknown_language_or_licence_in_a_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of python, java"):
        config({"kind": "folder", "path": "x", "licence": "MIT", "languages": ["cobol"]})
    package = {"registry": "npm", "name": "p", "version": "1", "sha256": "0" * 64}
    with pytest.raises(ConfigError, match="GPL"):
        config({"kind": "package", "package": package, "licence": "GPL-3.0", "languages": ["java"]})


def test_a_folder_gives_a_package_for_each_top_folder(tmp_path: Path) -> None:
    root = tree(tmp_path / "code", one__src__a_py="a", two__b_java="b", loose_py="c", two__notes_txt="d")
    (root / "link.py").symlink_to(root / "loose.py")
    files = read({"kind": "folder", "path": str(root), "licence": "ISC"}, tmp_path)
    assert [(file.key, file.package, file.language.id) for file in files] == [
        ("folder:code/loose.py", "code", "python"),
        ("folder:code/one/src/a.py", "one", "python"),
        ("folder:code/two/b.java", "two", "java"),
    ]
    narrowed = {"kind": "folder", "path": str(root), "licence": "ISC", "languages": ["python"], "exclude": ["one/*"]}
    assert [file.key for file in read(narrowed, tmp_path)] == ["folder:code/loose.py"]


def test_a_folders_digest_is_of_its_wanted_files(tmp_path: Path) -> None:
    root = tree(tmp_path / "code", one__a_py="a", one__b_java="b")
    source = config({"kind": "folder", "path": str(root), "licence": "ISC"})
    before = input_digests(source, [language("python")])
    tree(root, one__b_java="changed")
    assert input_digests(source, [language("python")]) == before
    tree(root, one__a_py="changed")
    assert input_digests(source, [language("python")]) != before


STACK_ROW = {
    "content": "x = 1\n",
    "lang": "Python",
    "size": 999,
    "max_stars_repo_name": "owner/repo",
    "max_stars_repo_path": "src/x.py",
    "max_stars_repo_head_hexsha": "abc",
    "max_stars_repo_licenses": ["MIT", "ISC"],
    "max_stars_count": 7,
}


def stack(path: Path, *rows: dict[str, Any]) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([{**STACK_ROW, **row} for row in rows]), path)
    return {"kind": "parquet", "path": str(path)}


def test_parquet_with_the_stacks_columns(tmp_path: Path) -> None:
    source = stack(tmp_path / "a.parquet", {}, {"lang": "Go"}, {"lang": "C++", "max_stars_repo_path": "x.cc"})
    files = read(source, tmp_path)
    assert [(file.key, file.package, file.language.id) for file in files] == [
        ("owner/repo/src/x.py", "owner/repo", "python"),
        ("owner/repo/x.cc", "owner/repo", "cpp"),
    ]
    assert files[0].repository["max_stars_repo_licenses"] == ["MIT", "ISC"]
    assert files[0].repository["max_stars_count"] == 7
    assert files[0].repository["max_forks_repo_name"] is None


def test_licences_that_are_one_string_become_a_list(tmp_path: Path) -> None:
    source = stack(tmp_path / "a.parquet", {"max_stars_repo_licenses": "MIT"})
    assert read(source, tmp_path)[0].repository["max_stars_repo_licenses"] == ["MIT"]


def test_a_folder_of_parquet_is_a_unit_a_file_and_digested_by_rows(tmp_path: Path) -> None:
    stack(tmp_path / "in/python/a.parquet", {})
    stack(tmp_path / "in/python/b.parquet", {"content": "y = 1\n"})
    source = {"kind": "parquet", "path": str(tmp_path / "in")}
    assert len(units(config(source), ALL)) == 2
    before = input_digests(config(source), ALL)
    (tmp_path / "in/python/a.parquet").rename(tmp_path / "in/python/z.parquet")
    assert input_digests(config(source), ALL) == before
    stack(tmp_path / "in/python/b.parquet", {"content": "z = 1\n"})
    assert input_digests(config(source), ALL) != before


def test_damaged_and_missing_parquet_are_told(tmp_path: Path) -> None:
    source = stack(tmp_path / "a.parquet", {})
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="the Parquet file is damaged"):
        read(source, tmp_path)
    pq.write_table(pa.table({"content": ["x"], "lang": ["Python"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="max_stars_repo_name, max_stars_repo_path"):
        read(source, tmp_path)
    stack(tmp_path / "a.parquet", {"max_stars_repo_name": None})
    with pytest.raises(InputError, match="names no repository"):
        read(source, tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        read({"kind": "parquet", "path": str(tmp_path / "missing")}, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no Parquet file"):
        read({"kind": "parquet", "path": str(tmp_path / "empty")}, tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read({"kind": "folder", "path": str(tmp_path / "missing"), "licence": "MIT"}, tmp_path)
