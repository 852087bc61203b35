"""Daft as curation uses it: which runner, how much at a time, and tables that are written whole or not at all.

A step is a function from data frames to data frames, the same on one machine and on a Ray cluster. Contents go
through it in batches of bounded size, since Daft reads ahead as far as a query's input goes: a batch bounds memory,
and it is what an interrupted run has whole or not at all. Knows nothing of what the rows mean.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import daft
import pyarrow as pa
import pyarrow.parquet as pq
from daft import DataFrame, DataType
from daft.exceptions import DaftCoreException

from codechoir.artifacts import disk_full_told
from codechoir.errors import InputError, ToolMissingError

UDF_ROWS = 192  # rows of contents that a thread works on at a time
PARTIAL = ".partial"

Engine = Literal["native", "ray"]
_started: list[Engine] = []  # at most one: Daft's choice is the process's


def start(engine: Engine, ray_address: str | None = None) -> None:
    """Makes Daft run on this machine, or on a Ray cluster: once in a process.

    Raises ToolMissingError where ray is not installed, InputError where the engine cannot be had.
    """
    if not _started:
        _begin(engine, ray_address)
        _started.append(engine)
    if _started != [engine]:
        raise InputError(
            f"the engine {engine!r} does not start",
            seen=f"this process runs on {_started[0]!r}",
            next_step="run the command in a process of its own",
        )


def _begin(engine: Engine, ray_address: str | None) -> None:
    try:
        if engine == "ray":
            daft.set_runner_ray(ray_address)
        else:
            daft.set_runner_native()
    except ImportError:
        raise ToolMissingError("the engine 'ray' needs ray", next_step="pip install 'codechoir[ray]'") from None
    except (DaftCoreException, ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"the engine {engine!r} does not start",
            seen=str(error).splitlines()[0],
            next_step="check curate.ray_address",
        ) from None


def batch_function(
    function: Callable[..., Any], returns: DataType, *, unnest: bool = False, rows: int = UDF_ROWS
) -> Callable[..., Any]:
    """`function` (Daft Series in, an Arrow array out) as an expression, run by threads on `rows` rows at a time."""
    wrapped: Callable[..., Any] = daft.func.batch(
        return_dtype=returns, unnest=unnest, batch_size=rows, use_process=False
    )(function)
    return wrapped


def over_contents() -> AbstractContextManager[None]:
    """While queries over contents run: few rows pass between operators at a time, so that all threads get some."""
    context: AbstractContextManager[None] = daft.execution_config_ctx(default_morsel_size=UDF_ROWS)
    return context


def read(*folders: Path) -> DataFrame:
    """The rows of all Parquet files in `folders`."""
    return daft.read_parquet([str(path) for folder in folders for path in sorted(folder.resolve().glob("*.parquet"))])


def store(frame: DataFrame, folder: Path) -> Path:
    """Runs `frame` and writes its rows as Parquet files into `folder`, which appears when all are written."""
    partial = folder.resolve().with_name(folder.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with disk_full_told(folder):
        frame.write_parquet(str(partial), compression="zstd")
        if not any(partial.iterdir()):  # of no rows, Daft writes no file
            pq.write_table(frame.schema().to_pyarrow_schema().empty_table(), partial / "empty.parquet")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder


def frame_of(name: str, values: Iterable[str]) -> DataFrame:
    """A frame with one column of texts."""
    return daft.from_arrow(pa.table({name: pa.array(list(values), pa.large_string())}))
