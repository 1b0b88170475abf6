"""One movie in the layouts that laboratories have, each run to tracks.csv and scored against the truth.

    python benchmarks/layouts.py --work FOLDER [--frames 8] [--out benchmarks/results/layouts.json]

A simulated skewed stack is written as Micro-Manager, SlideBook and lattice light-sheet software, ZEN,
bioformats2raw (also as a plate), Fiji and others would; the voxels are the same, so every layout has to give
the same tracks, byte for byte. Sizes and times stand in the sheet only where the layout cannot say them. One
run of the workflow for all, with the bundled encoder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
import zarr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit" / "movies"))

import record
from czi_files import metadata_xml, write_czi

from spatialdino_core.score.run import score_run
from spatialdino_core.simulate.demo import easy
from spatialdino_core.simulate.movie import Movie, simulate_movie
from spatialdino_core.simulate.sheet import raw_frames, sheet_row
from spatialdino_core.simulate.write import write_truth

ROOT = Path(__file__).resolve().parents[1]
PLAIN: dict[str, Any] = dict(photometric="minisblack", metadata=None)
OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
INTERVAL_S = 2.0


def micro_manager(folder: Path, stacks: np.ndarray) -> str:
    """One file per time point, every one with the XML of all."""
    names = [f"cell_MMStack_Pos0{f'_{t}' if t else ''}.ome.tif" for t in range(len(stacks))]
    depth, height, width = stacks.shape[1:]
    blocks = "".join(
        f'<TiffData FirstT="{t}" FirstC="0" FirstZ="{z}" IFD="{z}" PlaneCount="1">'
        f'<UUID FileName="{names[t]}">urn:uuid:{t}</UUID></TiffData>'
        for t in range(len(stacks))
        for z in range(depth)
    )
    for t, name in enumerate(names):
        xml = (
            f'<OME xmlns="{OME}" UUID="urn:uuid:{t}"><Image ID="Image:0" Name="Pos0"><Pixels ID="Pixels:0" '
            f'DimensionOrder="XYZCT" Type="uint16" SizeX="{width}" SizeY="{height}" SizeZ="{depth}" '
            f'SizeC="1" SizeT="{len(stacks)}"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{blocks}'
            "</Pixels></Image></OME>"
        )
        tifffile.imwrite(folder / name, stacks[t], description=xml, **PLAIN)
    return "*.ome.tif"


def iterations(folder: Path, stacks: np.ndarray) -> str:
    """Names of a looped lattice light-sheet acquisition: the stack number stands still."""
    for t, stack in enumerate(stacks):
        elapsed = round(1000 * INTERVAL_S * t)
        clock = f"{elapsed:07d}msec_{elapsed + 71:010d}msecAbs"
        name = f"Scan_Iter_{t:04d}_0000_CamA_ch0_CAM1_stack0000_488nm_{clock}_000x_000y_000z_0000t.tif"
        tifffile.imwrite(folder / name, stack, **PLAIN)
    return "*.tif"


def zen(folder: Path, stacks: np.ndarray) -> str:
    """A CZI file, which holds no more than one scene."""
    planes = {(t, 0, z): plane for t, stack in enumerate(stacks) for z, plane in enumerate(stack)}
    write_czi(folder / "a.czi", planes, metadata_xml())
    return "a.czi"


def ngff(path: Path, stacks: np.ndarray, dtype: str) -> None:
    """An OME-Zarr 0.4 image without sizes."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", shape=stacks.shape, dtype=dtype, chunks=(1, *stacks.shape[1:]))[:] = stacks
    axes = [{"name": name} for name in "tzyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]


def bioformats2raw(folder: Path, stacks: np.ndarray) -> str:
    zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    ngff(folder / "a.zarr" / "0", stacks, ">u2")
    return "a.zarr"


def plate(folder: Path, stacks: np.ndarray) -> str:
    group = zarr.open_group(folder / "p.zarr", mode="w", zarr_format=2)
    group.attrs["plate"] = {"wells": [{"path": "A/1"}]}
    well = zarr.open_group(folder / "p.zarr" / "A" / "1", mode="w", zarr_format=2)
    well.attrs["well"] = {"images": [{"path": "0"}]}
    ngff(folder / "p.zarr" / "A" / "1" / "0", stacks, "<u2")
    return "p.zarr"


def fiji(folder: Path, stacks: np.ndarray) -> str:
    """A hyperstack, and as Fiji writes those of 4 GB: one directory for all planes."""
    metadata = dict(axes="TZYX", finterval=INTERVAL_S, unit="um", spacing=0.4)
    tifffile.imwrite(
        folder / "a.tif",
        stacks,
        imagej=True,
        truncate=True,
        resolution=(1 / 0.104, 1 / 0.104),
        metadata=metadata,
    )
    return "a.tif"


def folders(folder: Path, stacks: np.ndarray) -> str:
    """A folder per time point, numbers not padded."""
    for t, stack in enumerate(stacks):
        (folder / f"t{t + 1}").mkdir()
        tifffile.imwrite(folder / f"t{t + 1}" / "img.tif", stack, **PLAIN)
    return "t*/img.tif"


def big_endian(folder: Path, stacks: np.ndarray) -> str:
    ngff(folder / "a.zarr", stacks, ">u2")
    return "a.zarr"


def one_tiff_each(folder: Path, stacks: np.ndarray) -> str:
    """What everything is compared with: padded names."""
    for t, stack in enumerate(stacks):
        tifffile.imwrite(folder / f"a_t{t:03d}.tif", stack, **PLAIN)
    return "a_t*.tif"


LAYOUTS: dict[str, Callable[[Path, np.ndarray], str]] = {
    "tiff_series": one_tiff_each,
    "micro_manager_set": micro_manager,
    "llsm_iterations": iterations,
    "zeiss_czi": zen,
    "bioformats2raw": bioformats2raw,
    "plate": plate,
    "fiji_hyperstack": fiji,
    "folder_per_time_point": folders,
    "zarr_0_4_big_endian": big_endian,
}


def written(work: Path, movie: Movie) -> Path:
    """The movie in all layouts, its truth for each, and the sample sheet."""
    stacks = np.array([frame[0] for frame in raw_frames(movie, "layouts")])
    lines = []
    for name, layout in LAYOUTS.items():
        folder = work / "raw" / name
        folder.mkdir(parents=True)
        row = sheet_row(name, f"raw/{name}/{layout(folder, stacks)}", movie, "no")
        row |= {"interval_s": ""} if name in ("llsm_iterations", "fiji_hyperstack") else {}
        lines.append(row)
        write_truth(work / "truth" / f"{name}.csv", movie.truth)
    header = list(lines[0])
    text = "\n".join("\t".join(cells) for cells in [header, *([row[c] for c in header] for row in lines)])
    (work / "movies.tsv").write_text(text + "\n")
    return work / "movies.tsv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = options.work.resolve()
    sheet = written(work, simulate_movie(easy(3, options.frames)))
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/default", "--cores", "2"]
    command += ["--config", f"movies={sheet}", f"results={work / 'results'}"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    scores = score_run(work / "truth", work / "results").set_index("movie")
    tracks = {name: (work / "results" / name / "tracks.csv").read_bytes() for name in LAYOUTS}
    same = {name: "yes" if table == tracks["tiff_series"] else "no" for name, table in tracks.items()}
    table = pd.DataFrame({"same tracks.csv": same, "tracks.csv": {n: _digest(t) for n, t in tracks.items()}})
    table = table.join(scores[["f1", "alpha", "rmse_um", "jsc"]].round(3))
    text = "| layout | " + " | ".join(table) + " |\n|---|" + "---|" * len(table.columns) + "\n"
    for name, row in table.iterrows():
        text += f"| {name} | " + " | ".join(str(value) for value in row) + " |\n"
    print(text)
    record.write(options.out, {"layouts": table.reset_index().to_dict("records")}, text)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


if __name__ == "__main__":
    main()
