"""The command line's entry: which commands there are, and how errors leave the program.

Exit codes: 0 done, 2 a user's error in one message, 130 interrupted, 1 a bug of ours (with its traceback). A command's
module is imported when the command runs, so that `--help` does not wait for torch.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from typing import NoReturn

import click

from codechoir import __version__
from codechoir.cli import (
    chat,
    compose,
    doctor,
    evaluate,
    expert,
    explain,
    export,
    generate,
    inspect,
    plan,
    recipe,
    run,
    serve,
    translate,
    tune,
)
from codechoir.console import say
from codechoir.errors import DiskFullError, InputError, UserError

_RUST_ERROR = re.compile(r"\(os error (\d+)\)")
_UNUSABLE = (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, package_name="codechoir")
def codechoir() -> None:
    """One code expert per programming language, composed into one Mixture-of-Experts model and measured.

    Results go to stdout, progress to stderr. Exit codes: 0 done, 2 user error, 1 a bug.
    """


for _command in (
    *(run.run, recipe.recipe, plan.plan, explain.explain, compose.compose, expert.expert, tune.tune),
    *(inspect.inspect, export.export, generate.generate, chat.chat, serve.serve, translate.translate),
    *(evaluate.evaluate, doctor.doctor),
):
    codechoir.add_command(_command)


def main() -> None:
    """Runs the command line and exits."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # our own progress lines do
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Daft tells its makers of each import otherwise
    os.environ.setdefault(
        "_RJEM_MALLOC_CONF", "narenas:2,dirty_decay_ms:0,muzzy_decay_ms:0"
    )  # Daft gives memory back at once
    try:
        codechoir.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say("interrupted; run the same command again to carry on")
        sys.exit(130)
    except Exception as error:
        end_by(error)


def end_by(error: Exception) -> NoReturn:
    """Says a user's error and exits with code 2; raises a bug."""
    known = as_user_error(error)
    if known is None:
        raise error
    say(f"error: {known}")
    sys.exit(2)


def as_user_error(error: Exception) -> UserError | None:
    """The user's error that an exception stands for, or None for a bug."""
    if isinstance(error, UserError):
        return error
    if _error_number(error) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(
            "the disk is full, or a limit on file sizes is reached",
            seen=error,
            next_step="make room and run the same command again: it carries on from what is done",
        )
    if _error_number(error) == errno.EROFS or isinstance(error, _UNUSABLE):
        return InputError("a file or folder cannot be used", seen=error, next_step="check the path and its permissions")
    return None


def _error_number(error: Exception) -> int | None:
    """The system's number of an error; libraries in Rust tell it in the message alone."""
    if isinstance(error, OSError):
        return error.errno
    found = _RUST_ERROR.search(str(error))
    return int(found[1]) if found else None
