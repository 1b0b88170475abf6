"""Movies so small that the review of many takes no time: a few noisy planes with bright spots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
import yaml

from tests.workflow.conftest import Project

HEADER = ("movie", "channel", "path", "scan", "step_um", "pixel_um", "interval_s")
SHAPE = (8, 24, 32)
SETTINGS = {"movies": "movies.tsv", "results": "results", "model": {"source": "bundled"}, "device": "cpu"}
# Nothing is wrong with noise here.
LENIENT = {"frames": 1, "min_snr": 0.0, "max_motion_um": None, "max_drift_um": None, "max_signal_loss": 1.0}


def stack(seed: int) -> np.ndarray:
    """Camera counts (z, y, x): offset 100, noise 3, spots of 200."""
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 3, SHAPE)
    for z, y, x in rng.integers((1, 3, 3), np.subtract(SHAPE, (1, 3, 3)), (6, 3)):
        image[z, y - 1 : y + 2, x - 1 : x + 2] += 200
    return np.rint(image).astype(np.uint16)


def write_series(folder: Path, frames: int = 2, name: str = "a", seed: int = 0) -> None:
    """A series of TIFF files, one per frame."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(frames):
        tifffile.imwrite(
            folder / f"{name}_stack{frame:04}.tif", stack(100 * seed + frame), photometric="minisblack"
        )


def row(movie: str, path: str) -> list[str]:
    """A line of the sample sheet, of a movie without skew."""
    return [movie, "488nm", path, "none", "0.25", "0.104", "2"]


def write_project(folder: Path, rows: Sequence[Sequence[str]], **settings: object) -> Project:
    """Sheet and settings."""
    folder.mkdir(parents=True, exist_ok=True)
    quoted = ["\t".join('"' + cell.replace('"', '""') + '"' for cell in cells) for cells in [HEADER, *rows]]
    (folder / "movies.tsv").write_text("\n".join(quoted) + "\n")
    (folder / "settings.yaml").write_text(
        yaml.safe_dump(SETTINGS | {"quality": LENIENT} | settings, allow_unicode=True)
    )
    return Project(folder)
