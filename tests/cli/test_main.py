"""The entry of the command line: help without torch, and how errors leave the program."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from codechoir import __version__
from codechoir.cli.main import as_user_error
from codechoir.cli.main import codechoir as group
from codechoir.errors import DiskFullError, InputError, ProofError

COMMANDS = (
    "run",
    "recipe",
    "plan",
    "explain",
    "compose",
    "expert",
    "tune",
    "inspect",
    "export",
    "generate",
    "chat",
    "serve",
    "evaluate",
    "translate",
    "doctor",
)
HELP = """
import contextlib, io, sys
from codechoir.cli.main import codechoir
for command in ([], *([name] for name in sys.argv[1:]), ["recipe", "show"]):
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        assert codechoir.main([*command, "--help"], standalone_mode=False) == 0
    assert told.getvalue().startswith("Usage: "), command
    heavy = {"torch", "transformers", "numpy", "pyarrow", "pydantic"} & sys.modules.keys()
    assert not heavy, (command, heavy)
"""


def test_help_answers_without_anything_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP, *COMMANDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_commands() -> None:
    assert set(group.commands) == set(COMMANDS)
    for command in group.commands.values():
        assert command.help
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        assert all(option.help for option in options), command.name


def test_version_and_misuse(codechoir) -> None:
    assert codechoir("--version").stdout.split()[-1] == __version__
    assert codechoir("-h").stdout == codechoir("--help").stdout != ""
    for wrong in (["rnu"], ["run"], ["run", "a.yaml", "--only", "bake"], ["generate", "x", "--max-tokens", "0"]):
        refused = codechoir(*wrong)
        assert (refused.code, refused.stdout) == (2, "")
        assert "Error: " in refused.stderr and "Traceback" not in refused.stderr


def test_interrupted(codechoir, tiny: list[str], tmp_path: Path) -> None:
    stopped = codechoir(*tiny, "--out", tmp_path / "run", signal=(signal.SIGINT, 4, tmp_path / "run"))
    assert (stopped.code, stopped.stdout) == (130, "")
    assert stopped.stderr.endswith("interrupted; run the same command again to carry on\n")
    assert "Traceback" not in stopped.stderr


def test_a_users_error_is_itself() -> None:
    error = ProofError("the proof fails", seen=1.0)
    assert as_user_error(error) is error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "a file"),
        OSError(errno.EFBIG, "File too large"),
        Exception("Error while serializing: I/O error: File too large (os error 27)"),
        Exception("No space left on device (os error 28)"),
    ],
)
def test_a_full_disk(error: Exception) -> None:
    known = as_user_error(error)
    assert isinstance(known, DiskFullError)
    assert str(error) in known.message()
    assert "make room" in known.next_step


@pytest.mark.parametrize("kind", [PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError])
def test_a_path_that_cannot_be_used(kind: type[OSError]) -> None:
    for error in (kind(1, "why", "some/path"), OSError(errno.EROFS, "Read-only file system", "some/path")):
        known = as_user_error(error)
        assert isinstance(known, InputError)
        assert "some/path" in known.message()


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError(errno.EIO, "I/O"), Exception("(os error 5)"), FileNotFoundError(2, "x")]
)
def test_a_bug_is_none_of_the_users(error: Exception) -> None:
    assert as_user_error(error) is None
