"""Hostile programs: none may reach the machine, and none may change the next program's verdict."""

import socket
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from codechoir.errors import ToolMissingError
from codechoir.records import Status
from codechoir.sandbox import isolation
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.programs import Limits, run_program
from codechoir.sandbox.toolchains import TOOLCHAINS

PYTHON = TOOLCHAINS["python"]
SHORT = Limits(cpu_seconds=1, wall_seconds=2.0, memory_mib=256, output_mib=1)


@pytest.fixture(scope="module")
def sandbox():
    return open_sandbox("bubblewrap")


@pytest.fixture
def attack(sandbox):
    """Runs a program that passes only if its attack works, then checks that the next program is judged rightly."""

    def run(program, limits=SHORT):
        outcome = run_program(sandbox, PYTHON, program, limits)
        assert outcome.status is not Status.HARNESS_ERROR
        assert run_program(sandbox, PYTHON, PYTHON.good, SHORT).status is Status.PASSED
        assert run_program(sandbox, PYTHON, PYTHON.bad, SHORT).status is Status.FAILED_ASSERTION
        return outcome

    return run


@pytest.fixture
def open_folder():
    """A folder that every user of this machine may read and write."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_a_planted_secret_cannot_be_read(attack, open_folder, monkeypatch):
    secret = open_folder / "secret"
    secret.write_text("the secret")
    secret.chmod(0o666)
    assert attack(f"open({str(secret)!r}).read()").status is Status.RUNTIME_ERROR
    for path in ("/etc/passwd", "/etc/shadow", "/root", "/home", str(Path.home()), "/var", "/srv", str(Path.cwd())):
        program = f"import os\nos.stat({path!r})"
        assert attack(program).status is Status.RUNTIME_ERROR, path
    monkeypatch.setenv("PLANTED_TOKEN", "hunter2")
    program = (
        "import os, pathlib\n"
        "seen = str(os.environ) + ''.join(p.read_text() for p in pathlib.Path('/proc').glob('[0-9]*/environ'))\n"
        "assert 'hunter2' in seen"
    )
    assert attack(program).status is Status.FAILED_ASSERTION


def test_nothing_outside_can_be_written(attack, open_folder):
    for target in (open_folder / "new", Path("/usr/planted"), Path("/planted"), Path("/dev/planted"), Path("/etc/x")):
        outcome = attack(f"import os\nos.makedirs({str(target.parent)!r}, exist_ok=True)\nopen({str(target)!r}, 'w')")
        assert not target.exists()
        if target.parent != open_folder:  # that one it can make, in the /tmp of its own
            assert outcome.status is Status.RUNTIME_ERROR, target


def test_no_network(attack):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        program = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        assert attack(program).status is Status.RUNTIME_ERROR
        with pytest.raises(BlockingIOError):
            server.accept()
    program = "import socket\nassert [name for _, name in socket.if_nameindex() if name != 'lo']"
    assert attack(program).status is Status.FAILED_ASSERTION


def test_a_fork_bomb_is_contained(attack):
    outcome = attack("import os\nwhile True:\n    os.fork()")
    assert outcome.status in (Status.RUNTIME_ERROR, Status.TIME_OUT)
    outcome = attack("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass")
    assert outcome.status is Status.TIME_OUT


def test_a_child_in_a_session_of_its_own_does_not_survive(attack):
    mark = "codechoir-survivor-4711"
    program = (
        "import os, subprocess\n"
        f"subprocess.Popen(['sleep', '300'], executable='/bin/sleep', start_new_session=True, env={{'M': {mark!r}}},\n"
        "    stdin=-3, stdout=-3, stderr=-3)\n"
    )
    assert attack(program).status is Status.PASSED  # it ran to its end
    environments = [path / "environ" for path in Path("/proc").glob("[0-9]*")]
    assert not any(mark.encode() in content for content in map(_content, environments))


def _content(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    "program",
    [
        "x = bytearray(3 << 30)",
        "x = []\nwhile True:\n    x.append(bytearray(1 << 20))",
        "import mmap\nmmap.mmap(-1, 3 << 30)\nraise MemoryError",
    ],
)
def test_memory_is_limited(attack, program):
    outcome = attack(program)
    assert outcome.status in (Status.OUT_OF_MEMORY, Status.RUNTIME_ERROR)
    assert "rror" in outcome.output


def test_the_disk_is_limited(attack):
    program = "for n in range(40):\n    open(f'/tmp/{n}', 'wb').write(bytes(16 << 20))"
    outcome = attack(program, Limits(cpu_seconds=10))
    assert outcome.status is Status.RUNTIME_ERROR and "No space left" in outcome.output
    assert attack("open('/tmp/x', 'wb').write(bytes(100 << 20))").status is not Status.PASSED  # one file of 100 MiB


def test_privileges_are_gone(attack):
    assert attack("import os\nassert os.getuid() == 0").status is Status.FAILED_ASSERTION
    assert attack("import os\nos.setuid(0)").status is Status.RUNTIME_ERROR
    assert (
        attack("import os\nos.kill(1, 9)\nos.kill(1, 15)\nassert os.getppid() != 1").status is Status.FAILED_ASSERTION
    )
    caps = "assert [x for x in open('/proc/self/status') if x.startswith('CapEff')][0].split()[1].strip('0')"
    assert attack(caps).status is Status.FAILED_ASSERTION


def test_nothing_is_left_on_the_machine(sandbox, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        run_program(sandbox, PYTHON, PYTHON.good, SHORT)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not list(tmp_path.iterdir())


def test_a_machine_without_bubblewrap_is_told_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(isolation, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="apt-get install bubblewrap") as refused:
        open_sandbox("bubblewrap")
    assert "unsafe-no-sandbox" in str(refused.value)
    assert open_sandbox("unsafe-no-sandbox").description == "none"


def test_a_machine_that_forbids_namespaces_is_told_what_was_seen(monkeypatch):
    monkeypatch.setattr(isolation, "_BUBBLEWRAP", ("bwrap", "--no-such-option"))
    with pytest.raises(ToolMissingError, match="Unknown option --no-such-option"):
        open_sandbox("bubblewrap")


def test_without_a_sandbox_programs_still_run_limited_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bare = open_sandbox("unsafe-no-sandbox")
    assert run_program(bare, PYTHON, PYTHON.good, SHORT).status is Status.PASSED
    assert run_program(bare, PYTHON, "import time\ntime.sleep(60)", SHORT).status is Status.TIME_OUT
    assert run_program(bare, PYTHON, "while True:\n    pass", SHORT).status is Status.TIME_OUT
    assert not list(tmp_path.iterdir())
