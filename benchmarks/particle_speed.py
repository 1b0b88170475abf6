"""Time and memory of segmentation for `particles.py`, on stores of two sizes. Not how well it finds things.

The deskewed stores are made by the workflow from simulated upright stacks, the feature stores by hand:
random features, and a foreground probability that is high around the particles.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from spatialdino_core.device import gpu_if_wanted
from spatialdino_core.features.grid import patch_origin_um, patch_spacing_um
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.features import FEATURES, FOREGROUND, MAPS
from spatialdino_core.movies.ledger import FrameLedger
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.stage import segment_movie
from spatialdino_core.simulate.movie import Movie, simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters
from spatialdino_core.simulate.sheet import CHANNEL, interval_s, raw_frames, sheet_row, write_sheet
from spatialdino_core.simulate.write import write_tiff_series

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((64, 256, 256), (150, 750, 750))
FRAMES = 3
PARTICLES_PER_UM3 = 0.03
PATCH_VOXELS = 8
COMPONENTS = 32


def speed(work: Path) -> list[dict[str, Any]]:
    """A row for each size: seconds of a frame and of the calibration, and peak memory of the process."""
    rows = []
    for shape in SIZES:
        name = "x".join(map(str, shape))
        deskewed, features = _inputs(work, name, shape)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            rows.append({"size": name} | pool.submit(_measure, deskewed, features).result())
    return rows


def _measure(deskewed: Path, features: Path) -> dict[str, Any]:
    """In a process of its own, whose peak memory is that of segmentation and of the libraries it loads."""
    folder = deskewed.parent
    ledger = folder / "ledger" / "segment.jsonl"
    for old in [*ledger.parent.glob("segment.json*"), *ledger.parent.glob("objects/*")]:
        old.unlink()
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, busy = time.perf_counter(), time.process_time()
    segment_movie(
        deskewed,
        features,
        folder / "labels.json",
        folder / "objects.parquet",
        SegmentParameters(),
        device="auto",
        version="benchmark",
    )
    whole, busy = time.perf_counter() - started, time.process_time() - busy
    frames = [sum(entry.seconds.values()) for entry in FrameLedger(ledger).entries.values()]
    return {
        "seconds per frame": round(float(np.median(frames)), 2),
        "seconds beside frames": round(whole - sum(frames), 2),
        "CPU seconds in all": round(busy, 2),
        "frames": len(frames),
        "device": str(gpu_if_wanted("auto") or "cpu"),
        "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "MB before": round(loaded / 1024),
        "cores": os.cpu_count(),
    }


def _inputs(work: Path, name: str, shape: tuple[int, int, int]) -> tuple[Path, Path]:
    """Records of a deskewed movie and of its features, made where they are missing."""
    folder = work / "results" / name
    movie = _movie(shape)
    if not (folder / "deskewed.json").exists():
        raw = work / "raw" / name
        write_tiff_series(raw, name, raw_frames(movie, name), [CHANNEL], interval_s(movie))
        sheet = write_sheet(work / f"{name}.tsv", [sheet_row(name, f"raw/{name}/*.tif", movie, "no")])
        command = [sys.executable, "-m", "snakemake", "--profile", "profiles/default"]
        command += ["--config", f"movies={sheet}", f"results={work / 'results'}"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            [*command, "--", str(folder / "deskewed.json")],
            cwd=ROOT,
            env=os.environ | {"PATH": path},
            check=True,
        )
    if not (folder / "features.json").exists():
        _write_features(folder, movie)
    return folder / "deskewed.json", folder / "features.json"


def _movie(shape: tuple[int, int, int]) -> Movie:
    acquisition = AcquisitionParameters(
        scan="none", step_um=0.2, pixel_um=0.104, planes=shape[0], rows=shape[1], columns=shape[2]
    )
    volume_um3 = float(np.prod(shape)) * 0.2 * 0.104**2
    scene = SceneParameters(frames=FRAMES, snr=4.0, particles=round(PARTICLES_PER_UM3 * volume_um3))
    return simulate_movie(MovieParameters(scene=scene, acquisition=acquisition))


def _write_features(folder: Path, movie: Movie) -> None:
    """Both stores of the feature stage and its record."""
    deskewed = DeskewedMovie(folder / "deskewed.json")
    isotropic = (min(deskewed.voxel_um),) * 3
    spacing, origin = patch_spacing_um(isotropic, PATCH_VOXELS), patch_origin_um(isotropic, PATCH_VOXELS)
    extent = np.multiply(deskewed.store.shape[2:], deskewed.voxel_um)
    grid = tuple(np.ceil(extent / spacing).astype(int).tolist())

    def store(path: str, channels: tuple[str, ...], kind: str) -> FrameStore:
        layout = StoreLayout(
            shape_czyx=(len(channels), *grid),
            dtype="float16",
            voxel_um=spacing,
            origin_um=tuple(np.add(deskewed.store.origin_um, origin).tolist()),
            interval_s=deskewed.interval_s,
            channels=channels,
            kind=kind,
        )
        return FrameStore.prepare(folder / path, layout, deskewed.frames, {})

    features = store(FEATURES, tuple(f"component_{number}" for number in range(COMPONENTS)), "features")
    maps = store(FOREGROUND, MAPS, "map")
    generator = np.random.default_rng(0)
    checksums = {}
    for frame in range(deskewed.frames):
        here = movie.truth[movie.truth["frame"] == frame]
        patch = (here[["z_um", "y_um", "x_um"]].to_numpy() - origin) / spacing
        probability = np.full(grid, 0.02, np.float16)
        probability[tuple(np.round(patch).astype(int).clip(0, np.array(grid) - 1).T)] = 0.98
        checksums[frame] = maps.write(frame, np.stack([probability, probability]))
        features.write(frame, generator.standard_normal((COMPONENTS, *grid)).astype(np.float16))
    StageRecord(stores=[FEATURES, FOREGROUND], checksums=checksums, skipped={}, about={}).write(
        folder / "features.json"
    )
