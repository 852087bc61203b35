"""THE table of toolchains, keyed by `Language.id`. Joins the families' modules; knows no language itself."""

from __future__ import annotations

from codechoir.errors import ConfigError
from codechoir.sandbox.toolchains import native, scripts, virtual_machines
from codechoir.sandbox.toolchains.toolchain import Toolchain

TOOLCHAINS: dict[str, Toolchain] = {
    toolchain.language: toolchain
    for toolchain in (
        *(scripts.PYTHON, native.CPP, virtual_machines.JAVA, virtual_machines.JAVASCRIPT, virtual_machines.TYPESCRIPT),
        *(native.GO, native.RUST, scripts.PHP, scripts.RUBY, scripts.PERL, scripts.LUA, scripts.R, scripts.SHELL),
        *(scripts.RACKET, virtual_machines.CSHARP, native.D, virtual_machines.SCALA),
    )
}


def toolchain_of(language: str) -> Toolchain:
    """The toolchain of a language id. Raises ConfigError where there is none."""
    found = TOOLCHAINS.get(language)
    if found is None:
        raise ConfigError("no toolchain for this language", seen=language, allowed=", ".join(TOOLCHAINS))
    return found
