"""A process that has imported what the command line needs and forks a `codechoir` for each request.

Importing torch takes seconds; a fork of a process that has done so is a process like any other, with an exit code,
limits and signals of its own. Requests are JSON lines on stdin, each answered by a line with the exit code.

`signal` and `after`: the process sends itself that signal at its n-th touch (open, rename, remove, ...) of a path below
`root`, so a run can be killed at any moment without guessing at times.
"""

import gc
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from typing import Any

# Imported for the forks: torch, the stages, and what transformers itself imports only when it is needed.
import transformers.conversion_mapping
import transformers.models.llama.modeling_llama
import transformers.models.mixtral.modeling_mixtral  # noqa: F401
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast  # noqa: F401

from codechoir import pipeline  # noqa: F401
from codechoir.cli.main import main
from codechoir.generate import single  # noqa: F401


def become(request: dict[str, Any]) -> None:
    """Runs one command in this process, which ends with it."""
    for number, (name, flags) in enumerate(
        [(request["stdin"], os.O_RDONLY), (request["stdout"], os.O_WRONLY), (request["stderr"], os.O_WRONLY)]
    ):
        os.dup2(os.open(name, flags | os.O_CREAT), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    os.chdir(request["cwd"])
    os.environ |= request["env"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have it ignored
    if request["hidden"]:
        which = shutil.which
        shutil.which = lambda name, *a, **more: None if name in request["hidden"] else which(name, *a, **more)
    if request["file_limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"], resource.RLIM_INFINITY))
    if request["signal"]:
        touches = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal touches
            if event.startswith(("open", "os.", "shutil.")) and arguments:
                touches += str(arguments[0]).startswith(request["root"])
                if touches == request["after"]:
                    touches += 1
                    os.kill(os.getpid(), request["signal"])

        sys.addaudithook(count)
    sys.argv = ["codechoir", *request["arguments"]]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else ended.code is not None
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # to take an interpreter that holds torch apart takes a second


def serve() -> None:
    gc.freeze()  # the forks share these objects' memory as long as nobody visits them
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    print("ready", flush=True)  # noqa: T201
    serve()
