"""The benchmark's corpora: The Stack's columns, made of pinned packages of PyPI and npm, in folders of Parquet files.

Owns which packages, how they become rows and how the scales are cut. Files of at most 1 MiB (The Stack's own limit),
minified and generated ones included; the packages come in two versions where near-duplicates shall occur naturally.
Rows have one column more than The Stack's, `id`: their number. A corpus lies in `part-NNN.parquet` files of ROWS rows,
in one row group each.

Smaller scales are samples of larger ones that keep or leave a file's versions together, so that every scale has the
same share of near-duplicates. Beyond the natural corpus a copy is added in which every identifier and number is
enciphered: it has the same structure, and resembles nothing in the original.
"""

from __future__ import annotations

import hashlib
import keyword
import random
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from codechoir.documents import STACK_SCHEMA
from codechoir.packages import Package, fetch, read_members

ROWS = 2000
MAX_BYTES = 2**20
SCHEMA = pa.schema([("id", pa.int64()), *STACK_SCHEMA])
LAYOUT = 1  # counted up when rows of the same packages come out differently


@dataclass(frozen=True, slots=True)
class Pinned:
    """One archive and its licence."""

    registry: Literal["pypi", "npm"]
    name: str
    version: str
    licence: str
    sha256: str


def _pinned(table: str) -> tuple[Pinned, ...]:
    return tuple(Pinned(*line.split()) for line in table.strip().splitlines())  # type: ignore[arg-type]


PACKAGES = _pinned("""
pypi django 4.2.16 BSD-3-Clause 1ddc333a16fc139fd253035a1606bb24261951bbc3a6ca256717fa06cc41a898
pypi django 5.0.9 BSD-3-Clause f219576ba53be4e83f485130a7283f0efde06a9f2e3a7c3c5180327549f078fa
pypi kubernetes 31.0.0 Apache-2.0 bf141e2d380c8520eada8b351f4e319ffee9636328c137aa432bc486ca1200e1
pypi networkx 3.2.1 BSD-3-Clause f18c69adc97877c42332c170849c96cefa91881c99a7cb3e95b7c659ebdc1ec2
pypi sqlalchemy 1.4.54 MIT fb59a11689ff3c58e7652260127f9e34f7f45478a2f3ef831ab6db7bcd72108f
pypi sqlalchemy 2.0.36 MIT 2519f3a5d0517fc159afab1015e54bb81b4406c278749779be57a569d8d1bb0d
pypi sympy 1.12 BSD-3-Clause c3588cd4295d0c0f603d0f2ae780587e64e2efeedb3521e46b9bb1d08d184fa5
npm @capacitor/android 6.1.2 MIT d436f18152580f7b935bd839e7db3ad6ba2ab48a53cdb3488bd162140e01d736
npm @types/node 20.17.6 MIT cfa6deed6060b65180c7cc1b7ab5193e40441747242681c4ba839c9fd16fee0d
npm @types/node 22.9.0 MIT 8c502db09acce005d8ed708c3be1bd4bf50255aab4ec47bcc38321c453ac01e4
npm bootstrap 4.6.2 MIT 2cf88a607ca6e0fa48e02e4d922308e5a871f9064e0f81577b2f68e46a6495cb
npm bootstrap 5.3.3 MIT 38cee936dbd80138de6775683149f22e9226fc2d654392337a921f53000c789e
npm cordova-android 13.0.0 Apache-2.0 0f5f6800ea1b174763a737459754a954b9d4bc9615c6ac56450d6c3f8ad64d3d
npm core-js 3.39.0 MIT 62b38ac8c1c70adfa235081c49b0a2b13424206174925a303400e0869e729ef4
npm date-fns 2.30.0 MIT 0a6899307d0887bb23b9b982068b4f4a6509e3075fc798ad0d8abe6b0dc2cc4e
npm date-fns 3.6.0 MIT a8fe07bb86cfe3c75fbc6d4718816b0e5eb1ce6ba43930b961e9dbec73e68300
npm eslint 8.57.1 MIT d1b7839d38cd5738b2242eab4e00771c212e71cc2580468b97934f0fc2f2de3b
npm eslint 9.15.0 MIT 8a400a3c6ac4cadaed2d7c2656ca4ac2d98722ddaf5d8e615670b72557b4e77e
npm grpc 1.24.11 Apache-2.0 a65ac87fa001d2a17acc611d60f8fcb0c14fd84303130e37203e5447c7296d8a
npm jquery 2.2.4 MIT 1ce113265b4e2a1c8cfc1da2fbf8836bd44e2911daa2a264b8ec52afef2e19a1
npm jquery 3.7.1 MIT 68a9f787516da47c680e09c187bcbac4536b6f85d90eb882844e12919e583f53
npm lodash 4.17.21 MIT 6a087ac9e5702a0c9d60fbcd48696012646ec8df1491dea472b150e79fcaf804
npm mathjs 12.4.3 Apache-2.0 3efcb76522b8deebebfee805563fa79e331c2d279b7e55a8a36e744572ae3586
npm node-sass 9.0.0 MIT 5d28db5f71284fb2ef2ec8e1fa66de7ff5e3d62bad4a514141d3a660cd1a159d
npm re2 1.21.4 BSD-3-Clause 9085f5013280cc1b3ea64e65ad6151012711ef73fed665eb921ee9e0ef791e71
npm react-native 0.67.5 MIT 93d8e3a74bf3389967dc08df2f987e6408dfb81b53d3c7737dbae62403933348
npm react-native 0.68.7 MIT 5256996515f359eccb6c583e01b9bccd0595a4ab285eb1193413a524c47ad4f1
npm rxjs 6.6.7 Apache-2.0 4098c33a24dfe1a854fd70837e8854b9d9c799c3f17b8c81e250b4a67f380526
npm rxjs 7.8.1 Apache-2.0 c532167725ab7d085123209156c93cef22f2479cb9c8527060f1cd903aa9d149
npm three 0.160.1 MIT d462f9bb4a53d0a75f5ebba49ec1c69847f166cd1bd6cbfdd98ce0b5b7988609
npm typescript 5.6.3 Apache-2.0 ef67f8d8ad895858024b7339d3e34bf112cae3c5db1f538c3079038b17ae30fa
npm webpack 5.96.1 MIT 0f6b03262c764b8ed22edc182bed56ba8671b0ac272b187f2bb44e087aa4f04e
""")

LANGUAGES = {
    suffix: language
    for language, suffixes in {
        "Python": (".py",),
        "JavaScript": (".js", ".mjs", ".cjs", ".jsx"),
        "TypeScript": (".ts", ".tsx"),
        "Java": (".java",),
        "C": (".c",),
        "C++": (".cc", ".cpp", ".cxx", ".hpp", ".hh", ".h"),
        "CSS": (".css",),
        "SCSS": (".scss",),
        "HTML": (".html",),
        "Markdown": (".md",),
    }.items()
    for suffix in suffixes
}


@dataclass(frozen=True, slots=True)
class File:
    """One file of a package."""

    package: str  # without its version: versions of a package are a family
    repository: str
    path: str
    language: str
    licence: str
    stars: int | None
    content: str

    @property
    def size(self) -> int:
        return len(self.content.encode())


def natural_files(cache: Path) -> list[File]:
    """Every file of every package, in the order of the sample: a prefix of it is a smaller corpus."""
    files = [file for pinned in PACKAGES for file in _files(pinned, cache)]
    return sorted(files, key=lambda file: (_family(file), file.repository, file.path))


def _files(pinned: Pinned, cache: Path) -> Iterator[File]:
    archive = fetch(
        Package.model_validate({k: getattr(pinned, k) for k in ("registry", "name", "version", "sha256")}), cache
    )
    repository = f"{pinned.name}-{pinned.version}"
    digest = hashlib.sha256(repository.encode()).digest()
    stars = None if digest[0] < 64 else int.from_bytes(digest[1:3])  # a quarter of The Stack's rows have none
    for name, data in read_members(archive, lambda name: PurePosixPath(name).suffix.lower() in LANGUAGES).items():
        path = PurePosixPath(name)
        if len(data) > MAX_BYTES:
            continue
        try:
            content = data.decode()
        except UnicodeDecodeError:
            continue
        language = LANGUAGES[path.suffix.lower()]
        yield File(pinned.name, repository, str(path), language, pinned.licence, stars, content)


def _family(file: File) -> bytes:
    return _digest(file.package, *PurePosixPath(file.path).parts[-2:])


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()


def scaled(files: Sequence[File], num_bytes: int) -> list[File]:
    """A corpus of about `num_bytes` of content: a prefix of `files`, or all of them and enciphered copies."""
    chosen, total, copy = [], 0, 0
    while total < num_bytes:
        for file in files:
            if total >= num_bytes:
                break
            file = file if copy == 0 else enciphered(file, copy)
            chosen.append(file)
            total += file.size
        copy += 1
    return sorted(chosen, key=lambda file: _digest(file.repository, file.path))


_KEPT = frozenset(keyword.kwlist) | frozenset(
    word
    for line in (
        "abstract boolean catch char const default define do double enum export extends final float function endif",
        "ifdef ifndef implements include instanceof int interface let long namespace new null override package private",
        "protected public short signed sizeof static struct super switch template this throw throws true try typedef",
        "typename typeof undefined union unsigned using var virtual void volatile generated automatically edit",
    )
    for word in line.split()
)
_WORD = re.compile(r"\\?\w+")


def enciphered(file: File, copy: int) -> File:
    """The file with each identifier's letters and each number's digits replaced, the same way throughout a copy.

    Keywords, escapes, hexadecimal prefixes, layout and lengths stay. Equal tokens stay equal and others stay different,
    so that near-duplicates within a copy stay so; no other token than those and zeros stays as it was.
    """
    letters, digits = _deranged(string.ascii_lowercase, copy), _deranged("123456789", copy)
    hexadecimal = _deranged("abcdef", copy)
    words = str.maketrans(
        string.ascii_lowercase + string.ascii_uppercase + "123456789", letters + letters.upper() + digits
    )
    numbers = str.maketrans("abcdefABCDEF123456789", hexadecimal + hexadecimal.upper() + digits)

    def replaced(match: re.Match[str]) -> str:
        word = match[0]
        if word in _KEPT or word.startswith("\\"):
            return word
        if word[0].isdigit():
            return word[:2] + word[2:].translate(numbers) if word[:2] in ("0x", "0X") else word.translate(numbers)
        return word.translate(words)

    return replace(
        file,
        package=f"{file.package}-copy{copy}",
        repository=f"{file.repository}-copy{copy}",
        content=_WORD.sub(replaced, file.content),
    )


def _deranged(alphabet: str, seed: int) -> str:
    """A permutation of `alphabet` that leaves no character in its place."""
    chosen = random.Random(seed)
    while True:
        shuffled = "".join(chosen.sample(alphabet, len(alphabet)))
        if all(before != after for before, after in zip(alphabet, shuffled, strict=True)):
            return shuffled


def write_corpus(folder: Path, files: Iterable[File]) -> None:
    """Writes rows numbered from 0; the folder appears once it is whole."""
    scratch = folder.with_name(folder.name + ".partial")
    scratch.mkdir(parents=True, exist_ok=True)
    for stale in scratch.iterdir():
        stale.unlink()
    rows: list[dict[str, Any]] = []
    part = 0
    for number, file in enumerate(files):
        rows.append({"id": number, **_row(file)})
        if len(rows) == ROWS:
            _write_part(scratch, part, rows)
            rows, part = [], part + 1
    if rows:
        _write_part(scratch, part, rows)
    scratch.rename(folder)


def _write_part(folder: Path, part: int, rows: Sequence[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    pq.write_table(table, folder / f"part-{part:03d}.parquet", compression="zstd", row_group_size=ROWS)


def _row(file: File) -> dict[str, Any]:
    content = file.content
    data = content.encode()
    lengths = [len(line) for line in content.splitlines()] or [0]
    place = {"repo_path": file.path, "repo_name": file.repository, "repo_licenses": [file.licence], "count": file.stars}
    return {
        "content": content,
        "size": len(data),
        "lang": file.language,
        "ext": PurePosixPath(file.path).suffix.removeprefix("."),
        "avg_line_length": sum(lengths) / len(lengths),
        "max_line_length": max(lengths),
        "alphanum_fraction": sum(map(str.isalnum, content)) / len(content) if content else 0.0,
        "hexsha": hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest(),
        **{
            f"{event}_{key}": value
            for event in ("max_stars", "max_forks", "max_issues")
            for key, value in place.items()
        },
    }


def read_corpus(folder: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a corpus in the order of their numbers."""
    for path in sorted(folder.glob("*.parquet")):
        yield from pq.read_table(path, columns=list(columns)).to_pylist()


def corpus_name(scale: str) -> str:
    """A folder's name that tells apart corpora of different packages and layouts."""
    return f"{scale}-{_digest(str(LAYOUT), repr(PACKAGES)).hex()[:8]}"
