"""Which device and number format to compute with on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from codechoir.errors import MemoryFullError

Precision = Literal["auto", "bfloat16", "float32"]

# Sizes of products that vary are filled up to a multiple: on a CPU oneDNN and torch keep what each new shape needs.
SHAPE_STEP = 64

# Rows of matrices that GPUs multiply are a multiple of so many numbers of 16 bits: others take several times as long,
# or no kernel takes them.
ROW_STEP = 8


def compute_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(precision: Precision) -> torch.dtype:
    """The number format of `precision`; `auto` is bfloat16 where the hardware multiplies in it, else float32."""
    if precision == "auto":
        native = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if native or _cpu_multiplies_bfloat16() else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has bfloat16 dot products (without them it is several times slower than float32)."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return re.search(r"\b(avx512_bf16|amx_bf16|svebf16|bf16)\b", text) is not None


@contextmanager
def memory_full_told(next_step: str) -> Iterator[None]:
    """Turns torch's errors about memory, the device's or the CPU's, into one message. Raises MemoryFullError."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            seen = str(error).splitlines()[0].rpartition("] ")[2]
            raise MemoryFullError("memory has run out", seen=seen, next_step=next_step) from None
        raise


def peak_device_memory() -> int:
    """The most bytes of the device's own memory that tensors have taken so far; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def describe_device() -> str:
    """The device and number format that `auto` takes here, in words."""
    device = compute_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    return f"{device.type} ({name}), {str(compute_dtype('auto')).removeprefix('torch.')}, torch {torch.__version__}"
