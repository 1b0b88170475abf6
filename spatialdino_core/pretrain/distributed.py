"""Several processes that train one model: who they are, and what they tell each other.

Every function also works in a process that is alone, without any communication. Started by ``torchrun``,
which sets the environment that `joined` reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes the log."""
        return self.rank == 0


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Join the processes that ``torchrun`` has started; alone if there are none."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        yield World()
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    if is_distributed():  # joined already, by whoever called
        yield World(dist.get_rank(), ranks, local_rank)
        return
    if device.type == "cuda":
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), ranks, local_rank)
    finally:
        dist.destroy_process_group()


def is_distributed() -> bool:
    """Whether there are other processes."""
    return dist.is_available() and dist.is_initialized()


def summed(tensor: Tensor) -> Tensor:
    """Sum over all processes; the argument is left as it is."""
    return _reduced(tensor, dist.ReduceOp.SUM)


def largest(tensor: Tensor) -> Tensor:
    """Element-wise maximum over all processes; the argument is left as it is."""
    return _reduced(tensor, dist.ReduceOp.MAX)


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether the flag is raised in any process. All processes get the same answer."""
    return bool(largest(torch.tensor(float(flag), device=device)))


def gathered(tokens: Tensor) -> Tensor:
    """(n, D) of each process to (ranks * n, D) in the order of the ranks; gradients go back to all."""
    if not is_distributed():
        return tokens
    return _Gathered.apply(tokens)


def first_row(tokens: Tensor) -> int:
    """Where this process's rows begin in what `gathered` returns."""
    return dist.get_rank() * len(tokens) if is_distributed() else 0


def gathered_objects(thing: Thing, world: World) -> list[Thing]:
    """Something small of each process, in the order of the ranks."""
    if not is_distributed():
        return [thing]
    things: list[Thing] = [thing] * world.ranks
    dist.all_gather_object(things, thing)
    return things


def first_of(thing: Thing) -> Thing:
    """What the first process has, in all of them."""
    if not is_distributed():
        return thing
    things = [thing]
    dist.broadcast_object_list(things, src=0)
    return things[0]


def _reduced(tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
    if not is_distributed():
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total, operation)
    return total


class _Gathered(torch.autograd.Function):
    """Rows of all processes; each row's gradient is the sum of what all processes make of it."""

    @staticmethod
    def forward(context: Any, tokens: Tensor) -> Tensor:
        parts = [torch.empty_like(tokens) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tokens.contiguous())
        context.rows = len(tokens)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        first = dist.get_rank() * context.rows
        return summed(gradients[0])[first : first + context.rows]
