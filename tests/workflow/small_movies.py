"""Movies so small that many take no time: a few noisy planes with bright spots, and ways to spoil them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import tifffile
import yaml

from tests.workflow.conftest import Project

HEADER = ("movie", "channel", "path", "scan", "step_um", "pixel_um", "interval_s")
SHAPE = (8, 24, 32)
SETTINGS = {
    "movies": "movies.tsv",
    "results": "results",
    "model": {"source": "bundled"},
    "features": {"use": "always"},
    "device": "cpu",
}
# Nothing is wrong with noise here.
LENIENT = {
    "frames": 1,
    "reject_p_value": 1.0,
    "max_motion_um": None,
    "max_drift_um": None,
    "max_signal_loss": 1.0,
}


def stack(seed: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Camera counts (z, y, x): offset 100, noise 3, spots of 200."""
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 3, shape)
    for z, y, x in rng.integers((1, 3, 3), np.subtract(shape, (1, 3, 3)), (6, 3)):
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


def lead_nowhere(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / "a_stack0000.tif").symlink_to("unplugged/a.tif")
    return "*.tif"


def be_absent(folder: Path) -> str:
    return "*.tif"


def be_named_too_long(folder: Path) -> str:
    folder.mkdir(parents=True)
    return "a" * 300 + ".tif"


def end_too_early(folder: Path) -> str:
    write_series(folder)
    path = folder / "a_stack0001.tif"
    path.write_bytes(path.read_bytes()[:-2000])
    return "*.tif"


def be_empty(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / "a.tif").touch()
    return "a.tif"


def be_text(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / "a.tif").write_text("Copying failed.\n" * 100)
    return "a.tif"


def claim_too_much(folder: Path) -> str:
    """A header of 2^31 × 2^31 pixels in a file of a few thousand bytes."""
    write_series(folder, frames=1)
    path = folder / "a_stack0000.tif"
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
                tag = page.tags[name]  # type: ignore[union-attr]
                tiff.filehandle.seek(tag.offset + 2)
                tiff.filehandle.write(b"\x04\x00\x01\x00\x00\x00\xff\xff\xff\x7f")
    return "a_stack0000.tif"


def be_dark(folder: Path) -> str:
    """Only voxels show it: the register finds nothing wrong."""
    folder.mkdir(parents=True)
    tifffile.imwrite(folder / "a.tif", np.zeros(SHAPE, np.uint16), photometric="minisblack")
    return "a.tif"


def change_shape(folder: Path) -> str:
    write_series(folder)
    tifffile.imwrite(folder / "a_stack0001.tif", stack(1)[:, :-1], photometric="minisblack")
    return "*.tif"


def lose_a_frame(folder: Path) -> str:
    write_series(folder, frames=3)
    (folder / "a_stack0001.tif").unlink()
    return "*.tif"


def damage_metadata(folder: Path) -> str:
    (folder / "a.zarr").mkdir(parents=True)
    (folder / "a.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": ')
    return "a.zarr"


def be_another_format(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / "a.czi").write_bytes(bytes(range(256)) * 8)
    return "a.czi"


FAULTS: Mapping[str, Callable[[Path], str]] = MappingProxyType(
    {
        make.__name__: make
        for make in (
            *(lead_nowhere, be_absent, be_named_too_long, end_too_early, be_empty, be_text),
            *(claim_too_much, be_dark, change_shape, lose_a_frame, damage_metadata, be_another_format),
        )
    }
)
"""What can be wrong with a movie: functions that make one in a folder, and return what its path there is."""
