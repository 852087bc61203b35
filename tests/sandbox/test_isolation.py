"""What a program is shown by the outer walls, and what is said where they cannot be had."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from codechoir.errors import ToolMissingError
from codechoir.sandbox import isolation
from codechoir.sandbox.isolation import FOLDER, Inherited, Sandbox, memory_file, open_sandbox


@pytest.fixture(scope="module")
def sandbox():
    return open_sandbox("bubblewrap")


def run(command, descriptors=()):
    done = subprocess.run(
        command, capture_output=True, text=True, pass_fds=descriptors, check=False, env={"PATH": "/usr/bin"}
    )
    assert done.stderr == ""
    return done.stdout


def shell(sandbox, script, **options):
    return run(sandbox.enclosed(("/bin/sh", "-c", script), **options))


def test_only_what_toolchains_need_is_shown(sandbox):
    assert set(shell(sandbox, "ls -A /").split()) <= {
        "bin",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "proc",
        "sbin",
        "tmp",
        "usr",
    }
    shown = set(shell(sandbox, "ls -A /etc").split())
    assert "alternatives" in shown and not shown & {
        "passwd",
        "shadow",
        "group",
        "hostname",
        "ssh",
        "ssl",
        "hosts",
        "pip.conf",
    }
    expected = {"fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"}
    assert set(shell(sandbox, "ls -A /dev").split()) == expected
    assert shell(sandbox, "ls -A / /home /root /var 2> /dev/null | grep -c root").strip() == "0"


def test_the_environment_is_our_own(sandbox, monkeypatch):
    monkeypatch.setenv("PLANTED", "x")
    found = dict(
        line.split("=", 1) for line in run(sandbox.enclosed(("/usr/bin/env",), environment={"A": "b"})).splitlines()
    )
    assert found == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "PWD": FOLDER,
        "A": "b",
    }


def test_only_tmp_can_be_written_to(sandbox):
    script = "for d in / /usr /etc /dev /proc /bin /tmp; do touch $d/x 2> /dev/null && echo $d; done"
    assert shell(sandbox, script) == "/tmp\n"


def test_folders_and_files_are_handed_in(sandbox, tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    (tmp_path / "seen").write_text("shown\n")
    number = memory_file("handed", b"handed\n")
    try:
        inherited = Inherited({"/tmp/deep/handed": number})
        script = f"cat {tmp_path}/seen /tmp/deep/handed; touch {tmp_path}/new 2> /dev/null || echo read-only"
        found = run(sandbox.enclosed(("/bin/sh", "-c", script), (str(tmp_path),), inherited), (number,))
    finally:
        os.close(number)
    assert found == "shown\nhanded\nread-only\n"


def test_it_is_process_1_of_namespaces_of_its_own(sandbox):
    assert shell(sandbox, "echo $$; hostname; cat /proc/net/dev | grep -c :") == "1\nsandbox\n1\n"
    kinds = ("user", "pid", "net", "ipc", "mnt", "uts", "cgroup")
    inside = shell(sandbox, "for n in user pid net ipc mnt uts cgroup; do readlink /proc/self/ns/$n; done").split()
    assert not set(inside) & {str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in kinds}


def test_the_user_is_nobody_else(sandbox):
    user = int(shell(sandbox, "id -u"))
    if os.geteuid() != 0:
        assert user == os.geteuid() and sandbox.user is None
        return
    assert user == sandbox.user
    with pytest.raises(KeyError):
        pwd.getpwuid(user)
    # It is another user outside too, not only by name: the kernel holds it to its limits.
    with subprocess.Popen(sandbox.enclosed(("sleep", "60"))) as process:
        try:
            while Path(f"/proc/{process.pid}/comm").read_text() != "bwrap\n":
                pass
            assert Path(f"/proc/{process.pid}").stat().st_uid == user
            assert open_sandbox("bubblewrap").user != user
        finally:
            process.kill()


def test_what_it_is_is_told(sandbox):
    assert sandbox.description.startswith("bubblewrap ") and ", seccomp, " in sandbox.description
    assert sandbox.description.endswith(
        "per-process limits only" if sandbox.groups is None else "control groups v1"
    ) or (sandbox.groups is not None and sandbox.groups.version == 2)


@pytest.mark.parametrize(("program", "package"), [("bwrap", "bubblewrap"), ("setpriv", "util-linux")])
def test_a_machine_without_a_tool_is_told_what_to_do(monkeypatch, tmp_path, program, package):
    for each in {"bwrap", "setpriv", "choom"} - {program}:
        (tmp_path / each).touch(0o755)
    monkeypatch.setattr(isolation, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match=f"apt-get install {package}") as refused:
        open_sandbox("bubblewrap")
    assert "--unsafe-no-sandbox" in str(refused.value)
    assert "evaluate.sandbox=unsafe-no-sandbox" in str(refused.value)


def test_a_machine_that_forbids_namespaces_is_told_what_was_seen(monkeypatch):
    monkeypatch.setattr(isolation, "_BUBBLEWRAP", ("bwrap", "--no-such-option"))
    with pytest.raises(ToolMissingError, match="Unknown option --no-such-option"):
        open_sandbox("bubblewrap")


def test_a_machine_that_forbids_the_inner_walls_is_told_too(monkeypatch):
    without = tuple(part for part in isolation._BUBBLEWRAP if part not in ("--cap-add", "CAP_SYS_ADMIN", "CAP_SETPCAP"))
    monkeypatch.setattr(isolation, "_BUBBLEWRAP", without)
    with pytest.raises(ToolMissingError, match="unshare"):
        open_sandbox("bubblewrap")


def test_no_sandbox_is_only_what_was_asked_for():
    assert open_sandbox("unsafe-no-sandbox") == Sandbox("unsafe-no-sandbox", "none")
