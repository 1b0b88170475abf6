"""A small encoder, deskewed movies of a few particles, and weights to encode them with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from spatialdino_core.encoder.header import WeightsHeader
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import VisionTransformer3D, build_encoder
from spatialdino_core.encoder.weights import save_encoder
from spatialdino_core.features.basis import fit_basis
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout

VOXEL_UM = (0.1, 0.1, 0.1)
Make = Callable[..., Path]


def small_encoder(channels: int = 1) -> VisionTransformer3D:
    parameters = EncoderParameters(
        embed_dim=16, depth=2, heads=2, channels=channels, layer_scale=1.0, drop_path=0.0
    )
    return build_encoder(parameters, torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def encoder() -> VisionTransformer3D:
    return small_encoder()


def frames(
    number: int = 3, channels: int = 1, shape: tuple[int, int, int] = (48, 56, 64)
) -> list[np.ndarray]:
    """Noise and bright spots, uint16 (c, z, y, x)."""
    generator = np.random.default_rng(0)
    grid = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    spots = generator.uniform(4, np.array(shape) - 4, (25, 3))
    signal = sum(
        np.exp(-sum((g - c) ** 2 for g, c in zip(grid, spot, strict=True)) / (2 * 1.5**2)) for spot in spots
    )
    return [
        np.rint(generator.normal(100, 5, (channels, *shape)) + 150 * np.asarray(signal)).astype(np.uint16)
        for _ in range(number)
    ]


@pytest.fixture
def movie(tmp_path: Path) -> Make:
    """Writes a deskewed movie of an upright scan; its completion record."""

    def make(stacks: Sequence[np.ndarray], name: str = "cell-1") -> Path:
        folder = tmp_path / name
        layout = StoreLayout(
            shape_czyx=stacks[0].shape,
            dtype="uint16",
            voxel_um=VOXEL_UM,
            origin_um=(1.0, 2.0, 3.0),
            interval_s=2.0,
            channels=tuple(f"{488 + n}nm" for n in range(len(stacks[0]))),
        )
        store = FrameStore.prepare(folder / "deskewed.ome.zarr", layout, len(stacks), {})
        about = {
            "geometry": asdict(ScanGeometry(scan="none", step_um=VOXEL_UM[0], pixel_um=VOXEL_UM[1])),
            "acquisition": {"interval_s": 2.0},
            "raw_shape_zyx": list(stacks[0].shape[1:]),
            "parameters": asdict(DeskewParameters()),
            "roi_um": None,
        }
        sums = {frame: store.write(frame, data) for frame, data in enumerate(stacks)}
        record = StageRecord(stores=["deskewed.ome.zarr"], checksums=sums, skipped={}, about=about)
        record.write(folder / "deskewed.json")
        return folder / "deskewed.json"

    return make


@pytest.fixture
def weights(tmp_path: Path) -> Make:
    """Writes a finished model; its file."""

    def make(channels: int = 1, window: int = 32, name: str = "weights.safetensors") -> Path:
        encoder = small_encoder(channels)
        crops = [np.random.default_rng(n).random((channels, 32, 32, 32), np.float32) for n in range(3)]
        header = WeightsHeader(
            architecture=encoder.architecture,
            voxel_um=VOXEL_UM,
            normalisation={},
            field_of_view_voxels=(window, window, window),
        )
        save_encoder(tmp_path / name, encoder, header, fit_basis(encoder, crops, 32))
        return tmp_path / name

    return make
