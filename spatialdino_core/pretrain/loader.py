"""Batches ahead of the step that needs them. Not what is in them: see ``batches.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spatialdino_core.errors import BadInputError
from spatialdino_core.pretrain.batches import Batch

StepBatches = list[Batch]


def batches_ahead(
    build: Callable[[int], StepBatches], steps: range, *, workers: int, device: torch.device
) -> Iterator[StepBatches]:
    """Micro-batches of each step, intensities changed, on the device; the next ones are being built.

    Parameters
    ----------
    build
        Cuts the micro-batches of a step; with workers it must be picklable.
    steps
        Which steps, in order.
    workers
        Processes that cut; 0 for one thread of this process. No bit depends on it.
    device
        Where the batches are wanted. Intensities are changed there: by the thread if it is the CPU.

    Raises
    ------
    BadInputError
        If a view is not finite; names the crop.
    """
    if workers:
        loader = DataLoader(
            _Steps(build),
            sampler=steps,  # any iterable of indices will do
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=device.type == "cuda",
            multiprocessing_context="forkserver",
        )
        for batches in loader:
            if isinstance(batches, BadInputError):
                raise batches
            yield [_ready(batch, device) for batch in batches]
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as builder:
        waiting = [builder.submit(_built, build, step, device) for step in steps[:1]]
        for following in (*steps[1:], None):
            if not waiting:
                return
            batches = waiting.pop().result()
            if following is not None:
                waiting = [builder.submit(_built, build, following, device)]
            yield batches


class _Steps(Dataset[StepBatches | BadInputError]):
    """What a worker builds, by step; bad input as a value, since the loader would raise only its text."""

    def __init__(self, build: Callable[[int], StepBatches]) -> None:
        self.build = build

    def __getitem__(self, step: int) -> StepBatches | BadInputError:
        try:
            return self.build(step)
        except BadInputError as error:
            return error


def _as_it_is(built: StepBatches | BadInputError) -> StepBatches | BadInputError:
    return built


def _built(build: Callable[[int], StepBatches], step: int, device: torch.device) -> StepBatches:
    return [_ready(batch, device) for batch in build(step)]


def _ready(batch: Batch, device: torch.device) -> Batch:
    changed = batch.to(device).changed()
    _check_views(changed.global_views.voxels, changed.crops)
    return changed


def _check_views(views: Tensor, crops: Sequence[int]) -> None:
    """Refuse views that are not finite: (V * B, …), view by view of B crops.

    Raises
    ------
    BadInputError
        Naming the crops.
    """
    if views.isfinite().all():
        return
    bad = (~views.flatten(1).isfinite().all(dim=1)).nonzero().flatten().tolist()
    names = sorted({crops[view % len(crops)] for view in bad})
    raise BadInputError(
        f"training crops {names}",
        found="NaN or infinite voxels",
        expected="finite intensities normalised to [0, 1]",
        remedy="Find the movie of these crops in the crop index and exclude or repair it.",
    )
