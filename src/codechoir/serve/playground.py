"""The playground: the files of a folder beside this module, served as they are, and nothing else.

The page runs under a strict Content-Security-Policy: scripts, styles and connections of its own origin alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response

FOLDER = Path(__file__).parent / "playground"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".ico": "image/x-icon",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"content-security-policy": _POLICY, "referrer-policy": "no-referrer", "cache-control": "no-cache"}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file's content and type."""

    content: bytes
    media_type: str

    def response(self) -> Response:
        """The file as an answer."""
        return Response(self.content, media_type=self.media_type, headers=_HEADERS)


def read_playground(folder: Path = FOLDER) -> dict[str, PageFile]:
    """File name -> file, of those with a known suffix. No request's path ever reaches the disk."""
    return {
        path.name: PageFile(path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(folder.glob("*"))
        if path.suffix in _TYPES and path.is_file()
    }
