import json
import resource
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from codechoir.errors import ChecksumError, DiskFullError, InputError
from codechoir.model import streaming
from codechoir.model.checkpoint import open_checkpoint
from codechoir.model.streaming import PlannedTensor, plan_shards, verify, write_streaming

TENSORS = {
    "a": torch.randn(50, 20),
    "b": torch.randn(7, 3).bfloat16(),
    "c": torch.arange(12).reshape(3, 4),
    "d": torch.tensor(2.5),
    "e": torch.zeros(0, 4),
    "f": torch.randn(33, dtype=torch.float16),
    "g": torch.randn(6, 5).T,  # not contiguous
    "h": torch.tensor([True, False]),
}


def planned(tensors=TENSORS):
    return [PlannedTensor(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]


def written(folder, tokenizer, shard_bytes=1000, read=TENSORS.__getitem__):
    return write_streaming(folder, {"model_type": "llama"}, plan_shards(planned(), shard_bytes), read, tokenizer)


@pytest.mark.parametrize("shard_bytes", [1, 1000, 10_000])
def test_the_library_reads_what_was_written(tmp_path, random_base, shard_bytes):
    checksums = written(tmp_path / "new", random_base, shard_bytes)
    found = {}
    for file in checksums:
        found |= load_file(tmp_path / "new" / file)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
    opened = open_checkpoint(tmp_path / "new")
    assert opened.shapes() == {name: tuple(tensor.shape) for name, tensor in TENSORS.items()}
    assert (tmp_path / "new" / "tokenizer.json").read_bytes() == (random_base / "tokenizer.json").read_bytes()
    assert not list((tmp_path / "new").glob(".*"))
    verify(tmp_path / "new")


def test_shards_and_index_are_as_hugging_face_has_them(tmp_path, random_base):
    checksums = written(tmp_path, random_base, 1)
    assert sorted(checksums) == [f"model-0000{number}-of-00008.safetensors" for number in range(1, 9)]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in TENSORS.values())
    assert index["weight_map"]["c"] == "model-00003-of-00008.safetensors"
    assert not (tmp_path / "model.safetensors").exists()


def test_one_shard_has_no_index(tmp_path, random_base):
    assert list(written(tmp_path, random_base, 10_000)) == ["model.safetensors"]
    assert not (tmp_path / "model.safetensors.index.json").exists()


def test_a_tensor_may_come_in_slices(tmp_path, random_base):
    def read(name):
        tensor = TENSORS[name]
        return iter(tensor.split(2)) if tensor.ndim else tensor

    written(tmp_path, random_base, 10_000, read)
    found = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


def test_every_tensor_begins_at_a_multiple_of_its_item(tmp_path, random_base):
    written(tmp_path, random_base, 10_000)
    data = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    assert header.keys() == TENSORS.keys()
    for name, entry in header.items():
        assert (8 + length + entry["data_offsets"][0]) % TENSORS[name].element_size() == 0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 200))
def test_shards_hold_every_tensor_once_and_no_more_than_they_may(sizes, shard_bytes):
    tensors = [PlannedTensor(str(number), torch.uint8, (size,)) for number, size in enumerate(sizes)]
    shards = plan_shards(tensors, shard_bytes)
    assert [tensor for shard in shards for tensor in shard.tensors] == tensors  # one format: the order is kept
    for shard in shards:
        assert shard.num_bytes <= shard_bytes or len(shard.tensors) == 1
    for shard, after in pairwise(shards):
        assert shard.num_bytes + after.tensors[0].num_bytes > shard_bytes


@pytest.mark.parametrize("wrong", [torch.zeros(50, 21), torch.zeros(49, 20), torch.zeros(50, 20).half()])
def test_a_tensor_unlike_the_plan_is_a_bug_and_leaves_nothing(tmp_path, random_base, wrong):
    with pytest.raises(AssertionError, match="a: "):
        written(tmp_path / "new", random_base, 1000, (TENSORS | {"a": wrong}).__getitem__)
    assert not list((tmp_path / "new").glob("*.safetensors")) and not list((tmp_path / "new").glob(".*"))


class BrokenError(Exception):
    pass


def test_whatever_is_raised_on_the_way_leaves_no_weights(tmp_path, random_base):
    written(tmp_path, random_base, 10_000)  # an older model, to be replaced

    def read(name):
        if name == "f":
            raise BrokenError
        return TENSORS[name]

    with pytest.raises(BrokenError):
        written(tmp_path, random_base, 1, read)
    left = {path.name for path in tmp_path.iterdir()}
    assert not {name for name in left if "model" in name or name.startswith(".") or name == "checksums.json"}
    with pytest.raises(InputError):
        open_checkpoint(tmp_path)


def test_what_is_written_anew_leaves_nothing_of_the_old(tmp_path, random_base):
    written(tmp_path, random_base, 1)
    written(tmp_path, random_base, 10_000)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
    assert not (tmp_path / "model.safetensors.index.json").exists()
    written(tmp_path, random_base, 1000)
    assert not (tmp_path / "model.safetensors").exists()
    verify(tmp_path)


def test_a_killed_write_leaves_nothing_that_is_taken_for_whole(tmp_path, random_base):
    script = """
import os, signal, sys, torch
from pathlib import Path
from codechoir.model.streaming import PlannedTensor, plan_shards, write_streaming
def read(name):
    if name == "c":
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.ones(4)
tensors = [PlannedTensor(name, torch.float32, (4,)) for name in "abcd"]
write_streaming(Path(sys.argv[1]), {"model_type": "llama"}, plan_shards(tensors, 1), read, Path(sys.argv[2]))
"""
    folder = tmp_path / "new"
    killed = subprocess.run([sys.executable, "-c", script, str(folder), str(random_base)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (folder / "model-00002-of-00004.safetensors").exists()
    assert not (folder / "config.json").exists()
    with pytest.raises(InputError, match=r"config\.json"):
        open_checkpoint(folder)
    written(folder, random_base, 10_000)
    assert {path.name for path in folder.glob("*model*")} | {path.name for path in folder.glob(".*")} == {
        "model.safetensors"
    }


def test_a_disk_without_room_is_told_before_anything_is_touched(tmp_path, random_base):
    written(tmp_path, random_base, 10_000)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    huge = plan_shards([PlannedTensor("x", torch.float32, (1 << 60,))])
    with pytest.raises(DiskFullError, match="no room") as told:
        write_streaming(tmp_path, {}, huge, TENSORS.__getitem__, random_base)
    assert "GB" in told.value.allowed
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_disk_that_fills_up_leaves_no_weights(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(DiskFullError):
            written(tmp_path / "new", tmp_path, 3500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "new").iterdir())


def test_memory_holds_one_part_of_one_tensor(tmp_path, random_base):
    script = """
import resource, sys, torch
from pathlib import Path
from codechoir.model.streaming import PlannedTensor, plan_shards, write_streaming
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
tensors = [PlannedTensor(name, torch.float32, (8, 1 << 21)) for name in "abc"]
torch.ones(1 << 21)
before = peak()
read = lambda _: (torch.ones(1, 1 << 21) for _ in range(8))
write_streaming(Path(sys.argv[1]), {}, plan_shards(tensors), read, Path(sys.argv[2]))
print(peak() - before)
"""
    command = [sys.executable, "-c", script, str(tmp_path), str(random_base)]
    grown = float(subprocess.run(command, check=True, capture_output=True).stdout)
    assert (tmp_path / "model.safetensors").stat().st_size > 3 * 64 * 2**20
    assert grown < 40  # MiB, where a part has 8 and a tensor 64


@pytest.mark.parametrize("place", [0, -1])
def test_a_damaged_shard_is_named(tmp_path, random_base, place):
    path = tmp_path / sorted(written(tmp_path, random_base, 100))[place]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the header is whole, so only the checksum can tell
    path.write_bytes(data)
    open_checkpoint(tmp_path)
    with pytest.raises(ChecksumError, match=path.name):
        verify(tmp_path)
    path.write_bytes(data[:-1])
    with pytest.raises(InputError, match=path.name):
        open_checkpoint(tmp_path)
    path.unlink()
    for check in (open_checkpoint, verify):
        with pytest.raises(InputError, match=path.name):
            check(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_damaged_checksums_are_told(tmp_path, random_base, content):
    written(tmp_path, random_base)
    (tmp_path / "checksums.json").write_text(content)
    with pytest.raises(InputError, match=r"checksums\.json"):
        verify(tmp_path)


def test_a_large_tensor_is_hashed_in_chunks(tmp_path, random_base, monkeypatch):
    monkeypatch.setattr(streaming, "_CHUNK_BYTES", 100)
    written(tmp_path, random_base)
    verify(tmp_path)
