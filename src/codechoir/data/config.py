"""What the curate stage can be told: its sources, its filters, and which packages are held out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from codechoir.config import Config
from codechoir.languages import LANGUAGES
from codechoir.packages import Package

Licence = Literal["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "ISC", "MIT", "Unlicense", "Zlib"]


def _known_language(name: str) -> str:
    if name not in LANGUAGES:
        raise ValueError(f"one of {', '.join(LANGUAGES)}")
    return name


LanguageId = Annotated[str, AfterValidator(_known_language)]

_GLOBS = "as shell patterns against the path below the root; * also matches across folders"


class PackageSource(Config):
    """Source files in one pinned archive of PyPI or npm."""

    kind: Literal["package"] = Field(description="a wheel of PyPI or a tarball of npm")
    package: Package = Field(description="the pinned archive")
    licence: Licence = Field(description="SPDX id; the archive's own metadata must agree")
    files_licence: Licence | None = Field(
        None, description="SPDX id of the files taken, where they are vendored under another licence than the package's"
    )
    languages: tuple[LanguageId, ...] = Field(description="languages to take from it", min_length=1)
    include: tuple[str, ...] = Field(("*",), description=f"files to take, {_GLOBS}")
    exclude: tuple[str, ...] = Field((), description=f"files to leave, {_GLOBS}")

    def __str__(self) -> str:
        return str(self.package)


class FolderSource(Config):
    """Source files below a local folder; a package is a top folder in it, or the folder itself for loose files."""

    kind: Literal["folder"] = Field(description="a local folder of source files")
    path: str = Field(description="the folder")
    licence: str = Field(description="the files' licence, as it shall be written (an SPDX id)", min_length=1)
    languages: tuple[LanguageId, ...] = Field((), description="languages to take from it; none named: all of the run")
    include: tuple[str, ...] = Field(("*",), description=f"files to take, {_GLOBS}")
    exclude: tuple[str, ...] = Field((), description=f"files to leave, {_GLOBS}")

    def __str__(self) -> str:
        return f"folder:{self.path}"


class ParquetSource(Config):
    """Rows with The Stack v1's columns; a package is a repository (`max_stars_repo_name`)."""

    kind: Literal["parquet"] = Field(description="Parquet with The Stack's columns")
    path: str = Field(description="a file, or a folder that is searched for *.parquet")
    languages: tuple[LanguageId, ...] = Field((), description="languages to take from it; none named: all of the run")

    def __str__(self) -> str:
        return f"parquet:{self.path}"


Source = Annotated[PackageSource | FolderSource | ParquetSource, Field(discriminator="kind")]


class FilterConfig(Config):
    """Thresholds of the filters (Chen et al. 2021, section 3.1, as The Stack's and SantaCoder's)."""

    max_mean_line_length: float = Field(100, description="longest mean line, in characters", gt=0)
    max_line_length: int = Field(1000, description="longest line, in characters", gt=0)
    min_alphanum_fraction: float = Field(0.25, description="least share of letters and digits", ge=0, le=1)
    auto_generated: bool = Field(True, description="whether to reject files that say they were generated")


class CurateConfig(Config):
    """The curate stage."""

    sources: tuple[Source, ...] = Field(description="where code comes from", min_length=1)
    filters: FilterConfig = Field(
        default_factory=lambda: FilterConfig.model_validate({}), description="what is rejected"
    )
    held_out: dict[LanguageId, tuple[str, ...]] = Field(
        {}, description="packages held out from training, by language; a package is held out for all its languages"
    )
    held_out_fraction: float = Field(
        0.1, description="share of packages held out in languages for which held_out names none", gt=0, lt=1
    )
    seed: int = Field(0, description="seed of the choice of held-out packages where none is named")

    @model_validator(mode="after")
    def _names_are_given(self) -> CurateConfig:
        empty = [language for language, names in self.held_out.items() if not names]
        if empty:
            raise ValueError(f"held_out names no package for {', '.join(empty)}; leave the key out to have them chosen")
        return self
