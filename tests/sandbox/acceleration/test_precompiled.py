"""The precompiled header stands for exactly the two lines that it was made of."""

from collections.abc import Iterator

import pytest

from codechoir.artifacts import cache_dir
from codechoir.records import Status
from codechoir.sandbox.acceleration.precompiled import PREFIX, PrecompiledHeader, header_flags
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.jobs import Job, Step, StepLimits
from codechoir.sandbox.programs import Limits, Runner
from codechoir.sandbox.toolchains.finding import missing_parts
from codechoir.sandbox.toolchains.table import TOOLCHAINS

LIMITS = Limits(cpu_seconds=60, wall_seconds=120.0)
LINES = PREFIX + '// three\nint main() {\n    assert(__LINE__ == 5 && std::string(__FILE__) == "main.cpp");\n}\n'
NOT_INCLUDED = "#include<cstdio>\nint main() { return std::accumulate(0, 0, 0); }\n"
REDEFINED = PREFIX + '#define NDEBUG\n#include <assert.h>\nint main() { assert(false); std::cerr << "on"; }\n'
OWN_NAMES = PREFIX + "int distance = 3;\nint main() { assert(distance == 3); }\n"


@pytest.fixture(scope="module")
def runners() -> Iterator[tuple[Runner, Runner]]:
    if missing := missing_parts(TOOLCHAINS["cpp"]):
        pytest.skip(f"missing: {missing}")
    sandbox = open_sandbox("bubblewrap")
    with Runner(sandbox, cache_dir()) as fast, Runner(sandbox, cache_dir(), accelerate=False) as plain:
        yield fast, plain


@pytest.mark.parametrize(
    ("program", "status"),
    [
        (LINES, Status.PASSED),
        (NOT_INCLUDED, Status.TYPE_ERROR),
        (REDEFINED, Status.PASSED),
        (OWN_NAMES, Status.PASSED),
        (PREFIX + "int main() { assert(1 == 2); }\n", Status.FAILED_ASSERTION),
        (PREFIX + "int main() { return nothing; }\n", Status.TYPE_ERROR),
    ],
)
def test_programs_end_as_they_would(runners: tuple[Runner, Runner], program: str, status: Status) -> None:
    found, expected = (runner.run("cpp", program, LIMITS) for runner in runners)
    assert expected.status is status
    assert (found.status, found.exit_code, found.output) == (expected.status, expected.exit_code, expected.output)


def test_only_a_source_that_begins_with_the_prefix_is_changed() -> None:
    if missing := missing_parts(TOOLCHAINS["cpp"]):
        pytest.skip(f"missing: {missing}")
    command = ("/usr/bin/g++", "-std=c++17", "-w", "-Wl,--wrap=main", "-o", "main", "main.cpp")
    header = PrecompiledHeader(cache_dir() / "toolchains", command)
    for text, applies in ((PREFIX + "int x;", True), ("// c\n" + PREFIX, False), (PREFIX.replace("<b", " <b"), False)):
        assert (header.job(text, job(command, text)) is not None) is applies
    changed = header.job(PREFIX, job(command, PREFIX + "int x;"))
    assert isinstance(changed, Job)
    assert changed.files == {"main.cpp": b"\n\nint x;"}
    other = (command[0], "-std=c++20", *command[2:])
    assert header.job(PREFIX, job(other, PREFIX)) is None


def test_flags_that_a_header_depends_on_are_told_from_those_it_does_not() -> None:
    command = ("g++", "-std=c++17", "-O2", "-w", "-fuse-ld=gold", "-Wl,--wrap=main", "-lm", "-o", "main", "main.cpp")
    assert header_flags(command) == ("-std=c++17", "-O2", "-w")


def job(command: tuple[str, ...], text: str) -> Job:
    limits = StepLimits(cpu_seconds=1, wall_seconds=1.0, memory_mib=1)
    steps = (Step(name="compile", argv=command, limits=limits), Step(name="run", argv=("./main",), limits=limits))
    return Job(files={"main.cpp": text.encode()}, steps=steps, marker=b"m")
