"""Control groups: where they may lie, told from texts as machines have them, and what one does where it can be had."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codechoir.sandbox import groups
from codechoir.sandbox.groups import Group, GroupParent, candidates, find_groups

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
"""
UNIFIED = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
CONTAINER = """\
35 31 0:32 /docker/a1 /sys/fs/cgroup/memory ro,relatime master:15 - cgroup cgroup rw,memory
36 31 0:33 /docker/a1 /sys/fs/cgroup/my\\040pids ro,relatime master:15 - cgroup cgroup rw,pids
"""


@pytest.fixture
def parent():
    found = find_groups()
    if found is None:
        pytest.skip("this process may not make control groups")
    return found


def test_the_nearest_group_is_tried_first():
    own = "8:pids:/\n4:memory:/a/b\n1:name=systemd:/x\n0::/\n"
    top = Path("/sys/fs/cgroup")
    assert list(candidates(HYBRID, own)) == [
        GroupParent(1, top / "memory/a/b", top / "pids"),
        GroupParent(1, top / "memory/a", top / "pids"),
        GroupParent(1, top / "memory", top / "pids"),
    ]
    own = "0::/user.slice/user-1000.slice/app.scope\n"
    folders = [
        top / "user.slice/user-1000.slice/app.scope",
        top / "user.slice/user-1000.slice",
        top / "user.slice",
        top,
    ]
    assert list(candidates(UNIFIED, own)) == [GroupParent(2, folder, folder) for folder in folders]


def test_a_container_is_shown_its_own_part_only():
    found = list(candidates(CONTAINER, "8:pids:/docker/a1/b\n4:memory:/docker/a1\n"))
    top = Path("/sys/fs/cgroup")
    assert found == [
        GroupParent(1, top / "memory", top / "my pids/b"),
        GroupParent(1, top / "memory", top / "my pids"),
    ]


def test_no_hierarchy_is_no_candidate():
    assert list(candidates("31 23 0:28 / / rw - ext4 /dev/vda rw\n", "0::/\n")) == []
    assert list(candidates(HYBRID.splitlines()[1], "4:memory:/\n")) == []


def test_a_group_of_version_2_is_written_as_its_kernel_wants_it(tmp_path):
    """A folder stands in for the kernel's: what is read is what it would say."""
    parent = GroupParent(2, tmp_path, tmp_path)
    folder = tmp_path / f"codechoir-{os.getpid()}-x"
    texts = {
        "memory.peak": "300\n",
        "memory.current": "100\n",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 2\noom_kill 1\noom_group_kill 0\n",
    }

    class Made(Group):
        def _folders(self):
            folder.mkdir(exist_ok=True)
            for name, text in texts.items():
                if not (folder / name).exists():
                    (folder / name).write_text(text)
            return ()

    group = Made(parent.version, folder, folder)
    group.limit(1000, 5)
    written = {name: (folder / name).read_text() for name in ("memory.max", "memory.swap.max", "pids.max")}
    assert written == {"memory.max": "1000", "memory.swap.max": "0", "pids.max": "5"}
    assert not group.ran_out()
    (folder / "memory.events").write_text(texts["memory.events"].replace("oom_kill 1", "oom_kill 2"))
    (folder / "memory.peak").write_text("350\n")
    assert group.ran_out() and group.peak_bytes() == 250
    group.close()


FORKS = """\
import os
children = []
try:
    for _ in range(8):  # not waited for as yet, so they count
        if (child := os.fork()) == 0:
            os._exit(0)
        children.append(child)
finally:
    for child in children:  # whoever inherited them might take its time, and a group with members is not removed
        os.waitpid(child, 0)
"""


def test_a_group_counts_limits_and_tells(parent):
    group = parent.make()
    try:
        group.limit(256 * 2**20, 8)

        def run(program):
            command = [*group.command(), sys.executable, "-S", "-c", program]
            return subprocess.run(command, capture_output=True, check=False)

        assert run("x = b'x' * (100 << 20)").returncode == 0
        assert 100 * 2**20 <= group.peak_bytes() < 150 * 2**20 and not group.ran_out()
        assert run("x = b'x' * (400 << 20)").returncode == -9
        assert group.ran_out()
        group.limit(256 * 2**20, 8)
        assert not group.ran_out() and group.peak_bytes() < 50 * 2**20
        done = run(FORKS)
        assert b"BlockingIOError" in done.stderr
    finally:
        group.close()
    assert not group._memory.exists() and not group._processes.exists()


def test_what_a_killed_process_has_left_is_removed(parent):
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, check=True, text=True).stdout.strip()
    left = [folder / f"codechoir-{gone}-0" for folder in {parent.memory, parent.processes}]
    for folder in left:
        folder.mkdir()
    assert find_groups() == parent
    assert not any(folder.exists() for folder in left)


def test_without_any_that_works_there_is_none(monkeypatch):
    monkeypatch.setattr(groups, "candidates", lambda *_: [GroupParent(1, Path("/proc"), Path("/proc"))])
    assert find_groups() is None
