"""Says in one InputError why a table cannot be read, whatever Daft, Arrow or the operating system make of it.

Daft finds damage while a frame is executed, often without naming the file: then the local files are gone through until
one is found that does not read. What no file is to blame for is passed on as it is.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from daft.exceptions import DaftCoreException

from codechoir.data.config import TableSource
from codechoir.errors import InputError, UserError

_GONE = re.compile(r"FileNotFound (?:file://)?(.*) not found")
_NOT_UTF8 = re.compile(r"non UTF-8|valid UTF-8|invalid utf-8", re.IGNORECASE)
_FAULTS = (DaftCoreException, pa.ArrowException, FileNotFoundError)


@contextmanager
def told(source: TableSource) -> Iterator[None]:
    """Turns what reading `source` raises into an InputError; the user's errors and our bugs pass.

    Reports a damaged file reliably only if what is executed ends in write_parquet, agg or sort, as `tables.py` says.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not (isinstance(error, _FAULTS) or _is_panic(error)):
            raise
        found = _found(source, error)
        if found is None:
            raise
        raise found from None


@contextmanager
def file_told(path: str) -> Iterator[None]:
    """The same for an action on one file."""
    try:
        yield
    except (*_FAULTS, OSError) as error:
        raise _unreadable(path, str(error)) from None
    except BaseException as error:
        if _is_panic(error):
            raise _unreadable(path, str(error)) from None
        raise


def _is_panic(error: BaseException) -> bool:
    """Whether Rust code panicked: its exception is no Exception, and cannot be imported by name."""
    return type(error).__name__ == "PanicException"


def _found(source: TableSource, error: BaseException) -> InputError | None:
    message = str(error)
    if "://" in source.path:
        return _unreadable(source.path, message)
    path = Path(source.path).expanduser().resolve()
    gone = _GONE.search(message)
    if gone and Path(gone[1]).is_relative_to(path):
        return _unreadable(gone[1], message)
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    named = [one for one in files if str(one.resolve()) in message]
    if named:
        return _unreadable(str(max(named, key=lambda one: len(str(one)))), message)
    for one in files:
        fault = _json_fault(one) if source.kind == "jsonl" else _parquet_fault(one)
        if fault:
            return _unreadable(str(one), fault)
    return None


def _unreadable(path: str, message: str) -> InputError:
    lines = message.strip().splitlines() or ["no reason given"]
    causes = [line.strip() for line in lines if line.strip().startswith("1: ")]
    reason = lines[0].replace("DaftError::", "") + (f" ({causes[0][3:]})" if causes else "")
    if "://" in path:
        return InputError(
            "the table at the url cannot be read",
            seen=f"{path}: {reason}",
            next_step="check the url, the connection and the credentials (HF_TOKEN; AWS_ACCESS_KEY_ID and so on)",
        )
    if not Path(path).exists():
        return InputError("no such file", seen=path)
    if not path.endswith(".parquet"):
        reason = _json_fault(Path(path)) or reason
    elif _NOT_UTF8.search(message):
        return InputError(
            "a column of texts holds bytes that are not UTF-8",
            seen=f"{path}: {reason}",
            next_step="write `content` as a column of bytes, and such rows alone are rejected",
        )
    return InputError("the table is damaged", seen=f"{path}: {reason}", next_step="write or download it again")


def _json_fault(path: Path) -> str | None:
    """The first line that is no JSON object, or why the file cannot be unpacked."""
    number = 0
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            for number, line in enumerate(io.BufferedReader(stream), 1):
                if not line.strip() or not isinstance(json.loads(line), dict):
                    return f"line {number} is no JSON object"
    except ValueError as error:
        return f"line {number}: {error}"
    except (OSError, EOFError, pa.ArrowException) as error:
        return f"after line {number}: {error}"
    return None


def _parquet_fault(path: Path) -> str | None:
    """Why Arrow cannot read the file."""
    try:
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches(1000):
                pass
    except (OSError, pa.ArrowException) as error:
        return str(error)
    return None
