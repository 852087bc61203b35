"""What of the sandbox and the toolchains works on this machine, for `codechoir doctor`. Installs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codechoir.errors import ToolMissingError
from codechoir.sandbox.isolation import Sandbox, open_sandbox
from codechoir.sandbox.programs import check_toolchain
from codechoir.sandbox.toolchains import TOOLCHAINS, Toolchain, missing_parts, toolchain_version


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the machine and its state."""

    part: str  # "sandbox", or a Language.id
    state: Literal["works", "broken", "missing"]
    version: str  # empty where unknown
    packages: tuple[str, ...]  # Debian packages that bring it
    detail: str  # what was seen; empty where it works


def diagnose() -> list[Finding]:
    """The sandbox, then each toolchain, each tried on a good and a bad program.

    Where the sandbox does not work, toolchains are tried without it: the probes are programs of ours.
    """
    try:
        sandbox = open_sandbox("bubblewrap")
        first = Finding("sandbox", "works", sandbox.description, ("bubblewrap",), "")
    except ToolMissingError as error:
        sandbox = Sandbox("unsafe-no-sandbox", "none")
        state: Literal["broken", "missing"] = "missing" if error.seen is None else "broken"
        first = Finding("sandbox", state, "", ("bubblewrap",), _detail(error))
    return [first, *(_toolchain_finding(sandbox, toolchain) for toolchain in TOOLCHAINS.values())]


def _toolchain_finding(sandbox: Sandbox, toolchain: Toolchain) -> Finding:
    version = toolchain_version(toolchain.language)
    try:
        check_toolchain(sandbox, toolchain)
    except ToolMissingError as error:
        state: Literal["broken", "missing"] = "missing" if missing_parts(toolchain) else "broken"
        return Finding(toolchain.language, state, version, toolchain.packages, _detail(error))
    return Finding(toolchain.language, "works", version, toolchain.packages, "")


def _detail(error: ToolMissingError) -> str:
    return error.what if error.seen is None else f"{error.what}: {error.seen}"
