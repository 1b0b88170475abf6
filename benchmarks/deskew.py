"""Deskew: ours beside its peers and beside a copy of the output, and a movie from raw files to a store.

    python benchmarks/deskew.py [--rounds 5] [--quick] [--out build/benchmarks/deskew.json]

uint16 in and out, two threads for all, on a stage scan of 31.5°, 0.5 µm steps and 0.104 µm pixels. "rotate"
is the coverslip frame, "shear" the deskewed one; layout "x" has the tilted axis last, as acquired, "y" has it
in the middle. Each implementation runs in a process of its own, which alone is measured: a warm-up, then one
run per round, in turn with the others of its group, so that a busy moment of the machine meets all. Memory is
the peak above that before the call; "beyond" leaves out what the call returns. "warm" means that the output
lies in memory that the process holds already; else it is fresh from the system, as it is in a movie. The copy
is into warm memory. The error is the relative L2 distance to analytic beads, less a shift and a gain.

Peers that cannot be imported are left out (extra ``bench``; pyclesperanto needs an OpenCL driver, e.g. PoCL).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.metadata
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from record import write

from spatialdino_core.geometry.deskew import Deskew
from spatialdino_core.geometry.grid import OutputGrid, output_grid
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.geometry.stage import deskew_movie
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import SheetRow

THREADS = 2
LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POCL_MAX_PTHREAD_COUNT")
# glibc: no memory straight from the system, none given back, so that a second call finds the first one's.
WARM = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)}
ANGLE_DEG, STEP_UM, PIXEL_UM = 31.5, 0.5, 0.104
SIGMA_LATERAL_UM, SIGMA_AXIAL_UM = 0.12, 0.30
SIZES = {"small": (100, 256, 512), "large": (150, 512, 768), "target": (200, 1024, 1024)}
GROUPS = (("x", "rotate"), ("x", "shear"), ("y", "rotate"), ("y", "shear"))
"""Layout and mode of what is compared with each other."""
BEADS = (80, 96, 300)
"""Planes, pixels of the third axis, pixels of the tilted axis."""

Row = dict[str, Any]
Call = Callable[[np.ndarray], tuple[np.ndarray, ...]]
"""From a raw stack to what the implementation returns, the voxels first."""


@dataclass(frozen=True)
class Case:
    """What one process measures."""

    size: str
    layout: str
    mode: str
    by: str
    interpolation: str = "linear"

    def grid(self, size: tuple[int, int, int]) -> OutputGrid:
        planes, batch, pixels = size
        geometry = ScanGeometry(
            scan="stage", angle_deg=ANGLE_DEG, step_um=STEP_UM, pixel_um=PIXEL_UM, skew_axis=self.layout  # type: ignore[arg-type]
        )  # fmt: skip
        shape = (planes, batch, pixels) if self.layout == "x" else (planes, pixels, batch)
        return output_grid(geometry, shape, frame="coverslip" if self.mode == "rotate" else "deskewed")


def ours(grid: OutputGrid, interpolation: str) -> Call:
    """Voxels and the three maximum projections."""
    deskew = Deskew(grid=grid, interpolation=interpolation, fill=0, threads=THREADS)

    def call(raw: np.ndarray) -> tuple[np.ndarray, ...]:
        done = deskew(raw)
        return done.voxels, done.along_z, done.along_y, done.along_x

    return call


def memcpy(grid: OutputGrid, interpolation: str) -> Call:
    """A copy of the output, half by each thread."""
    source, target = np.ones(grid.shape, np.uint16), np.ones(grid.shape, np.uint16)
    pairs = list(zip(np.array_split(target, THREADS), np.array_split(source, THREADS), strict=True))
    pool = ThreadPoolExecutor(THREADS)

    def call(raw: np.ndarray) -> tuple[np.ndarray, ...]:
        list(pool.map(lambda pair: np.copyto(*pair), pairs))
        return (target,)

    return call


def scipy(grid: OutputGrid, interpolation: str) -> Call:
    """One thread: it has no more."""
    from scipy.ndimage import affine_transform

    matrix = grid.to_raw_voxels()[:3]
    return lambda raw: (
        affine_transform(raw, matrix[:, :3], matrix[:, 3], grid.shape, order=1, output=np.uint16),
    )


def dask_image(grid: OutputGrid, interpolation: str) -> Call:
    import dask.array
    from dask_image.ndinterp import affine_transform

    matrix = grid.to_raw_voxels()[:3]

    def call(raw: np.ndarray) -> tuple[np.ndarray, ...]:
        source = dask.array.from_array(raw, chunks=raw.shape)
        chunks = (-(-grid.shape[0] // 4), *grid.shape[1:])
        lazy = affine_transform(
            source, matrix[:, :3], matrix[:, 3], grid.shape, order=1, output_chunks=chunks
        )
        return (lazy.compute(scheduler="threads", num_workers=THREADS),)

    return call


def monai(grid: OutputGrid, interpolation: str) -> Call:
    import torch
    from monai.networks.layers import AffineTransform

    torch.set_num_threads(THREADS)
    transform = AffineTransform(
        spatial_size=grid.shape, normalized=False, mode="bilinear", padding_mode="zeros", align_corners=True
    )
    theta = torch.from_numpy(grid.to_raw_voxels()).float()[None]

    def call(raw: np.ndarray) -> tuple[np.ndarray, ...]:
        done = transform(torch.from_numpy(raw.astype(np.float32))[None, None], theta)[0, 0]
        return (done.round_().to(torch.uint16).numpy(),)

    return call


def opencv(grid: OutputGrid, interpolation: str) -> Call:
    """One map for all y, worked out beforehand; floating-point maps, which are faster here than fixed-point
    ones."""
    import cv2

    cv2.setNumThreads(THREADS)
    matrix = grid.to_raw_voxels()
    k, i = np.ogrid[: grid.shape[0], : grid.shape[2]]
    plane, pixel = ((m[0] * k + m[2] * i + m[3]).astype(np.float32) for m in (matrix[0], matrix[2]))

    def call(raw: np.ndarray) -> tuple[np.ndarray, ...]:
        out = np.empty(grid.shape, np.uint16)
        for y in range(grid.shape[1]):
            cv2.remap(raw[:, y], pixel, plane, cv2.INTER_LINEAR, dst=out[:, y])
        return (out,)

    return call


def pyclesperanto(grid: OutputGrid, interpolation: str) -> Call:
    import pyclesperanto as cle

    deskew = cle.deskew_x if grid.pixel_last else cle.deskew_y
    size = {"voxel_size_x": PIXEL_UM, "voxel_size_y": PIXEL_UM, "voxel_size_z": STEP_UM}

    def call(raw: np.ndarray) -> tuple[np.ndarray, ...]:
        return (cle.pull(deskew(cle.push(raw), angle=ANGLE_DEG, **size)),)

    return call


IMPLEMENTATIONS: dict[str, Callable[[OutputGrid, str], Call]] = {
    "ours": ours,
    "ours, warm": ours,
    "memcpy": memcpy,
    "scipy": scipy,
    "dask-image": dask_image,
    "monai": monai,
    "opencv remap": opencv,
    "pyclesperanto": pyclesperanto,
}
ROTATES_ONLY = ("pyclesperanto",)
IN_LAYOUT_Y = ("ours", "ours, warm", "memcpy", "pyclesperanto")
LEFT_OUT = {
    ("large", "monai"): "needs more than 7 GiB",
    ("target", "monai"): "needs more than 25 GiB",
    ("target", "ours, warm"): "keeps 2 GiB while others run",
    ("target", "dask-image"): "slow",
    ("target", "scipy"): "slow",
}


class Scene:
    """Gaussian beads inside a small raw stack, and the truth in the voxels of an output."""

    def __init__(self, case: Case, size: tuple[int, int, int] = BEADS, beads: int = 40) -> None:
        self.grid = case.grid(size)
        self.skew = self.grid.geometry.skew_dimension
        random = np.random.default_rng(0)
        margins = (0.3, 0.1, 0.3)  # so that no bead is cut by the rotated stack
        plane, batch, pixel = (
            random.uniform(m, 1 - m, beads) * (n - 1) for m, n in zip(margins, size, strict=True)
        )
        self.centre_u, self.centre_w = self._position(plane, pixel)
        self.centre_v = batch * PIXEL_UM

    @staticmethod
    def _position(plane: np.ndarray, pixel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Along the tilted pixel axis and along the normal of the image planes, µm."""
        angle = np.deg2rad(ANGLE_DEG)
        return plane * STEP_UM * np.cos(angle) + pixel * PIXEL_UM, plane * STEP_UM * np.sin(angle)

    def _light(self, matrix: np.ndarray, shape: tuple[int, ...], shift: np.ndarray) -> np.ndarray:
        """Counts in an array whose voxels, moved by ``shift``, ``matrix`` takes to raw indices."""
        skew, batch = self.skew, 3 - self.skew
        k, i = np.ogrid[: shape[0], : shape[skew]]
        k, i, j = k + shift[0], i + shift[skew], np.arange(shape[batch]) + shift[batch]
        plane, pixel = (matrix[n, 0] * k + matrix[n, skew] * i + matrix[n, 3] for n in (0, skew))
        u, w = self._position(plane, pixel)
        section = np.exp(
            -(((u[..., None] - self.centre_u) / SIGMA_LATERAL_UM) ** 2) / 2
            - ((w[..., None] - self.centre_w) / SIGMA_AXIAL_UM) ** 2 / 2
        )
        line = np.exp(-(((self.centre_v[:, None] - j * PIXEL_UM) / SIGMA_LATERAL_UM) ** 2) / 2)
        light = 20000 * (section @ line)
        return light if skew == 1 else light.swapaxes(1, 2)

    def raw(self) -> np.ndarray:
        return np.ascontiguousarray(np.rint(self._light(np.eye(4), self.grid.raw_shape, np.zeros(3))), "u2")

    def error(self, found: np.ndarray) -> float:
        """Relative L2 distance to the truth, less the shift of the centroid of all light and a gain."""
        matrix, values = self.grid.to_raw_voxels(), found.astype(np.float64)
        shift = np.zeros(3)
        for _ in range(2):
            truth = self._light(matrix, found.shape, shift)
            shift += centroid(truth) - centroid(values)
        truth = self._light(matrix, found.shape, shift)
        gain = np.vdot(values, truth) / np.vdot(truth, truth)
        return float(np.linalg.norm(values - gain * truth) / np.linalg.norm(gain * truth))


def centroid(values: np.ndarray) -> np.ndarray:
    lines = [values.sum(tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return np.array([np.average(np.arange(len(line)), weights=line) for line in lines])


def memory_mib(name: str) -> float:
    """``VmRSS`` or its peak ``VmHWM`` of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def timed(call: Call, raw: np.ndarray, warm: bool) -> Row:
    gc.collect()
    if not warm:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, used, started = memory_mib("VmRSS"), resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    result = call(raw)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    extra = memory_mib("VmHWM") - before
    returned = sum(array.nbytes for array in result) / 2**20
    return {
        "s": seconds,
        "cpu_s": after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime,
        "extra_MiB": None if warm else extra,
        "beyond_MiB": None if warm else max(0.0, extra - returned),
        "output_voxels": result[0].size,
    }


def work(case: Case) -> None:
    """In the process of a case: prepare, then measure one run for every line that comes in."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    make = IMPLEMENTATIONS[case.by]
    ready: Row = {}
    try:
        if case.by != "memcpy":
            scene = Scene(case)
            ready["error"] = scene.error(make(scene.grid, case.interpolation)(scene.raw())[0])
        grid = case.grid(SIZES[case.size])
        raw = np.random.default_rng(0).integers(90, 400, grid.raw_shape, np.uint16)
        call = make(grid, case.interpolation)
        call(raw)
    except (ImportError, RuntimeError) as error:
        print(json.dumps({"missing": f"{type(error).__name__}: {error}"}), file=answers)
        return
    print(json.dumps(ready), file=answers)
    for _ in sys.stdin:
        print(json.dumps(timed(call, raw, case.by == "ours, warm")), file=answers)


class Process:
    """A case in a process of its own."""

    def __init__(self, case: Case) -> None:
        environment = os.environ | dict.fromkeys(LIMITS, str(THREADS))
        command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
        self.case = case
        if case.by == "ours, warm":
            environment |= WARM
        pipes: Row = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)
        self.ready = self.answer()

    def answer(self) -> Row:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        row: Row = json.loads(line) if line else {"missing": f"ended with {self.process.wait()}"}
        return row

    def run(self) -> Row:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        self.process.communicate()


def group(size: str, layout: str, mode: str) -> Iterator[Case]:
    """Everyone who takes part in a group."""
    for by in IMPLEMENTATIONS:
        if (layout == "y" and by not in IN_LAYOUT_Y) or (mode == "shear" and by in ROTATES_ONLY):
            continue
        for interpolation in ("linear", "cubic") if by == "ours" else ("linear",):
            yield Case(size, layout, mode, by, interpolation)


def compare(cases: list[Case], rounds: int) -> tuple[list[Row], list[Row]]:
    """All runs of the cases, and what was left out."""
    left_out = [asdict(c) | {"why": LEFT_OUT[c.size, c.by]} for c in cases if (c.size, c.by) in LEFT_OUT]
    processes = [Process(c) for c in cases if (c.size, c.by) not in LEFT_OUT]
    left_out += [asdict(p.case) | {"why": p.ready["missing"]} for p in processes if "missing" in p.ready]
    present = [p for p in processes if "missing" not in p.ready]
    runs = [
        asdict(process.case) | process.ready | {"round": number} | process.run()
        for number in range(rounds)
        for process in present
    ]
    for process in processes:
        process.end()
    for row in left_out:
        print(
            f"left out: {row['by']} ({row['size']} {row['layout']} {row['mode']}): {row['why']}", flush=True
        )
    return runs, left_out


def write_movie(folder: Path, frames: int) -> SheetRow:
    """Beads with photon noise, one plain TIFF per frame."""
    light = Scene(Case("small", "x", "shear", "ours"), SIZES["small"], beads=300).raw()
    for frame in range(frames):
        noisy = np.random.default_rng(frame).poisson(light // 20 + 20) + 100
        tifffile.imwrite(folder / f"raw_t{frame:03d}.tif", noisy.astype(np.uint16))
    scan: Row = {
        "scan": "stage",
        "angle_deg": ANGLE_DEG,
        "step_um": STEP_UM,
        "skew_axis": "x",
        "scan_sign": 1,
    }
    files: Row = {"movie": "beads", "channel": "488nm", "path": str(folder / "raw_t*.tif")}
    return SheetRow(pixel_um=PIXEL_UM, interval_s=1.0, **scan, **files)


def copied(files: list[Path], folder: Path) -> Row:
    """Seconds to copy the files, and to have the copies on disk."""
    folder.mkdir()
    started = time.perf_counter()
    for path in files:
        shutil.copyfile(path, folder / path.name)
    seconds = time.perf_counter() - started
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return {"by": "cp", "s": seconds, "on_disk_s": time.perf_counter() - started}


def deskewed(row: SheetRow, folder: Path, interpolation: str) -> Row:
    """Seconds from raw files to the store on disk, and those of each step; steps overlap."""
    started = time.perf_counter()
    record, table = register_movie([row], ReadingParameters(), "fail")
    registered, used = time.perf_counter(), time.process_time()
    parameters = DeskewParameters(interpolation=interpolation)  # type: ignore[arg-type]
    how: Row = {"device": "cpu", "version": "benchmark", "skip_bad": False, "threads": THREADS}
    deskew_movie([row], record, table, folder / "deskewed.json", parameters, **how)
    seconds, cpu = time.perf_counter() - registered, time.process_time() - used
    lines = [json.loads(line) for line in (folder / "ledger" / "deskew.jsonl").read_text().splitlines()]
    steps = {f"{step}_s": sum(line["seconds"][step] for line in lines) for step in lines[0]["seconds"]}
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    facts = {"cpu_s": cpu, "register_s": registered - started, "store_GB": stored / 1e9}
    return {"by": interpolation, "s": seconds, "on_disk_s": seconds, **steps, **facts}


def movie(frames: int, rounds: int, place: Path | None) -> list[Row]:
    """A movie from raw files, in the page cache, to its store, in turn with a plain copy of the files."""
    rows = []
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        (folder / "raw").mkdir()
        row = write_movie(folder / "raw", frames)
        os.sync()
        files = sorted((folder / "raw").iterdir())
        raw_gb = sum(path.stat().st_size for path in files) / 1e9
        for number in range(-1, rounds):  # the first is a warm-up
            for by in ("cp", "linear", "cubic"):
                out = folder / "out"
                done = copied(files, out) if by == "cp" else deskewed(row, out, by)
                shutil.rmtree(out)
                if number >= 0:
                    rows.append({"round": number, "frames": frames, "raw_GB": raw_gb} | done)
    return rows


def summary(runs: list[Row]) -> Any:
    """Table of the median over rounds, and the spread of the time."""
    grouped: Any = pd.DataFrame(runs).groupby(list(Case.__dataclass_fields__), sort=False)
    table = grouped.median(numeric_only=True).drop(columns="round")
    table.insert(1, "min", grouped["s"].min())
    table.insert(2, "max", grouped["s"].max())
    table["raw_Mvoxel_per_s"] = [np.prod(SIZES[key[0]]) / 1e6 / s for key, s in table["s"].items()]
    table["times_ours"] = [s / table["s"][(*key[:3], "ours", "linear")] for key, s in table["s"].items()]
    return table


RATIOS = {
    ("rotate", "pyclesperanto", "linear"): 15,
    ("rotate", "scipy", "linear"): 45,
    ("rotate", "pyclesperanto", "cubic"): 10,
    ("shear", "opencv remap", "linear"): 6,
}


def goals(table: Any) -> list[Row]:
    """Each goal in each size that was measured; CPU seconds suffer less from what else the machine does."""
    rows: list[Row] = []

    def goal(text: str, size: str, bound: float, wall: float, cpu: float | None = None) -> None:
        reached = wall <= bound if "MiB" in text else wall >= bound
        row = {"goal": text, "size": size, "bound": bound, "measured": wall, "in_cpu_s": cpu}
        rows.append(row | {"reached": bool(reached)})

    for size in dict.fromkeys(table.index.get_level_values("size")):
        for (mode, peer, interpolation), bound in RATIOS.items():
            key = (size, "x", mode, peer, "linear")
            if key in table.index:
                ratio = table.loc[key] / table.loc[(size, "x", mode, "ours", interpolation)]
                goal(f"{mode} {interpolation}: times {peer}", size, bound, ratio["s"], ratio["cpu_s"])
        for by in ("ours", "ours, warm"):
            key = (size, "y", "rotate", by, "linear")
            if key in table.index:
                ratio = table.loc[(*key[:3], "memcpy", "linear")] / table.loc[key]
                # A copy reads as much as it writes, ours reads the raw stack.
                bytes_ratio = (np.prod(SIZES[size]) / table.loc[key, "output_voxels"] + 1) / 2
                goal(f"{by}, layout y: seconds of the copy, of ours", size, 0.5, ratio["s"], ratio["cpu_s"])
                moved = ratio * bytes_ratio
                goal(f"{by}, layout y: bandwidth, of the copy's", size, 0.5, moved["s"], moved["cpu_s"])
    for key in table.index:
        if key[0] == "target" and key[3] == "ours":
            text = f"{key[2]} {key[4]}, layout {key[1]}: MiB beyond what is returned"
            goal(text, key[0], 250, table.loc[key, "beyond_MiB"])
    return rows


def machine() -> Row:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = ("numpy", "numba", "scipy", "dask-image", "monai", "torch", "opencv-python-headless")
    versions = {}
    for name in (*names, "pyclesperanto", "zarr", "tifffile"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": next(line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        "cores_used": THREADS,
        "cores": os.cpu_count(),
        "load_at_start": os.getloadavg(),
        "versions": versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="two groups, the smallest size and movie, to try the script"
    )
    parser.add_argument("--folder", type=Path, help="for the movie, on the disk to be measured")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    if options.case:
        return work(Case(**json.loads(options.case)))
    facts, runs, left_out = machine(), [], []
    for size in ("small",) if options.quick else SIZES:
        for layout, mode in GROUPS[1:3] if options.quick else GROUPS:
            found = compare(list(group(size, layout, mode)), 2 if options.quick else options.rounds)
            runs += found[0]
            left_out += found[1]
    table = summary(runs)
    print(table.to_string(float_format="{:.3g}".format), "\n")
    reached = goals(table)
    print(pd.DataFrame(reached).to_string(float_format="{:.3g}".format, index=False), "\n")

    movies = movie(3 if options.quick else 20, 1 if options.quick else 3, options.folder)
    flow: Any = pd.DataFrame(movies).groupby("by", sort=False).median(numeric_only=True)
    flow["raw_GB_per_s"] = flow["raw_GB"] / flow["s"]
    flow["times_cp"] = flow["s"] / flow.loc["cp", "s"]
    flow["times_cp_on_disk"] = flow["s"] / flow.loc["cp", "on_disk_s"]
    print(flow.drop(columns="round").T.to_string(float_format="{:.3g}".format))
    if options.out:
        content = {"machine": facts, "runs": runs, "left_out": left_out, "goals": reached, "movie": movies}
        write(options.out, content)


if __name__ == "__main__":
    main()
