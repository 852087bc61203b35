"""Java and Scala: the compiler stays up in a virtual machine of its own, so that it is loaded and optimised once.

The server (CompileServer.java) runs the compiler's own command line for each program, with the arguments of the plain
command, in the folder that the plain command would run in, and keeps nothing of one program for the next. A program is
compiled plainly where the compiler did anything but compile or refuse it, such as running out of memory or time.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Literal

from codechoir.sandbox.acceleration.acceleration import compile_steps, with_compile_steps
from codechoir.sandbox.acceleration.assets import Builder, BuildError, asset, program_key, run_tool
from codechoir.sandbox.acceleration.service import Running, Service, ServiceError
from codechoir.sandbox.jobs import KEPT_BYTES, Job, StepResult

Launcher = Callable[[Sequence[str], Sequence[str]], Running]  # starts a command that is shown some folders besides

_SERVER = "CompileServer"
_MAX_SECONDS = 60.0  # of one compilation; what takes longer is compiled plainly, under the plain limits
_COMPILED, _REFUSED = 0, 1
_SCALA_MAIN = "scala.tools.nsc.Main"
_INT = struct.Struct(">i")
_HEAD = struct.Struct(">iq")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one compilation."""

    code: int
    cpu_seconds: float
    output: bytes
    files: dict[str, bytes]


class WarmCompiler:
    """An `Acceleration` of javac or scalac."""

    def __init__(
        self, compiler: Literal["java", "scala"], shelf: Path, command: Sequence[str], launcher: Launcher
    ) -> None:
        """`command` is the plain compile command. Raises BuildError where the server cannot be compiled."""
        self._command = split_command(compiler, command)
        source = files(__package__).joinpath(f"{_SERVER}.java").read_text(encoding="utf-8")
        java = self._command.machine
        javac = java.with_name("javac")
        self._folder = asset(shelf, "jvm", (*program_key(str(javac), "-version"), source), _builder(javac, source))
        path = ":".join((str(self._folder), *self._command.class_path))
        flags = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto")
        server = (str(java), *flags, *self._command.flags, "-cp", path, _SERVER, compiler)
        self._service = Service(lambda: launcher(server, (str(self._folder),)))

    @property
    def visible(self) -> tuple[str, ...]:
        return ()  # the programs themselves need none of this

    def job(self, source: str, plain: Job) -> Job | StepResult | None:
        del source
        steps = compile_steps(plain)
        if len(steps) != 1 or steps[0].environment or any("/" in name for name in plain.files):
            return None
        started = time.monotonic()
        try:
            split = split_command(self._command.compiler, steps[0].argv)
            if split.server_key != self._command.server_key:
                return None
            reply = self._service.ask(
                request(split.arguments, plain.files), min(steps[0].limits.wall_seconds, _MAX_SECONDS)
            )
            answer = parse_reply(reply)
        except (ServiceError, BuildError, struct.error):
            self._service.close()
            return None
        if answer.code == _REFUSED:
            return _refusal(answer, time.monotonic() - started)
        if answer.code != _COMPILED or any("/" in name or name in plain.files for name in answer.files):
            self._service.close()
            return None
        return replace(with_compile_steps(plain, ()), files={**plain.files, **answer.files})

    def close(self) -> None:
        self._service.close()


@dataclass(frozen=True, slots=True)
class Split:
    """A plain compile command, told apart into what the server is started with and what each request has."""

    compiler: Literal["java", "scala"]
    machine: Path  # the `java` that runs the server
    class_path: tuple[str, ...]  # beside the server itself
    flags: tuple[str, ...]  # of the virtual machine
    arguments: tuple[str, ...]  # of the compiler

    @property
    def server_key(self) -> tuple[object, ...]:
        return (self.machine, self.class_path, self.flags)


def split_command(compiler: Literal["java", "scala"], command: Sequence[str]) -> Split:
    """Understands `javac ...` and `java ... scala.tools.nsc.Main ...`. Raises BuildError for other commands."""
    program, rest = Path(command[0]), list(command[1:])
    if compiler == "java" and program.name == "javac":
        machine = program.resolve().with_name("java")
        machine_flags = [part[2:] for part in rest if part.startswith("-J")]
        arguments = [part for part in rest if not part.startswith("-J")]
        class_path: tuple[str, ...] = ()
    elif compiler == "scala" and _SCALA_MAIN in rest:
        at = rest.index(_SCALA_MAIN)
        machine, machine_flags, arguments = program.resolve(), rest[:at], rest[at + 1 :]
        class_path = _class_path(machine_flags)
    else:
        raise BuildError(f"not a {compiler} compiler: {' '.join(command)}")
    flags = tuple(flag for flag in machine_flags if flag.startswith(("-Xmx", "-Xss")))
    return Split(compiler, machine, class_path, flags, tuple(arguments))


def request(arguments: Sequence[str], given: Mapping[str, bytes]) -> bytes:
    """A request in the server's format (see CompileServer.java)."""
    parts = [_INT.pack(len(arguments)), *(_field(part.encode()) for part in arguments), _INT.pack(len(given))]
    for name, content in given.items():
        parts += [_field(name.encode()), _field(content)]
    return b"".join(parts)


def parse_reply(reply: bytes) -> Answer:
    """A reply of the server. Raises struct.error or ServiceError where it is not one."""
    code, nanoseconds = _HEAD.unpack_from(reply)
    fields, at = [], _HEAD.size
    output, at = _read_field(reply, at)
    (count,) = _INT.unpack_from(reply, at)
    at += _INT.size
    for _ in range(2 * count):
        field, at = _read_field(reply, at)
        fields.append(field)
    made = {name.decode(): content for name, content in zip(fields[::2], fields[1::2], strict=True)}
    return Answer(code, nanoseconds / 1e9, output, made)


def _read_field(reply: bytes, at: int) -> tuple[bytes, int]:
    (size,) = _INT.unpack_from(reply, at)
    end = at + _INT.size + size
    if size < 0 or end > len(reply):
        raise ServiceError("a reply that is cut short")
    return reply[at + _INT.size : end], end


def _field(content: bytes) -> bytes:
    return _INT.pack(len(content)) + content


def _refusal(answer: Answer, seconds: float) -> StepResult:
    output = answer.output
    if len(output) > 2 * KEPT_BYTES:
        gap = f"\n[... {len(output) - 2 * KEPT_BYTES} bytes left out ...]\n".encode()
        output = output[:KEPT_BYTES] + gap + output[-KEPT_BYTES:]
    return StepResult(
        name="compile",
        exit_code=_REFUSED,
        signal=None,
        stopped=None,
        cpu_seconds=answer.cpu_seconds,
        wall_seconds=seconds,
        memory_mib=0.0,
        output=output,
        marker_seen=False,
    )


def _builder(javac: Path, source: str) -> Builder:
    def build(folder: Path, final: Path) -> None:
        del final
        (folder / f"{_SERVER}.java").write_text(source, encoding="utf-8")
        run_tool((str(javac), "-nowarn", "-d", ".", f"{_SERVER}.java"), folder)

    return build


def _class_path(machine_flags: Sequence[str]) -> tuple[str, ...]:
    for flag, value in pairwise(machine_flags):
        if flag in ("-cp", "-classpath", "--class-path"):
            return tuple(value.split(":"))
    raise BuildError("a Scala compiler without a class path")
