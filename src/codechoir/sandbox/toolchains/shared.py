"""Where things are kept that programs in a sandbox must be able to read.

Not every cache will do: a sandbox that root has started runs as another user, who may not enter root's own folders, and
each program has a /tmp of its own, which hides the machine's. Knows nothing of what is kept.
"""

from __future__ import annotations

import os
from pathlib import Path

_SYSTEM = Path("/var/cache/codechoir")
_HIDDEN = Path("/tmp")


def shared_cache(cache: Path) -> Path:
    """`cache` where a sandbox can show it; else root's and the user's place for what it can."""
    cache = cache.expanduser().resolve()
    if not cache.is_relative_to(_HIDDEN) and (os.geteuid() != 0 or _open_to_all(cache)):
        return cache
    return _SYSTEM if os.geteuid() == 0 else Path.home().resolve() / ".cache" / "codechoir"


def shared_caches(cache: Path) -> tuple[Path, ...]:
    """All places where something for a sandbox may have been put, by this user or by root; the user's is first."""
    return tuple(dict.fromkeys((shared_cache(cache), _SYSTEM)))


def _open_to_all(path: Path) -> bool:
    """Whether every user may pass through the folders of `path`, as far as they exist."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.exists())
