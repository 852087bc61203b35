from pathlib import Path

import pytest
import torch

from codechoir.errors import MemoryFullError
from codechoir.model import device


@pytest.fixture
def cpu_flags(monkeypatch):
    """Makes this machine one without a GPU, whose CPU has the flags given."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return lambda flags: monkeypatch.setattr(Path, "read_text", lambda _: f"flags\t\t: fpu sse {flags} lm\n")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx2", torch.float32),
        ("avx512_bf16", torch.bfloat16),
        ("amx_bf16 amx_tile", torch.bfloat16),
        ("xbf16x", torch.float32),
    ],
)
def test_auto_is_bfloat16_only_where_the_cpu_multiplies_in_it(cpu_flags, flags, expected):
    cpu_flags(flags)
    assert device.compute_dtype("auto") is expected
    assert str(expected).removeprefix("torch.") in device.describe_device()


def test_a_named_precision_holds_whatever_the_machine(cpu_flags):
    cpu_flags("avx512_bf16")
    assert device.compute_dtype("float32") is torch.float32
    cpu_flags("avx2")
    assert device.compute_dtype("bfloat16") is torch.bfloat16


def test_a_machine_without_proc_computes_in_float32(monkeypatch):
    def missing(_):
        raise FileNotFoundError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(Path, "read_text", missing)
    assert device.compute_dtype("auto") is torch.float32
    assert device.compute_device() == torch.device("cpu")


def test_memory_that_has_run_out_is_the_users_matter():
    with pytest.raises(MemoryFullError, match="you tried to allocate") as caught, device.memory_full_told("less"):
        torch.empty(2**55)
    assert "next:    less" in caught.value.message()
    with pytest.raises(MemoryFullError), device.memory_full_told("less"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with pytest.raises(RuntimeError, match="size of tensor"), device.memory_full_told("less"):
        torch.ones(2) + torch.ones(3)
