from hypothesis import given
from hypothesis import strategies as st

from codechoir.sandbox.isolation import Launch
from codechoir.sandbox.process import KEPT_BYTES, Deadlines, _Output, watch


@given(st.lists(st.integers(0, 3 * KEPT_BYTES), max_size=6))
def test_kept_output_is_the_beginning_and_the_end_however_it_arrives(sizes):
    output, whole = _Output(), b""
    for number, size in enumerate(sizes):
        chunk = bytes([65 + number]) * size
        output.add(chunk)
        whole += chunk
    text = output.text()
    if len(whole) <= 2 * KEPT_BYTES:
        assert text.encode() == whole
    else:
        left_out = len(whole) - 2 * KEPT_BYTES
        gap = f"\n[... {left_out} bytes left out ...]\n".encode()
        assert text.encode() == whole[:KEPT_BYTES] + gap + whole[-KEPT_BYTES:]


def shell(script, tmp_path, **deadlines):
    given = {"compile_seconds": 20.0, "run_seconds": 20.0, "output_bytes": 1000} | deadlines
    return watch(Launch(("/bin/sh", "-c", script), tmp_path, ()), Deadlines(**given))


def test_the_report_tells_how_far_it_came(tmp_path):
    assert not shell("exit 3", tmp_path).started
    seen = shell("echo ready; echo 'compiled 7'; echo text >&2", tmp_path)
    assert (seen.started, seen.compile_code, seen.exit_code, seen.stopped) == (True, 7, None, None)
    assert seen.output == "text\n"
    seen = shell("echo ready; echo 'compiled 0'; echo 'exited 113'", tmp_path)
    assert (seen.compile_code, seen.exit_code) == (0, 113)
    assert shell("echo ready; echo 'compiled nothing'; printf 'exited 1'", tmp_path).exit_code is None


def test_each_phase_has_its_own_deadline(tmp_path):
    seen = shell("echo ready; sleep 60", tmp_path, compile_seconds=0.2)
    assert seen.stopped == "compile-time"
    seen = shell("echo ready; echo 'compiled 0'; sleep 60", tmp_path, run_seconds=0.2)
    assert seen.stopped == "time" and seen.compile_code == 0


def test_output_at_the_limit_passes_and_over_it_is_stopped(tmp_path):
    script = "echo ready; echo 'compiled 0'; head -c {} /dev/zero >&2; echo 'exited 113'"
    assert shell(script.format(1000), tmp_path).stopped is None
    assert shell(script.format(1001), tmp_path).stopped == "output"
