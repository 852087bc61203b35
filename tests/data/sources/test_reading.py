"""Reading sources: keys, packages, licences and languages of packages and folders."""

import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from codechoir.data.config import CurateConfig
from codechoir.data.sources.reading import Row, input_digests, read_unit, units
from codechoir.data.sources.rows import GATHERED_SCHEMA
from codechoir.errors import ChecksumError, ConfigError, InputError
from codechoir.languages import LANGUAGES, language


def config(*sources: dict[str, Any]) -> CurateConfig:
    return CurateConfig.parse({"sources": list(sources)}, "test")


def read(
    source: dict[str, Any], cache: Path, languages: tuple[str, ...] = tuple(LANGUAGES), most: int = 2**20
) -> list[Row]:
    """The source's rows, by key; each fits the schema."""
    pieces = units(config(source), [language(name) for name in languages])
    rows = [row for unit in pieces for row in read_unit(unit, cache, most)]
    assert pa.Table.from_pylist(rows, GATHERED_SCHEMA).num_rows == len(rows)
    assert all(set(row) == set(GATHERED_SCHEMA.names) for row in rows)
    return sorted(rows, key=lambda row: str(row["key"]))


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


ISC = """ISC License

Copyright (c) 2020 Somebody

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE.
"""
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
    assert [file["key"] for file in files] == ["npm:p@1.0/lib/a.mjs", "npm:p@1.0/lib/b.js", "npm:p@1.0/lib/bad.js"]
    assert {file["package"] for file in files} == {"p"}
    assert files[1]["content"] == "var b = 1\n"
    assert files[1]["language"] == "javascript"
    assert files[1]["max_stars_repo_name"] == "p"
    assert files[1]["max_stars_repo_path"] == "lib/b.js"
    assert files[1]["max_issues_repo_licenses"] == ["MIT"]
    assert (files[2]["content"], files[2]["damage"]) == (None, "not-utf8: byte 3: invalid start byte")


def test_a_wheel(tmp_path: Path) -> None:
    metadata = b"Name: p\nLicense-Expression: MIT\n\n"
    source = cached(tmp_path, "pypi", {"p/a.py": b"a = 1\n", "p/b.txt": b"", "p-1.0.dist-info/METADATA": metadata})
    assert [file["key"] for file in read(source, tmp_path)] == ["pypi:p@1.0/p/a.py"]


def test_vendored_files_have_a_licence_of_their_own(tmp_path: Path) -> None:
    source = {**cached(tmp_path, "npm", NPM), "files_licence": "BSD-3-Clause", "include": ["lib/b*"]}
    files = read(source, tmp_path)
    assert [file["max_stars_repo_licenses"] for file in files] == [["BSD-3-Clause"]] * 2


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


def test_an_unknown_language_in_a_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of assembly, batchfile"):
        config({"kind": "folder", "path": "x", "licence": "MIT", "languages": ["cobol"]})


def test_a_folder_gives_a_package_for_each_top_folder(tmp_path: Path) -> None:
    root = tree(tmp_path / "code", one__src__a_py="a", two__b_java="b", loose_py="c", two__notes_txt="d")
    (root / "link.py").symlink_to(root / "loose.py")
    files = read({"kind": "folder", "path": str(root), "licence": "ISC"}, tmp_path)
    assert [(file["key"], file["package"], file["language"]) for file in files] == [
        ("folder:code/loose.py", "code", "python"),
        ("folder:code/one/src/a.py", "one", "python"),
        ("folder:code/two/b.java", "two", "java"),
    ]
    narrowed = {"kind": "folder", "path": str(root), "licence": "ISC", "languages": ["python"], "exclude": ["one/*"]}
    assert [file["key"] for file in read(narrowed, tmp_path)] == ["folder:code/loose.py"]


def test_a_folders_digest_is_of_its_wanted_files(tmp_path: Path) -> None:
    root = tree(tmp_path / "code", one__a_py="a", one__b_java="b")
    source = config({"kind": "folder", "path": str(root), "licence": "ISC"})
    before = input_digests(source, [language("python")])
    tree(root, one__b_java="changed")
    assert input_digests(source, [language("python")]) == before
    tree(root, one__a_py="changed")
    assert input_digests(source, [language("python")]) != before


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    source = cached(tmp_path, "npm", {**NPM, "package/lib/b.js": b"x" * 5000})
    root = tree(tmp_path / "code", one__a_py="x" * 5000)
    for given, key in ((source, "npm:p@1.0/lib/b.js"), ({"kind": "folder", "path": str(root)}, "folder:code/one/a.py")):
        files = {file["key"]: file for file in read(given, tmp_path, most=4999)}
        assert (files[key]["content"], files[key]["damage"]) == (None, "too-large: 5000 bytes")


def test_a_folder_without_a_stated_licence_is_under_that_of_its_licence_file(tmp_path: Path) -> None:
    root = tree(tmp_path / "code", one__a_py="a = 1", two__b_py="b = 1")
    (root / "one" / "LICENSE").write_text(ISC)
    files = read({"kind": "folder", "path": str(root)}, tmp_path)
    assert [file["licences"] for file in files] == [["ISC"], []]


def test_a_git_checkout_is_a_repository_at_its_head(tmp_path: Path) -> None:
    root = tree(tmp_path / "code", repo__a_py="a = 1\n")
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org", "-C", str(root / "repo")]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    tree(root, repo__untracked_py="b = 1\n")
    files = read({"kind": "folder", "path": str(root), "licence": "MIT"}, tmp_path)
    assert [(file["path"], file["package"], file["max_stars_repo_head_hexsha"]) for file in files] == [
        ("a.py", "repo", head)
    ]


def test_content_decides_where_a_suffix_does_not(tmp_path: Path) -> None:
    root = tree(tmp_path / "code", one__a_h="class A {\n public:\n  A();\n};\n", one__b_h="#define B 1\n")
    files = read({"kind": "folder", "path": str(root), "licence": "MIT"}, tmp_path)
    assert [(file["path"], file["language"], bool(file["doubt"])) for file in files] == [
        ("a.h", "cpp", False),
        ("b.h", "cpp", True),
    ]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read({"kind": "folder", "path": str(tmp_path / "missing"), "licence": "MIT"}, tmp_path)
