"""Checkpoints of a training run: whole files, of which few are kept. Not the weights that others use."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import published


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int, milestone: int = 0) -> None:
    """Write the state after ``step`` finished steps, then drop old checkpoints.

    Parameters
    ----------
    keep
        Newest checkpoints that stay.
    milestone
        Checkpoints at multiples of this many steps stay, too; 0: none.
    """
    with published(folder / f"step-{step:09d}.pt") as beside:
        _save(state, beside)
    for old in checkpoints(folder)[:-keep]:
        if not milestone or _step(old) % milestone:
            old.unlink()


def _save(state: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # PyTorch's archive complains of itself when the disk is full; what the disk said lies behind.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints in a folder, oldest first; empty where there is no folder."""
    return sorted(folder.glob("step-*.pt"))


def load_latest(folder: Path) -> dict[str, Any] | None:
    """State of the newest checkpoint, on the CPU, or None if there is none.

    Only tensors and plain values are unpickled.

    Raises
    ------
    BadInputError
        If the file is damaged.
    """
    found = checkpoints(folder)
    if not found:
        return None
    try:
        return torch.load(found[-1], map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadInputError(
            found[-1],
            found=f"an unreadable checkpoint ({str(error).splitlines()[0]})",
            expected="a checkpoint written by this software",
            remedy="Delete this file: training then resumes from the checkpoint before it.",
        ) from error


def _step(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("step-"))
