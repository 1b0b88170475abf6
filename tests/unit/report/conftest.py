"""A small results folder as the stages leave it: spots on known paths in a volume with unequal voxels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spatialdino_core.files import write_json
from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout

PATCH = 8
TRACK_COLUMNS = [
    *("track_id", "frame", "time_s", "z", "y", "x", "z_um", "y_um", "x_um", "label", "volume_um3"),
    *("intensity_mean", "intensity_sum", "snr", "link_cost", "link_confidence", "gap"),
]
EVENT_COLUMNS = [
    *("event", "frame", "time_s", "z_um", "y_um", "x_um", "track_id", "other_track_id", "score"),
]
OBJECT_COLUMNS = [
    *("frame", "label", "z", "y", "x", "z_um", "y_um", "x_um", "volume_um3"),
    *("intensity_mean", "intensity_sum", "background", "snr"),
]

STORES = {
    "deskewed.json": ["deskewed.ome.zarr"],
    "features.json": ["features.zarr", "foreground.ome.zarr"],
    "labels.json": ["labels.ome.zarr"],
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a synthetic results folder holds."""

    movie: str = "cell_1"
    frames: int = 8
    particles: int = 6
    interval_s: float | None = 2.0
    times_s: tuple[float, ...] = ()
    shape: tuple[int, int, int] = (20, 60, 90)
    voxel_um: tuple[float, float, float] = (0.3, 0.1, 0.12)
    diffusion_um2_per_s: float = 0.003
    channels: tuple[str, ...] = ("488nm",)
    skipped: dict[int, str] = field(default_factory=dict)
    separation: float = 3.2
    reach: int = 8
    expected_f1: float = 0.91
    keep: str = "components"
    bleaching: float = 0.95
    seed: int = 0
    noted: list[str] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)

    def positions_um(self) -> np.ndarray:
        """(frames, particles, 3) Brownian paths away from the border, µm."""
        rng = np.random.default_rng(self.seed)
        size = np.array(self.shape) * self.voxel_um
        start = rng.uniform(0.25, 0.75, (self.particles, 3)) * size
        sigma = np.sqrt(2 * self.diffusion_um2_per_s * (self.interval_s or 1.0))
        steps = rng.normal(0, sigma, (self.frames, self.particles, 3))
        return np.clip(start + np.cumsum(steps, axis=0), 0.1 * size, 0.9 * size)


def write_results(root: Path, scene: Scene) -> MovieRecord:
    """Write the folder ``root/{movie}`` and the benchmarks; return the movie's record."""
    folder = root / scene.movie
    record = MovieRecord(
        movie=scene.movie,
        channels=list(scene.channels),
        paths=["raw/*.tif"] * len(scene.channels),
        train=False,
        acquisition=Acquisition(
            scan="stage",
            angle_deg=31.8,
            step_um=0.4,
            pixel_um=0.12,
            interval_s=scene.interval_s,
            skew_axis="y",
            scan_sign=1,
            sources={"pixel_um": "sample sheet", "step_um": "name of the TIFF series"},
        ),
        frames=scene.frames,
        shape_zyx=scene.shape,
        dtype="uint16",
        times_s=list(scene.times_s),
        skipped=scene.skipped,
    )
    record.write(folder / "movie.json")
    paths = scene.positions_um()
    objects = _objects(scene, paths)
    objects.to_parquet(folder / "objects.parquet")
    _tracks(scene, objects).to_csv(folder / "tracks.csv", index=False)
    _events(scene, paths).to_csv(folder / "events.csv", index=False)
    write_json(root / "previews" / f"{scene.movie}.json", {"warnings": scene.looked_at})
    write_json(folder / "tracks.json", {"parameters": {"gap_frames": 2}, "linking": {"links": 40}})
    _stores(scene, folder, paths)
    for stage, seconds in (("deskew", 75.25), ("features", 4000.0), ("track", 0.5)):
        table = root / "benchmarks" / stage / f"{scene.movie}.tsv"
        table.parent.mkdir(parents=True, exist_ok=True)
        memory = "-" if stage == "track" else "512.5"
        table.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t{memory}\n")
    return record


@pytest.fixture
def results_folder(tmp_path: Path) -> Callable[..., tuple[MovieRecord, Path]]:
    """Makes a results folder from the fields of `Scene`; gives the record and the root."""

    def make(**fields: object) -> tuple[MovieRecord, Path]:
        return write_results(tmp_path, Scene(**fields)), tmp_path  # type: ignore[arg-type]

    return make


def _objects(scene: Scene, paths: np.ndarray) -> pd.DataFrame:
    rows = []
    for frame in range(scene.frames):
        for particle in range(scene.particles):
            if frame in scene.skipped:
                continue
            z, y, x = paths[frame, particle] / scene.voxel_um
            signal = (150 + 10 * (particle % 20)) * scene.bleaching**frame
            snr = 4 + 0.3 * (particle % 20) - 0.1 * frame
            rows.append(
                [
                    *(frame, particle + 1, z, y, x, *paths[frame, particle], 0.06),
                    *(signal, 40 * signal, 100.0, snr),
                ]
            )
    table = pd.DataFrame(rows, columns=OBJECT_COLUMNS)
    return table.astype(dict.fromkeys(OBJECT_COLUMNS[2:], float) | {"frame": "int64", "label": "int64"})


def _tracks(scene: Scene, objects: pd.DataFrame) -> pd.DataFrame:
    table = objects.copy()
    table["track_id"] = table["label"]
    table["time_s"] = table["frame"] * (scene.interval_s or 1.0)
    table["link_cost"] = 0.5
    table["link_confidence"] = np.where(table["frame"] > 0, 0.95 - 0.05 * (table["label"] % 5), np.nan)
    table["gap"] = 0
    return table.sort_values(["track_id", "frame"])[TRACK_COLUMNS]


def _events(scene: Scene, paths: np.ndarray) -> pd.DataFrame:
    if scene.frames < 3 or not scene.particles:
        return pd.DataFrame(columns=EVENT_COLUMNS)
    kinds = [
        ("appearance", 1, ""),
        ("fission", 2, 2),
        ("fusion", 2, 3),
        ("disappearance", scene.frames - 1, ""),
    ]
    rows = [[kind, t, t * 2.0, *paths[t, 0], 1, other, 0.7] for kind, t, other in kinds]
    return pd.DataFrame(rows, columns=EVENT_COLUMNS)


def _stores(scene: Scene, folder: Path, paths: np.ndarray) -> None:
    z, y, x = scene.voxel_um
    grid = tuple(-(-n // PATCH) for n in scene.shape)
    common = {"interval_s": scene.interval_s}
    fine = dict(voxel_um=scene.voxel_um, **common)
    coarse = dict(
        dtype="float16",
        kind="map",
        voxel_um=(z * PATCH, y * PATCH, x * PATCH),
        origin_um=tuple(v * (PATCH - 1) / 2 for v in scene.voxel_um),
        **common,
    )
    width = 12 if scene.keep == "all" else 4
    layouts = {
        "deskewed.ome.zarr": StoreLayout(
            shape_czyx=(len(scene.channels), *scene.shape), dtype="uint16", channels=scene.channels, **fine
        ),
        "labels.ome.zarr": StoreLayout(
            shape_czyx=(1, *scene.shape), dtype="uint32", channels=("labels",), kind="labels", **fine
        ),
        "foreground.ome.zarr": StoreLayout(
            shape_czyx=(2, *grid), channels=("activation", "foreground"), **coarse
        ),
        "features.zarr": StoreLayout(
            shape_czyx=(width, *grid), channels=tuple(f"component_{k}" for k in range(width)), **coarse
        ),
    }
    stores = {
        name: FrameStore.prepare(folder / name, layout, scene.frames, {}) for name, layout in layouts.items()
    }
    rng = np.random.default_rng([scene.seed, 1])
    done = [t for t in range(scene.frames) if t not in scene.skipped]
    for frame in done:
        image, labels = draw_frame(scene, paths[frame], frame, rng)
        stores["deskewed.ome.zarr"].write(frame, np.stack([image] * len(scene.channels)))
        stores["labels.ome.zarr"].write(frame, labels[None])
        active = 1 + 6 * _pooled(labels > 0)
        stores["foreground.ome.zarr"].write(
            frame, np.stack([active, np.clip(_pooled(labels > 0) * 4, 0, 1)]).astype(np.float16)
        )
        noise = rng.normal(0, 0.3, (width, *grid))
        tilt = np.arange(1, width + 1)[:, None, None, None] % 3 - 1
        stores["features.zarr"].write(frame, (noise + tilt * active).astype(np.float16))
    abouts = {
        "deskewed.json": {"parameters": {"order": 1}, "warnings": scene.noted},
        "features.json": {
            "weights": "0123456789abcdef",
            "bounds": {"low": 100.0, "high": 400.0},
            "foreground": {"separation": scene.separation, "median": [0.0] * 16},
            "parameters": {"keep": scene.keep},
        },
        "labels.json": {
            "calibration": {
                "covariance": [[[2.0, 1.0], [1.0, 2.0]]],
                "reach": scene.reach,
                "single_frame_f1": 0.62,
                "foreground": {"bimodal": True},
                "evidence": {
                    "threshold": 0.456,
                    "expected_f1": scene.expected_f1,
                    "expected_precision": 0.942,
                    "expected_recall": 0.878,
                },
            }
        },
    }
    for name, about in abouts.items():
        sums = dict.fromkeys(done, "00")
        StageRecord(stores=STORES[name], checksums=sums, skipped=scene.skipped, about=about).write(
            folder / name
        )


def draw_frame(
    scene: Scene, positions_um: np.ndarray, frame: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Noisy Gaussian spots, uint16, and labels of their cores, uint32."""
    labels = np.zeros(scene.shape, np.uint32)
    signal = np.zeros(scene.shape, np.float32)
    sigma = np.array([0.33, 0.15, 0.15])
    reach = np.ceil(3.5 * sigma / scene.voxel_um).astype(int)
    for number, centre in enumerate(positions_um, 1):
        nearest = np.round(centre / scene.voxel_um).astype(int)
        low, high = np.maximum(nearest - reach, 0), np.minimum(nearest + reach + 1, scene.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = [np.arange(a, b) * v for a, b, v in zip(low, high, scene.voxel_um, strict=True)]
        squares = [((a - c) / s) ** 2 for a, c, s in zip(axes, centre, sigma, strict=True)]
        distance = squares[0][:, None, None] + squares[1][:, None] + squares[2]
        labels[box][distance < 2] = number
        signal[box] += (150 + 10 * ((number - 1) % 20)) * scene.bleaching**frame * np.exp(-distance / 2)
    return rng.poisson(100 + signal).astype(np.uint16), labels


def _pooled(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, [(0, -n % PATCH) for n in mask.shape])
    z, y, x = (n // PATCH for n in padded.shape)
    return padded.reshape(z, PATCH, y, PATCH, x, PATCH).mean(axis=(1, 3, 5))
