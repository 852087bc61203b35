"""What a cell answers, that it leaves nothing behind, and that it gets over whatever happens to it."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from codechoir.sandbox import cells
from codechoir.sandbox.cells import Cell, SandboxError
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.jobs import KEPT_BYTES, Job, Step, StepLimits

PYTHON = "/usr/bin/python3"
SRC = Path(cells.__file__).parents[2]
LIMITS = StepLimits(cpu_seconds=5, wall_seconds=30.0, memory_mib=256, output_mib=1)


@pytest.fixture(scope="module", params=["bubblewrap", "unsafe-no-sandbox"])
def cell(request):
    with Cell(open_sandbox(request.param), PYTHON) as cell:
        yield cell


@pytest.fixture(scope="module")
def walled():
    with Cell(open_sandbox("bubblewrap"), PYTHON) as cell:
        yield cell


def shell(script, name="run", **step):
    return Step(name=name, argv=("/bin/sh", "-c", script), limits=step.pop("limits", LIMITS), **step)


def job(*steps, files=None, marker=b"mark"):
    return Job(files=files or {}, steps=steps, marker=marker)


def test_the_end_of_a_program_is_told(cell):
    for script, exit_code, number in (("exit 0", 0, None), ("exit 41", 41, None), ("kill -7 $$", None, 7)):
        [result] = cell.run(job(shell(script)))
        assert (result.name, result.exit_code, result.signal, result.stopped) == ("run", exit_code, number, None)
    [result] = cell.run(job(Step(name="run", argv=("no-such-program",), limits=LIMITS)))
    assert result.exit_code == 127
    assert result.output == b"cannot start no-such-program: No such file or directory\n"


def test_steps_share_files_until_one_fails(cell):
    steps = (
        shell("cat one deep/two > three; echo compiled", "compile"),
        shell("ls . deep; cat three; echo mark; pwd; echo $COLOUR", removed=("one",), environment={"COLOUR": "blue"}),
    )
    first, second = cell.run(job(*steps, files={"one": b"1\n", "deep/two": b"\xff\n"}))
    assert (first.name, first.output, first.marker_seen) == ("compile", b"compiled\n", False)
    start, _, rest = second.output.partition(b"mark\n")
    assert start == b".:\ndeep\nthree\n\ndeep:\ntwo\n1\n\xff\n"
    assert rest.endswith(b"/program\nblue\n") and second.marker_seen
    assert [result.exit_code for result in cell.run(job(shell("exit 3", "compile"), shell("echo mark")))] == [3]


def test_the_marker_is_found_in_the_midst_of_much_output(cell):
    script = "head -c 300000 /dev/zero; printf ma; sleep 0; printf rk; head -c 300000 /dev/zero"
    [result] = cell.run(job(shell(script)))
    assert result.marker_seen and result.exit_code == 0
    gap = f"\n[... {600_004 - 2 * KEPT_BYTES} bytes left out ...]\n".encode()
    assert result.output == bytes(KEPT_BYTES) + gap + bytes(KEPT_BYTES)
    assert not cell.run(job(shell("echo m; echo ark")))[0].marker_seen


def test_ten_megabytes_of_output_pass(cell):
    script = "head -c 10000000 /dev/zero; echo mark"
    [result] = cell.run(job(shell(script, limits=replace(LIMITS, output_mib=64))))
    assert (result.exit_code, result.marker_seen) == (0, True)


def test_output_at_its_limit_passes_and_over_it_is_stopped(cell):
    assert cell.run(job(shell("head -c 1048576 /dev/zero")))[0].exit_code == 0
    assert cell.run(job(shell("head -c 1048577 /dev/zero")))[0].stopped == "output"
    [result] = cell.run(job(shell("yes")))
    assert (result.stopped, result.exit_code, result.signal) == ("output", None, None)


def test_deadlines_are_kept(cell):
    short = replace(LIMITS, wall_seconds=0.3)
    for script in ("sleep 100", "sleep 100 & wait", "trap '' TERM; while :; do sleep 100; done", "kill -STOP $$"):
        [result] = cell.run(job(shell("echo first; " + script, limits=short)))
        assert (result.stopped, result.exit_code, result.signal) == ("time", None, None)
        assert result.output == b"first\n"


def test_cpu_time_is_that_of_all_processes_and_limited(cell):
    burn = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"
    alone = cell.run(job(shell(burn)))[0].cpu_seconds
    together = cell.run(job(shell(f"({burn}) & ({burn}) & ({burn}) & wait")))[0].cpu_seconds
    assert together > 1.5 * alone > 0
    limits = replace(LIMITS, cpu_seconds=1)
    [result] = cell.run(job(shell("while :; do :; done", limits=limits)))
    assert result.stopped == "time" or result.signal == signal.SIGXCPU
    # Each for itself is below the limit.
    half = "import time\\nwhile time.process_time() < 0.6: pass"
    [result] = cell.run(job(shell(f"for i in 1 2 3; do printf '{half}' | {PYTHON} - & done; wait", limits=limits)))
    assert result.stopped == "time"


def test_orphans_do_not_use_up_the_processes(cell):
    script = "i=0; while [ $i -lt 100 ]; do (true &); i=$((i+1)); done; echo mark"
    assert cell.run(job(shell(script)))[0].marker_seen


def test_what_outlives_its_program_is_killed_and_not_waited_for(cell):
    [result] = cell.run(job(shell("sleep 471147 & setsid sleep 471147 & (setsid sleep 471147 &) ; echo mark")))
    assert (result.exit_code, result.marker_seen) == (0, True)
    assert not [line for line in commands() if b"471147" in line]


def commands():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue


def test_memory_is_measured(walled):
    program = b"x = b'x' * (100 << 20)"
    [result] = walled.run(
        job(Step(name="run", argv=("main.py",), limits=LIMITS, warm_python=True), files={"main.py": program})
    )
    assert 100 <= result.memory_mib < 160


def test_memory_of_all_processes_together_is_limited_where_that_can_be_had(walled):
    if open_sandbox("bubblewrap").groups is None:
        pytest.skip("no control groups")
    hog = "import time; x = bytearray(b'x' * (150 << 20)); time.sleep(2)"
    [result] = walled.run(job(shell(f'for i in 1 2 3; do {PYTHON} -c "{hog}" & done; wait', limits=LIMITS)))
    assert (result.stopped, result.exit_code, result.signal) == ("memory", None, None)
    assert walled.run(job(shell("echo mark")))[0].marker_seen


def test_a_small_limit_after_a_large_one_is_kept(walled):
    large = shell("head -c 60000000 /dev/zero > /tmp/a", limits=replace(LIMITS, memory_mib=512))
    small = shell("echo mark", limits=replace(LIMITS, memory_mib=8, memory_overhead=16))
    for _ in range(5):
        assert walled.run(job(large))[0].exit_code == 0
        assert walled.run(job(small))[0].marker_seen


def test_nothing_is_left_on_the_machine(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for kind in ("bubblewrap", "unsafe-no-sandbox"):
        sandbox = open_sandbox(kind)
        before = sorted(Path("/proc/self/fd").iterdir()), groups_of(sandbox)
        with Cell(sandbox, PYTHON) as cell:
            for _ in range(3):
                cell.run(job(shell("echo x > /tmp/x-of-a-program; echo x > file"), files={"a": b"x"}))
        assert (sorted(Path("/proc/self/fd").iterdir()), groups_of(sandbox)) == before
        assert not list(tmp_path.iterdir())
        Path("/tmp/x-of-a-program").unlink(missing_ok=True)


def groups_of(sandbox):
    parents = () if sandbox.groups is None else (sandbox.groups.memory, sandbox.groups.processes)
    return [path for parent in parents for path in parent.glob(f"codechoir-{os.getpid()}-*")]


def test_a_cell_that_died_is_replaced(walled):
    walled.run(job(shell("true")))
    os.kill(keeper_of(walled), signal.SIGKILL)
    walled._running._process.wait(20)  # the launcher, by which a cell is known to be up, ends after its keeper
    assert walled.run(job(shell("echo mark")))[0].marker_seen


def test_a_cell_that_dies_under_a_program_says_so_and_is_replaced(walled):
    walled.run(job(shell("true")))
    threading.Timer(0.3, os.kill, (keeper_of(walled), signal.SIGKILL)).start()
    with pytest.raises(SandboxError):
        walled.run(job(shell("sleep 20")))
    assert walled.run(job(shell("echo mark")))[0].marker_seen


def keeper_of(cell):
    launcher = cell._running._process.pid
    [keeper] = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return int(keeper)


def test_a_cell_outlives_the_thread_that_started_it(walled):
    for _ in range(2):
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(walled.run, job(shell("echo mark"))).result()[0].marker_seen
    assert walled.run(job(shell("echo mark")))[0].marker_seen


def test_an_interrupt_ends_the_program(cell):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has it ignored
    try:
        threading.Timer(0.5, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            cell.run(job(shell("sleep 471148")))
    finally:
        signal.signal(signal.SIGINT, before)
    assert not [line for line in commands() if b"471148" in line]
    assert cell.run(job(shell("echo mark")))[0].marker_seen


@pytest.mark.parametrize("kind", ["bubblewrap", "unsafe-no-sandbox"])
def test_a_host_that_is_killed_leaves_nothing_running(kind, tmp_path):
    text = f"""
        from codechoir.sandbox.cells import Cell
        from codechoir.sandbox.isolation import open_sandbox
        from codechoir.sandbox.jobs import Job, Step, StepLimits
        limits = StepLimits(cpu_seconds=5, wall_seconds=60.0, memory_mib=256, output_mib=1)
        cell = Cell(open_sandbox("{kind}"), "{PYTHON}")
        step = Step(name="run", argv=("sh", "-c", "setsid sleep 471149 & echo up; sleep 471149"), limits=limits)
        print("up", flush=True)
        cell.run(Job(files={{}}, steps=(step,), marker=b""))
    """
    environment = {**os.environ, "PYTHONPATH": str(SRC), "TMPDIR": str(tmp_path)}
    host = subprocess.Popen([sys.executable, "-c", textwrap.dedent(text)], stdout=subprocess.PIPE, env=environment)
    with host:
        assert host.stdout.readline() == b"up\n"
        wait_for(lambda: sum(b"471149" in line for line in commands()) > 3)
        host.kill()
    wait_for(lambda: not [line for line in commands() if b"471149" in line])


def wait_for(seen):
    """Until other processes have got there; the test's own time limit is that of the runner."""
    for _ in range(1000):
        if seen():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it never came")


def test_an_interpreter_that_is_missing_is_told():
    for kind in ("bubblewrap", "unsafe-no-sandbox"):
        with Cell(open_sandbox(kind), "/usr/bin/no-python") as cell, pytest.raises(SandboxError, match="no-python"):
            cell.run(job(shell("true")))


@pytest.mark.parametrize("is_late", [False, True])
def test_a_folder_that_is_missing_is_told(monkeypatch, is_late):
    """Late: bubblewrap has ended before the keeper is told anything."""
    start = cells._Running._start

    def start_and_wait(running, *arguments):
        start(running, *arguments)
        running._process.wait()

    if is_late:
        monkeypatch.setattr(cells._Running, "_start", start_and_wait)
    with (
        Cell(open_sandbox("bubblewrap"), PYTHON, ("/no/such/folder",)) as cell,
        pytest.raises(SandboxError, match="/no/such/folder"),
    ):
        cell.run(job(shell("true")))


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to become another user")
def test_it_works_for_an_ordinary_user():
    import pyseccomp

    places = [SRC, Path(pyseccomp.__file__).parent]
    if any(not place.stat().st_mode & 1 for place in [*places, *SRC.parents]):
        pytest.skip("the project's folder is not for everyone")
    text = f"""
        from codechoir.sandbox.cells import Cell
        from codechoir.sandbox.isolation import open_sandbox
        from codechoir.sandbox.jobs import Job, Step, StepLimits
        limits = StepLimits(cpu_seconds=5, wall_seconds=60.0, memory_mib=256, output_mib=1, processes=16)
        sandbox = open_sandbox("bubblewrap")
        print(sandbox.description)
        script = "id -u; ls /home /root; cat /etc/shadow; echo mark"
        steps = Step(name="run", argv=("sh", "-c", script), limits=limits), Step(
            name="run", argv=("main.py",), limits=limits, warm_python=True
        )
        with Cell(sandbox, "{PYTHON}") as cell:
            for step in steps:
                files = {{"main.py": b"import os\\nwhile True: os.fork()"}}
                [result] = cell.run(Job(files=files, steps=(step,), marker=b"mark"))
                print(result.output.decode(), result.marker_seen, result.exit_code)
    """
    path = os.pathsep.join(map(str, places))
    done = subprocess.run(
        ["setpriv", "--reuid=60001", "--regid=60001", "--clear-groups", PYTHON, "-B", "-c", textwrap.dedent(text)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.stderr == "" and done.returncode == 0
    assert "per-process limits only" in done.stdout
    assert "\n60001\n" in done.stdout and "mark\n True 0" in done.stdout
    assert "Permission denied" not in done.stdout  # there is no such thing to be denied
    assert "BlockingIOError" in done.stdout
