"""The TypeScript compiler: the native one of TypeScript 7, a pinned package of npm's, unpacked and not built.

Owns which release it is, where it is kept and how it is brought there.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from pathlib import Path

from codechoir.archives import unpacked
from codechoir.artifacts import cache_dir
from codechoir.errors import ToolMissingError
from codechoir.packages import Package, fetch
from codechoir.sandbox.toolchains.shared import shared_caches

VERSION = "7.0.2"
_RELEASES = {
    machine: Package(registry="npm", name=f"@typescript/typescript-linux-{name}", version=VERSION, sha256=sha256)
    for machine, name, sha256 in (
        ("x86_64", "x64", "7ecad6f67377e831856367ab062ef394f21506a611405bf8ac0ff039348637d3"),
        ("aarch64", "arm64", "c83d931ac9dd7549cde6e71246aa9d6a9812843023df3e277fe3b5dcf41dd0ea"),
    )
}


def find_typescript() -> Path | None:
    """The compiler's folder, where it is installed; the program is `lib/tsc` in it."""
    for folder in _folders():
        if (folder / "lib" / "tsc").is_file():
            return folder
    return None


def install_typescript() -> Path:
    """The compiler's folder, brought here from npm where it is missing.

    Raises ToolMissingError on a machine that it is not released for, and as `fetch` does.
    """
    found = find_typescript()
    if found is not None:
        return found
    release = _RELEASES.get(platform.machine())
    if release is None:
        raise ToolMissingError(
            "TypeScript's native compiler is not pinned for this machine",
            seen=platform.machine(),
            allowed=", ".join(_RELEASES),
        )
    folder = _folders()[0]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        unpacked(fetch(release, cache_dir())) as content,
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".typescript-") as scratch,
    ):
        made = Path(scratch) / folder.name
        shutil.copytree(content / "package", made)
        for path in (made, *made.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.name == "tsc" else 0o644)
        made.rename(folder)
    return folder


def _folders() -> list[Path]:
    """Where the compiler may be; the first is where this user installs it."""
    return [cache / "toolchains" / f"typescript-{VERSION}" for cache in shared_caches(cache_dir())]
