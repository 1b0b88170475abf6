"""Crops: where they lie, how fast they are cut, written and read, and resampling beside its peers.

    python benchmarks/crops.py [--cell raw_skewed.tif] [--out build/benchmarks/crops.json]

Foreground: fraction of bright voxels in k-means crops over that in as many boxes of the same sides around
random voxels that have data. Bright is, in simulated movies, a particle's voxel by the truth; in a real cell
(``--cell``: a skewed stack of 0.1 µm pixels, 0.3 µm steps, 31.5°), one above Otsu's threshold. Shards beside
plain files of one crop each, both brought to disk and read with a cold cache. Resampling beside torch's
trilinear interpolation and SciPy's zoom: time, memory beyond the frame, and error against the formula that
the frame was made by. Prints the median over runs; the JSON file has every run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from record import write
from skimage.filters import threshold_otsu

from spatialdino_core.crops.kmeans import CropBox, crop_boxes, cut_crop
from spatialdino_core.crops.normalise import bounds_of, normalise
from spatialdino_core.crops.parameters import CropParameters, NormalisationParameters
from spatialdino_core.crops.resample import resample_isotropic
from spatialdino_core.crops.shards import Crop, CropShards, write_shards
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters

Row = dict[str, Any]
SIZES = {
    "0.3 to 0.6 of the frame": CropParameters(crop_voxels=8),
    "cubes of 48": CropParameters(crop_voxels=48, min_size_fraction=0, max_size_fraction=0),
    "cubes of 48, 99 to 99.99 %": CropParameters(
        crop_voxels=48, min_size_fraction=0, max_size_fraction=0, low_percentile=99, high_percentile=99.99
    ),
}
SEEDS = 10


def isotropic(stack: np.ndarray, valid: np.ndarray, voxel_um: tuple[float, float, float]) -> np.ndarray:
    bounds = bounds_of([stack[valid]], NormalisationParameters())
    return resample_isotropic(normalise(stack, bounds), voxel_um, voxel_um[2])


def real_cell(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Volume in [0, 1], where it has data, and what is bright, of the skewed stack in a TIFF file."""
    raw = tifffile.imread(path)
    angle = np.deg2rad(31.5)
    shift, depth = 0.3 * np.cos(angle) / 0.1, 0.3 * np.sin(angle)
    columns = raw.shape[2] + int(np.ceil(shift * (len(raw) - 1)))
    stack = np.zeros((*raw.shape[:2], columns), np.uint16)
    valid = np.zeros((len(raw), 1, columns), bool)
    for plane in range(len(raw)):
        at = np.arange(columns) - shift * plane
        left = np.clip(np.floor(at).astype(int), 0, raw.shape[2] - 2)
        inside = (at >= 0) & (at <= raw.shape[2] - 1)
        part = (at - left)[inside]
        low, high = raw[plane][:, left[inside]], raw[plane][:, left[inside] + 1]
        stack[plane][:, inside] = np.rint(low * (1 - part) + high * part)
        valid[plane, 0, inside] = True
    full = np.broadcast_to(valid, stack.shape)
    voxel_um = (depth, 0.1, 0.1)
    volume = isotropic(stack, full, voxel_um)
    inside = resample_isotropic(full.astype(np.float32), voxel_um, 0.1) > 0.5
    return volume, inside, (volume > threshold_otsu(volume[inside])) & inside


def simulated(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of the first frame of a simulated movie."""
    scene = SceneParameters(frames=1, particles=60)
    acquisition = AcquisitionParameters(scan="none", step_um=0.25, planes=60, rows=256, columns=256)
    movie = simulate_movie(MovieParameters(seed=seed, scene=scene, acquisition=acquisition))
    stack = movie.deskewed_frame(0)
    voxel_um = (0.25, acquisition.pixel_um, acquisition.pixel_um)
    valid = np.ones(stack.shape, bool)
    labels = (movie.deskewed_labels(0) > 0).astype(np.float32)
    volume = isotropic(stack, valid, voxel_um)
    return volume, np.ones(volume.shape, bool), resample_isotropic(labels, voxel_um, voxel_um[2]) > 0.5


def foreground(
    name: str, volume: np.ndarray, valid: np.ndarray, bright: np.ndarray, runs: int
) -> Iterator[Row]:
    for (sizes, parameters), attraction in itertools.product(SIZES.items(), ("detail", "intensity")):
        chosen = replace(parameters, attracted_by=attraction)
        for run in range(runs):
            ours, random, seconds = [], [], 0.0
            for seed in range(max(1, SEEDS // runs)):
                generator = np.random.default_rng([run, seed])
                started = time.perf_counter()
                boxes = crop_boxes(volume, valid, chosen, generator)
                crops = [cut_crop(volume, box).astype(np.float16) for box in boxes]
                seconds += time.perf_counter() - started
                ours += [cut_crop(bright, box).mean() for box in boxes]
                random += [cut_crop(bright, at_random(box, valid, generator)).mean() for box in boxes]
            yield {
                "volume": name,
                "crops": sizes,
                "attracted_by": attraction,
                "run": run,
                "k-means": float(np.mean(ours)),
                "random": float(np.mean(random)),
                "ratio": float(np.mean(ours) / np.mean(random)),
                "crops_per_s": len(ours) / seconds,
                "crops_of_last": len(crops),
            }


def at_random(box: CropBox, valid: np.ndarray, generator: np.random.Generator) -> CropBox:
    """A box of the same sides around a random voxel that has data, inside the volume."""
    while True:
        centre = [int(generator.integers(n)) for n in valid.shape]
        if valid[tuple(centre)]:
            break
    z, y, x = (
        min(max(c - s // 2, 0), max(n - s, 0))
        for c, s, n in zip(centre, box.shape_voxels, valid.shape, strict=True)
    )
    return CropBox((z, y, x), box.shape_voxels, "uniform")


def forget(folder: Path) -> None:
    """Drop the files of a folder from the page cache."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def storage(crops: int, side: int, run: int, folder: Path) -> Iterator[Row]:
    """Write and read all crops as shards and as files of their own, in turn."""
    generator = np.random.default_rng(run)
    values = [generator.random((1, side, side, side), np.float32).astype(np.float16) for _ in range(crops)]
    named = [Crop(f"c-{n:06}", v, {"frame": n}) for n, v in enumerate(values)]
    megabytes = sum(v.nbytes for v in values) / 1e6
    shards, files = folder / "shards", folder / "files"
    files.mkdir(parents=True)
    os.sync()

    def timed(action: Any) -> float:
        started = time.perf_counter()
        action()
        return megabytes / (time.perf_counter() - started)

    def write_files() -> None:
        for crop in named:
            np.save(files / f"{crop.key}.npy", crop.values)
            (files / f"{crop.key}.json").write_text(json.dumps(crop.about))
        os.sync()

    def read_files() -> None:
        for path in sorted(files.glob("*.npy")):
            np.load(path).astype(np.float32)

    opened: list[CropShards] = []

    def open_shards() -> None:
        opened.append(CropShards([shards / "index.json"]))

    def read_shards() -> None:
        for number in range(len(opened[0])):
            opened[0][number]

    def write() -> None:
        write_shards(shards, lambda start: named[start:], shard_bytes=256e6, about={})

    speeds = {"write_shards": timed(write), "write_files": timed(write_files)}
    for place in (shards, files):
        forget(place)
    speeds |= {"verify_shards": timed(open_shards)}
    forget(shards)
    speeds |= {"read_shards": timed(read_shards), "read_files": timed(read_files)}
    shutil.rmtree(folder)
    ratios = {
        f"{kind}_ratio": speeds[f"{kind}_shards"] / speeds[f"{kind}_files"] for kind in ("write", "read")
    }
    yield {"side": side, "crops": crops, "run": run, "MB": megabytes, **speeds, **ratios}


RESAMPLERS = {
    "ours": "resample_isotropic(frame, voxel, target)",
    "torch interpolate": "torch.nn.functional.interpolate(torch.from_numpy(frame.astype(np.float32))[None, "
    "None], size=shape, mode='trilinear', align_corners=True)[0, 0].numpy()",
    "scipy zoom": "zoom(frame, np.array(shape) / frame.shape, order=1, output=np.float32, grid_mode=False)",
}
# A sum of waves, along each axis as long as 2 µm or more, so that linear interpolation can follow it.
MEASURE = """
import json, resource, sys, time, numpy as np, torch
from scipy.ndimage import zoom
from spatialdino_core.crops.resample import isotropic_shape, resample_isotropic
torch.set_num_threads(1)
z, y, x, target = *map(int, sys.argv[2:5]), float(sys.argv[5])
voxel = (2.404 * 0.104, 0.104, 0.104)
def scene(shape, sizes):
    result = np.full(shape, 500, np.float32)
    for axis, (n, size, wave) in enumerate(zip(shape, sizes, (5.0, 3.0, 2.0))):
        line = 100 * np.sin(2 * np.pi * np.arange(n) * size / wave).astype(np.float32)
        result += line.reshape([-1 if a == axis else 1 for a in range(3)])
    return result
shape = isotropic_shape((z, y, x), voxel, target)
if sys.argv[1] == "make":
    np.save(sys.argv[6], np.rint(scene((z, y, x), voxel)).astype(np.uint16))
    sys.exit()
frame = np.load(sys.argv[6])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, started = peak(), time.perf_counter()
found = eval(sys.argv[1])
seconds, grown, whole = time.perf_counter() - started, peak() - before, peak()
assert found.shape == tuple(shape), (found.shape, shape)
inner = tuple(slice(4, -4) for _ in range(3))
error = float(np.sqrt(np.mean((found - scene(shape, (target,) * 3))[inner] ** 2)))
print(json.dumps({"s": seconds, "beyond_frame_MB": grown / 1e6, "result_MB": found.nbytes / 1e6,
                  "peak_GiB": whole / 2**30, "rms_error_counts": error}))
"""


def resampling(shape: tuple[int, int, int], target_um: float, run: int, names: list[str]) -> Iterator[Row]:
    """Each resampler in a process of its own, which has read the frame alone: so its memory can be told."""
    size = "×".join(map(str, shape))
    with tempfile.TemporaryDirectory() as folder:

        def process(task: str) -> str:
            command = [sys.executable, "-c", MEASURE, task, *map(str, shape), str(target_um)]
            done = subprocess.run(
                [*command, f"{folder}/frame.npy"], capture_output=True, text=True, check=True
            )
            return done.stdout

        process("make")
        for name in names:
            measured = json.loads(process(RESAMPLERS[name]))
            yield {"frame": size, "target_um": target_um, "by": name, "run": run, **measured}


def summary(rows: list[Row], by: list[str]) -> str:
    table = pd.DataFrame(rows).groupby(by, sort=False).median(numeric_only=True).drop(columns="run")
    return table.to_string(float_format="{:.3g}".format)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", type=Path, help="skewed stack of a real cell")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    runs, quick = options.runs, options.quick

    where: list[Row] = []
    if options.cell:
        where += foreground("real cell", *real_cell(options.cell), runs)
    for seed in range(1 if quick else 3):
        where += foreground("simulated", *simulated(seed), runs)
    print(summary(where, ["volume", "crops", "attracted_by"]), "\n")

    stored: list[Row] = []
    for side, crops in ((48, 200), (112, 20)) if quick else ((48, 2000), (112, 200)):
        for run in range(runs):
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                stored += storage(crops, side, run, Path(folder) / "crops")
    print(summary(stored, ["side"]), "\n")

    resampled: list[Row] = []
    small = (20, 256, 256) if quick else (50, 1024, 1024)
    for run in range(runs):
        for target_um in (0.104, 0.2):
            resampled += resampling(small, target_um, run, list(RESAMPLERS))
        if not quick:
            resampled += resampling((200, 1024, 1024), 0.104, run, ["ours"])
    print(summary(resampled, ["frame", "target_um", "by"]))
    if options.out:
        settings = {name: asdict(parameters) for name, parameters in SIZES.items()}
        content = {"sizes": settings, "foreground": where, "storage": stored, "resampling": resampled}
        write(options.out, content)


if __name__ == "__main__":
    main()
