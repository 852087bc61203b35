"""Which Go files are built directly, the main package that runs their tests, and that verdicts are those of go test."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from codechoir.artifacts import cache_dir
from codechoir.records import Status
from codechoir.sandbox.acceleration.go import plain_tests, test_main
from codechoir.sandbox.isolation import ENVIRONMENT, SEARCH_PATH, open_sandbox
from codechoir.sandbox.programs import Limits, Runner
from codechoir.sandbox.toolchains.finding import missing_parts
from codechoir.sandbox.toolchains.table import TOOLCHAINS

test_main.__test__ = False  # type: ignore[attr-defined]  # it is no test of ours
LIMITS = Limits(cpu_seconds=60, wall_seconds=120.0)
FILE = """\
package total_test

import (
    "testing"
    "fmt"
%s)

func total(values []int) int {
    sum := 0
    for _, value := range values {
        sum += value
    }
%s
    return sum
}

func TestTotal(t *testing.T) {
    if fmt.Sprintf("%%v", total([]int{1, 2})) != "3" {
        t.Errorf("expected '%%s'", "3")
    }
}
"""


def test_a_plain_test_file_is_told() -> None:
    assert plain_tests(FILE % ("", "")) == ["TestTotal"]
    assert plain_tests(FILE % ("", "") + "func TestMain(m *testing.M) {\n}\nfunc Test_2(t *testing.T) {\n}\n") == [
        "TestTotal",
        "Test_2",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "// +build linux\n" + FILE % ("", ""),
        FILE % ("", "/* a block */"),
        FILE % ("", "_ = `raw`"),
        FILE % ("", "//go:noinline"),
        FILE % ('    "C"\n', ""),
        FILE % ("", "") + "func BenchmarkTotal(b *testing.B) {}\n",
        FILE % ("", "") + "func ExampleTotal() {}\n",
        FILE % ("", "") + "func Testlower(t *testing.T) {}\n",
        FILE % ("", "") + "func TestWrong(t testing.T) {}\n",
        FILE % ("", "") + "func\nTestBroken(t *testing.T) {}\n",
        (FILE % ("", "")).replace("total_test", "total", 1),
        "package total_test\n",
    ],
)
def test_any_other_is_left_to_the_go_command(text: str) -> None:
    assert plain_tests(text) is None


def test_the_main_package_is_the_one_that_go_writes(tmp_path: Path) -> None:
    go = shutil.which("go", path=SEARCH_PATH)
    if go is None:
        pytest.skip("missing: go")
    (tmp_path / "total_test.go").write_text(FILE % ("", "") + "func TestMain(m *testing.M) {\n    m.Run()\n}\n")
    command = [go, "test", "-work", "-c", "-o", "x", "total_test.go"]
    environment = {**ENVIRONMENT, "HOME": str(tmp_path), "GO111MODULE": "off", "GOTMPDIR": str(tmp_path)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    (written,) = tmp_path.glob("go-build*/*/_testmain.go")
    dull = ("//", "func init", 'testdeps.ImportPath = ""')

    def essence(text: str) -> list[str]:
        lines = [" ".join(line.split()) for line in text.replace("{\n\n}", "{}").splitlines()]
        return [line for line in lines if line and not line.startswith(dull) and line != "}"]

    assert sorted(essence(written.read_text())) == sorted(essence(test_main(["TestTotal"], has_main=True)))


@pytest.mark.parametrize(
    ("imported", "line", "status"),
    [
        ("", "", Status.PASSED),
        ("", "    sum++", Status.FAILED_ASSERTION),
        ("", "    sum = values[5]", Status.RUNTIME_ERROR),
        ("", "    unused := 1", Status.TYPE_ERROR),
        ('    "os"\n', "", Status.TYPE_ERROR),
        ("", '    fmt.Printf("%d", "x")', Status.TYPE_ERROR),
        ('    "log"\n', '    log.Printf("%d", "x")', Status.TYPE_ERROR),
        ("", "    fmt.Print(string(sum))", Status.TYPE_ERROR),
        ("", "    fmt.Print(sum == 1 || sum == 1)", Status.TYPE_ERROR),
        ('    "internal/abi"\n', "    fmt.Print(abi.FuncPCABI0(total))", None),
        ('    "no/such"\n', "    such.Do()", None),
        ('    "net"\n    "sort"\n', "    sort.Ints(values)\n    _ = net.IPv4len", Status.PASSED),
        ("", "    sum = (", Status.DOES_NOT_COMPILE),
    ],
)
def test_verdicts_are_those_of_the_go_command(runner: Runner, imported: str, line: str, status: Status | None) -> None:
    outcome = runner.run("go", FILE % (imported, line), LIMITS)
    allowed = {status} if status else {Status.DOES_NOT_COMPILE, Status.TYPE_ERROR}
    assert outcome.status in allowed, outcome.output
    direct = go_test(FILE % (imported, line))
    assert (outcome.status is Status.PASSED) == (direct == 0)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    if missing := missing_parts(TOOLCHAINS["go"]):
        pytest.skip(f"missing: {missing}")
    with Runner(open_sandbox("bubblewrap"), cache_dir()) as runner:
        yield runner


def go_test(text: str) -> int:
    """The exit code of `go test`, as MultiPL-E calls it."""
    folder = cache_dir() / "go-oracle"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "total_test.go").write_text(text)
    environment = {**ENVIRONMENT, "HOME": str(folder), "GO111MODULE": "off", "CGO_ENABLED": "0"}
    command = [shutil.which("go", path=SEARCH_PATH) or "go", "test", "total_test.go"]
    return subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True).returncode
