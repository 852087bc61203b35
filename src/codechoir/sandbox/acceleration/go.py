"""Go: the compiler, vet and the linker are called directly, in place of `go test` working out each time what to call.

`go test FILE` compiles the file, checks it with the part of vet that it takes for errors, writes and compiles a main
package that lists the tests, links, and runs. The same commands are given here, against the standard library's export
data and vet facts, which are found once. A file for which the go command might do anything else (build constraints,
cgo, directives, benchmarks, examples, tests that are not plainly written) is left to it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codechoir.sandbox.acceleration.acceleration import compile_steps, with_compile_steps
from codechoir.sandbox.acceleration.assets import BuildError, asset, program_key, run_tool
from codechoir.sandbox.jobs import Job

_PACKAGE = "command-line-arguments_test"
_VETTED = ("-atomic", "-bool", "-buildtags", "-errorsas", "-ifaceassert", "-nilfunc", "-printf", "-stringintconv")
_ENVIRONMENT = {"GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOPROXY": "off", "CGO_ENABLED": "0"}
_IMPORTS, _LINKED, _FACTS, _PACKAGES = "imports.cfg", "linked.cfg", "facts", "packages"
_MAIN, _VET = "_testmain.go", "vet.cfg"

_STANDARD = ("std", "testing/internal/testdeps")

_CLAUSE = re.compile(r"\A\s*package [A-Za-z]\w*_test[ \t]*\n")
_TEST = re.compile(r"^func (Test(?:[A-Z0-9_]\w*)?)\(\w+ \*testing\.T\) *\{", re.MULTILINE)
_MAIN_TEST = re.compile(r"^func TestMain\(\w+ \*testing\.M\) *\{", re.MULTILINE)
_ANY_TEST = re.compile(r"\bfunc\s+(?:Test|Benchmark|Fuzz|Example)")
# Block comments and raw strings could hide a line that looks like a test.
_NOT_PLAIN = re.compile(r'/\*|`|"C"|//\s*(?:go:|\+build|line\b|export\b|extern\b|nolint)|\r|\x00|^\s*import\s+"C"')


@dataclass(frozen=True, slots=True)
class _Paths:
    """Where the go command keeps its tools."""

    root: str
    tools: str


class DirectBuild:
    """An `Acceleration` of `go test`, whose plain compile command is `command`."""

    def __init__(self, shelf: Path, command: Sequence[str]) -> None:
        """Finds export data and vet facts where they are not kept already. Raises BuildError."""
        self._go = command[0]
        root, tools, version = run_tool((self._go, "env", "GOROOT", "GOTOOLDIR", "GOVERSION"), Path("/")).split("\n")[
            :3
        ]
        self._paths = _Paths(root, tools)
        key = (*program_key(self._go), *program_key(f"{tools}/compile"), version, *_VETTED)
        self._folder = asset(shelf, "go", key, self._build)
        self._imported = _read_config(self._folder / _IMPORTS)

    @property
    def visible(self) -> tuple[str, ...]:
        return (str(self._folder),)

    def job(self, source: str, plain: Job) -> Job | None:
        steps = compile_steps(plain)
        tests = plain_tests(source)
        sources = [name for name in plain.files if name.endswith(".go")]
        if tests is None or len(steps) != 1 or steps[0].argv[0] != self._go or len(sources) != 1:
            return None
        binary = _option(steps[0].argv, "-o")
        if binary is None or not sources[0].endswith("_test.go"):
            return None
        script = self._script(sources[0], binary)
        added = {
            _MAIN: test_main(tests, has_main=_MAIN_TEST.search(source) is not None).encode(),
            _VET: self._vet_config(sources[0]),
        }
        environment = {**steps[0].environment, **_ENVIRONMENT}
        step = replace(steps[0], argv=("/bin/sh", "-ec", script), environment=environment)
        return replace(with_compile_steps(plain, (step,)), files={**plain.files, **added})

    def close(self) -> None:
        pass

    def _script(self, source: str, binary: str) -> str:
        """The commands in the order of what most often ends them: compiling, vetting, linking."""
        tools, folder = self._paths.tools, self._folder
        common = ("-complete", "-nolocalimports", "-pack", "-c=1")
        compiled = (f"{tools}/compile", "-o", "test.a", "-p", _PACKAGE, "-dwarf=false", *common)
        main = (f"{tools}/compile", "-o", "main.a", "-p", "main", "-dwarf=false", *common)
        linked = (f"{tools}/link", "-o", binary, "-importcfg", "linked.cfg", "-s", "-w", "-buildmode=exe", "-extld=gcc")
        own = shlex.quote(f"packagefile {_PACKAGE}=test.a")
        return "\n".join(
            (
                shlex.join((*compiled, "-importcfg", str(folder / _IMPORTS), source)),
                shlex.join((f"{tools}/vet", *_VETTED, _VET)),
                f"{{ cat {shlex.quote(str(folder / _LINKED))}; echo {own}; }} > linked.cfg",
                shlex.join((*main, "-importcfg", "linked.cfg", _MAIN)),
                shlex.join((*linked, "main.a")),
                shlex.join(("rm", "-f", "test.a", "main.a", "linked.cfg", "vet.out", _MAIN, _VET)),
            )
        )

    def _vet_config(self, source: str) -> bytes:
        facts = self._folder / _FACTS
        return json.dumps(
            {
                "ID": _PACKAGE,
                "Compiler": "gc",
                "Dir": ".",
                "ImportPath": _PACKAGE,
                "GoFiles": [source],
                "ImportMap": {name: name for name in self._imported},
                "PackageFile": self._imported,
                "Standard": dict.fromkeys(self._imported, True),
                "PackageVetx": {name: str(facts / name.replace("/", "~")) for name in self._imported},
                "VetxOnly": False,
                "VetxOutput": "vet.out",
                "SucceedOnTypecheckFailure": False,
            }
        ).encode()

    def _build(self, folder: Path, final: Path) -> None:
        """Export data of all standard packages, and the facts that vet finds about the public ones.

        The go command is made to vet a test that imports them all, and its plan is read.
        """
        work = folder / "work"
        environment = {**_ENVIRONMENT, "GOCACHE": str(work / "cache"), "GOTMPDIR": str(work), "HOME": str(work)}
        work.mkdir()
        template = "{{.ImportPath}}={{.Export}}"
        listed = run_tool((self._go, "list", "-export", "-deps", "-f", template, *_STANDARD), work, environment)
        exports = dict(line.split("=", 1) for line in listed.splitlines() if not line.endswith("="))
        public = [name for name in exports if not re.search(r"(^|/)(internal|vendor)(/|$)", name)]
        names = [name for name in public if name not in ("testing", "unsafe")]
        text = "".join(f'import _ "{name}"\n' for name in names)
        text = f'package all_test\nimport "testing"\n{text}func TestAll(t *testing.T) {{}}\n'
        (work / "all_test.go").write_text(text, encoding="utf-8")
        run_tool((self._go, "test", "-work", "all_test.go"), work, environment)
        (folder / _FACTS).mkdir()
        for name, path in _vet_plan(work)["PackageVetx"].items():
            (folder / _FACTS / name.replace("/", "~")).write_bytes(Path(path).read_bytes())
        (folder / _PACKAGES).mkdir()
        for name, path in exports.items():
            if Path(path).is_relative_to(work):
                kept = f"{_PACKAGES}/{name.replace('/', '~')}.a"
                shutil.copyfile(path, folder / kept)
                exports[name] = str(final / kept)
        _write_config(folder / _IMPORTS, {name: exports[name] for name in public})
        _write_config(folder / _LINKED, exports)
        shutil.rmtree(work)


def plain_tests(source: str) -> list[str] | None:
    """The names of the tests in a file that `go test` would treat as this module does; None for any other file."""
    if _CLAUSE.match(source) is None or _NOT_PLAIN.search(source):
        return None
    names = _TEST.findall(source)
    mains = len(_MAIN_TEST.findall(source))
    if not names or mains > 1 or len(names) + mains != len(_ANY_TEST.findall(source)):
        return None
    return list(names)


def test_main(tests: Sequence[str], *, has_main: bool) -> str:
    """The main package that runs the tests, as the go command would write it."""
    listed = "".join(f'\t{{"{name}", _xtest.{name}}},\n' for name in tests)
    run = "\tos.Exit(m.Run())\n"
    if has_main:
        run = '\t_xtest.TestMain(m)\n\tos.Exit(int(reflect.ValueOf(m).Elem().FieldByName("exitCode").Int()))\n'
    return (
        'package main\n\nimport (\n\t"os"\n'
        + ('\t"reflect"\n' if has_main else "")
        + f'\t"testing"\n\t"testing/internal/testdeps"\n\t_xtest "{_PACKAGE}"\n)\n\n'
        f"var tests = []testing.InternalTest{{\n{listed}}}\n"
        "var benchmarks = []testing.InternalBenchmark{}\nvar fuzzTargets = []testing.InternalFuzzTarget{}\n"
        "var examples = []testing.InternalExample{}\n\nfunc main() {\n"
        f"\tm := testing.MainStart(testdeps.TestDeps{{}}, tests, benchmarks, fuzzTargets, examples)\n{run}}}\n"
    )


def _option(argv: Sequence[str], flag: str) -> str | None:
    return argv[argv.index(flag) + 1] if flag in argv[:-1] else None


def _read_config(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.removeprefix("packagefile ").split("=", 1) for line in lines)


def _write_config(path: Path, files: dict[str, str]) -> None:
    path.write_text("".join(f"packagefile {name}={file}\n" for name, file in files.items()), encoding="utf-8")


def _vet_plan(work: Path) -> dict[str, dict[str, str]]:
    for path in work.glob("go-build*/*/vet.cfg"):
        plan = json.loads(path.read_text(encoding="utf-8"))
        if plan["ID"] == _PACKAGE:
            return dict(plan)
    raise BuildError("the go command has not vetted a test")
