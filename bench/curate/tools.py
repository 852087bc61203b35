"""THE table of what is compared: each tool's task, environment, command, and the ratio that is asked of us against it.

Owns the peers' environments (build/bench/envs) and how a command is made; `measure` runs it, `oracle` judges it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.curate.measure import Measured, measure

Task = Literal["filters", "dedup"]
HERE = Path(__file__).parent
PEERS = HERE / "peers"
NUM_PERM = "250"
# as the project's command line sets them before it loads Daft
OURS = {
    "DAFT_PROGRESS_BAR": "0",
    "DO_NOT_TRACK": "1",
    "_RJEM_MALLOC_CONF": "narenas:2,dirty_decay_ms:0,muzzy_decay_ms:0",
}
NO_NETWORK = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "polars": ("polars==2.1.0",),
    "rensa": ("rensa==0.5.0", "scipy==1.17.1", "numpy==2.4.6", "pyarrow==25.0.1"),
    "datatrove": (
        "datatrove==0.10.1",
        "fasteners==0.20",
        "nltk==3.10.4",
        "numpy==2.4.6",
        "orjson==3.13.0",
        "pyarrow==25.0.1",
        "regex",
        "tokenizers",
        "xxhash==3.8.2",
    ),
    # what its MinHash imports; its Spark, sphinx and UniSim parts are left out
    "text-dedup": (
        "click==8.5.1",
        "click-option-group==0.5.10",
        "datasets==3.6.0",
        "ftfy==6.3.1",
        "numpy==2.2.6",
        "pyarrow==25.0.1",
        "regex",
        "rich==13.9.4",
        "scipy==1.15.3",
        "xxhash==4.1.0",
    ),
}
WITHOUT_DEPENDENCIES = {"text-dedup": ("text-dedup==0.4.0",)}


@dataclass(frozen=True, slots=True)
class Tool:
    """One contestant at one task."""

    name: str
    task: Task
    environment: str | None  # None: the project's own
    package: str | None  # whose version is told
    script: str | None  # None: text-dedup's own command line
    arguments: tuple[str, ...] = ()
    needs_work_folder: bool = False
    target: float | None = None  # how many times its speed is asked of us

    @property
    def is_ours(self) -> bool:
        return self.environment is None


TOOLS = (
    Tool("codechoir", "filters", None, None, "ours_filters"),
    Tool("Polars streaming", "filters", "polars", "polars", "polars_filters.py", ("count",), target=3.0),
    Tool("Polars streaming, fastest form found", "filters", "polars", "polars", "polars_filters.py", ("strip",)),
    Tool(
        "datatrove LambdaFilter, 2 workers",
        "filters",
        "datatrove",
        "datatrove",
        "datatrove_filters.py",
        needs_work_folder=True,
        target=10.0,
    ),
    Tool("codechoir, verified", "dedup", None, None, "ours_dedup"),
    Tool("rensa + scipy components", "dedup", "rensa", "rensa", "rensa_dedup.py", ("1",), target=1.5),
    Tool("rensa + scipy components, 2 processes", "dedup", "rensa", "rensa", "rensa_dedup.py", ("2",)),
    Tool(
        "datatrove MinHash stages, 2 workers",
        "dedup",
        "datatrove",
        "datatrove",
        "datatrove_dedup.py",
        needs_work_folder=True,
        target=10.0,
    ),
    Tool(
        "text-dedup MinHash, 2 processes",
        "dedup",
        "text-dedup",
        "text-dedup",
        None,
        needs_work_folder=True,
        target=15.0,
    ),
)


def prepare_environments(envs: Path, names: Sequence[str]) -> None:
    """Makes the environments that are missing; one that was made with other requirements is made anew."""
    for name in names:
        wanted = "\n".join([*ENVIRONMENTS[name], *WITHOUT_DEPENDENCIES.get(name, ())])
        mark = envs / name / "requirements.txt"
        if mark.is_file() and mark.read_text() == wanted:
            continue
        sys.stderr.write(f"installing {name}\n")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(envs / name)], check=True)
        pip = [str(envs / name / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *ENVIRONMENTS[name]], check=True)
        if name in WITHOUT_DEPENDENCIES:
            subprocess.run([*pip, "--no-deps", *WITHOUT_DEPENDENCIES[name]], check=True)
        mark.write_text(wanted)


def version(tool: Tool, envs: Path) -> str:
    """The installed version of a peer."""
    assert tool.environment is not None and tool.package is not None
    code = f"from importlib.metadata import version; print(version({tool.package!r}))"
    python = envs / tool.environment / "bin" / "python"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def run(tool: Tool, corpus: Path, removed: Path, work: Path, envs: Path) -> Measured:
    """One measured run; `removed` gets the removed ids, also where the tool tells them in its own way."""
    removed.parent.mkdir(parents=True, exist_ok=True)
    removed.unlink(missing_ok=True)
    work.mkdir(parents=True)  # new for each run: no tool shall find an earlier run's cache
    python = sys.executable if tool.environment is None else str(envs / tool.environment / "bin" / "python")
    environment = {**NO_NETWORK, "HF_HOME": str(work / "hf"), "TMPDIR": str(work), **(OURS if tool.is_ours else {})}
    command = [python, *_arguments(tool, corpus, removed, work)]
    os.sync()  # what the tool before has written shall not be written during this one's time
    measured = measure(command, removed.with_suffix(".log"), environment)
    if tool.script is None and measured.exit_code == 0:
        tell = [python, str(PEERS / "text_dedup_removed.py"), str(corpus), str(removed), str(work / "out")]
        subprocess.run(tell, check=True)
    return measured


def _arguments(tool: Tool, corpus: Path, removed: Path, work: Path) -> list[str]:
    if tool.is_ours:
        return ["-m", f"bench.curate.{tool.script}", str(corpus), str(removed)]
    if tool.script is not None:
        extra = [str(work)] if tool.needs_work_folder else []
        return [str(PEERS / tool.script), str(corpus), str(removed), *tool.arguments, *extra]
    options = {
        "path": "parquet",
        "data_files": f"{corpus}/*.parquet",
        "split": "train",
        "cache_dir": work / "cache",
        "output": work / "out",
        "column": "content",
        "ngram": 5,
        "threshold": 0.7,
        "num_perm": NUM_PERM,
        "num_proc": 2,
        "hash_func": "xxh3",  # its fastest, by its own help
        "hash_bits": 32,
    }
    flags = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    return ["-m", "text_dedup.minhash", *flags, "--no-clean_cache"]
