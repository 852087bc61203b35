"""The processes that train together: who this one is, how a model is spread over them, and what they tell each other.

One process is the same as several, with nothing to tell. A launcher (`torchrun`, `accelerate launch`) starts them and
says so in the environment. Knows no data and no optimiser.
"""

from __future__ import annotations

import atexit
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from codechoir.model.device import compute_device


@dataclass(frozen=True, slots=True)
class Devices:
    """This process among those that train together."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def spread(self, module: nn.Module, layers: nn.ModuleList, shard: bool) -> Any:
        """The module ready for the backward pass of all processes: as it is, copied (DDP) or split by layer (FSDP2).

        The gradients are the mean over the processes.
        """
        if self.count == 1:
            return module
        if not shard:
            ids = [self.device.index] if self.device.type == "cuda" else None
            return DistributedDataParallel(module, device_ids=ids, broadcast_buffers=False)
        policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
        for layer in layers:
            fully_shard(layer, mp_policy=policy)
        return fully_shard(module, mp_policy=policy)

    def adding_up(self, module: Any, last: bool) -> AbstractContextManager[None]:
        """Within it a backward pass tells its gradients to the other processes only where it is the step's `last`."""
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(last)
        elif isinstance(module, DistributedDataParallel) and not last:
            return module.no_sync()
        return nullcontext()

    def sums(self, *values: float) -> list[float]:
        """Each value summed over the processes."""
        if self.count == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(told)
        return [float(value) for value in told.tolist()]

    def meet(self) -> None:
        """Returns when all processes are here."""
        self.sums(0.0)


def join_devices(device: torch.device | None = None) -> Devices:
    """This process's place, by the launcher's environment; the others are met on the first call."""
    device = device or compute_device()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Devices(0, 1, device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        if device.type == "cpu":  # gloo's threads would now and then abort a process that ends without this
            atexit.register(distributed.destroy_process_group)
    return Devices(distributed.get_rank(), count, device)


def told_to_shard() -> bool:
    """Whether `accelerate launch` was asked for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes")
