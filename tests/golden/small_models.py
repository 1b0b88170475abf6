"""Tiny encoders, crops and deskewed movies for the golden tests of the stages around the model.

All settings are written out: a default that changes is a setting that changed, no result that moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialdino_core.crops.shards import Crop, write_shards
from spatialdino_core.encoder.header import WeightsHeader
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import VisionTransformer3D, build_encoder
from spatialdino_core.encoder.weights import save_encoder
from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.deskewed import recorded_grid
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout

NORMALISATION = {
    "scale": "movie",
    "tail_fraction": 0.001,
    "calibration_frames": 1,
    "low_counts": None,
    "high_counts": None,
}


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> bool:
    """Whether a call refuses its input; why it does is a message, no result."""
    try:
        call(*arguments, **options)
    except (BadInputError, ValueError):
        return True
    return False


def architecture(**changes: Any) -> EncoderParameters:
    """Of a tiny encoder."""
    values: dict[str, Any] = dict(size="custom", channels=1, embed_dim=12, depth=2, heads=2, patch_voxels=4)
    values |= dict(feed_forward="mlp", mlp_ratio=2.0, positions="none", position_grid=(4, 4, 4))
    values |= dict(position_base=100.0, layer_scale=0.7, drop_path=0.0, registers=1, test_time_registers=0)
    return EncoderParameters(**(values | {"norm_eps": 1e-3} | changes))


def encoder(seed: int = 0, strength: float = 0.3, **changes: Any) -> VisionTransformer3D:
    """Fresh weights, all of them disturbed, so that no bias is zero and no factor one."""
    built = build_encoder(architecture(**changes), torch.Generator().manual_seed(seed)).eval()
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for _, weight in sorted(built.named_parameters()):
            weight += torch.from_numpy(strength * generator.normal(size=weight.shape)).float()
    return built


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All values one after another, float64."""
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def spots(
    seed: int, shape: tuple[int, ...], number: int, sigma: float = 1.3, noise: float = 0.02
) -> np.ndarray:
    """Noise and spots of several brightnesses in [0, 1], float32 (z, y, x)."""
    generator = np.random.default_rng(seed)
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    image = generator.normal(0.15, noise, shape)
    for _ in range(number):
        centre = generator.uniform(2, np.array(shape) - 2)
        apart = sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True))
        image += generator.uniform(0.2, 0.7) * np.exp(-apart / (2 * sigma**2))
    return image.clip(0, 1).astype(np.float32)


def shards(folder: Path, movie: str, crops: Sequence[np.ndarray], voxel_um: float = 0.2) -> str:
    """Crops (c, z, y, x) as the shards of a movie, about four in each; its index."""
    made = [Crop(f"{movie}-{number}", crop, {}) for number, crop in enumerate(crops)]
    size = 4 * (crops[0].size * 2 + 3000) + 11000
    about = {"movie": movie, "voxel_um": [voxel_um] * 3, "normalisation": NORMALISATION}
    about |= {"crops": {"channels": "random"}, "bounds": dict.fromkeys(map(str, range(len(crops[0]))))}
    write_shards(folder / movie, lambda first: made[first:], shard_bytes=size, about=about)
    return str(folder / movie / "index.json")


def weights_file(
    path: Path, model: VisionTransformer3D, extra: dict[str, Tensor], voxel_um: float, window: int
) -> Path:
    """Weights with a header."""
    header = WeightsHeader(
        architecture=model.architecture,
        voxel_um=(voxel_um,) * 3,
        normalisation=dict(NORMALISATION),
        field_of_view_voxels=(window,) * 3,
        provenance={},
    )
    save_encoder(path, model, header, extra)
    return path


def deskewed_movie(
    folder: Path, raw_shape: tuple[int, int, int], frames: int, channels: int, number: int
) -> Path:
    """A deskewed stage scan of moving spots, with fill at its ends; its completion record."""
    about: dict[str, Any] = {
        "geometry": dict(scan="stage", angle_deg=32.0, step_um=0.5, pixel_um=0.2, skew_axis="x", scan_sign=1),
        "acquisition": {"interval_s": 2.5},
        "raw_shape_zyx": list(raw_shape),
        "parameters": {"frame": "deskewed", "isotropic": False, "crop": "full", "grid_offset_um": 0.0},
        "roi_um": None,
    }
    grid = recorded_grid(about)
    layout = StoreLayout(
        shape_czyx=(channels, *grid.shape),
        dtype="uint16",
        voxel_um=grid.voxel_um,
        origin_um=(1.0, 2.0, 3.0),
        interval_s=2.5,
        channels=tuple(f"{488 + 72 * n}nm" for n in range(channels)),
        kind="image",
    )
    store = FrameStore.prepare(folder / "deskewed.ome.zarr", layout, frames, {})
    sums = {}
    for frame in range(frames):
        seeds = [10 * frame + channel for channel in range(channels)]
        images = [np.where(grid.valid, spots(seed, grid.shape, number), 0.1) for seed in seeds]
        sums[frame] = store.write(frame, np.rint(100 + 900 * np.stack(images)).astype(np.uint16))
    record = StageRecord(stores=["deskewed.ome.zarr"], checksums=sums, skipped={}, about=about)
    record.write(folder / "deskewed.json")
    return folder / "deskewed.json"
