"""Processor time and memory of what a frame goes through, beside peers on the same frames; how they grow.

    python benchmarks/speed.py [--rounds 3] [--parts PART ...] [--peers PYTHON]
                               [--work build/speed] [--out build/benchmarks/speed.json]

Simulated movies: small frames of 64 × 256 × 256 voxels, large ones of 150 × 750 × 750, 0.03 particles per
µm³ at SNR 4; textured ones at SNR 2 in cells, where neighbouring frames help. Without features, as clear
movies are treated. What is measured runs in a process of its own, on one thread, after a warm-up on a corner
of the frame. All take turns, so that a busy moment of the machine meets all. Seconds are those of the
processor, of all threads of the process; memory is its peak, libraries included. Ours reads frames from the
store, as in a job; peers are given the frame. The frame that is segmented follows one that was: its window in
time has moved on. ``compile`` compiles everything into an empty cache that the other parts then use.

``--peers`` names the interpreter of an environment with trackpy, pyclesperanto (with PoCL) and ByoTrack;
those that it lacks are listed with the reason. How well ours and peers find is `particles.py`, linkers are
compared in `linking.py`, deskewing in `deskew.py`. The work folder keeps some 20 GB of movies; ``--out`` is
written after every run.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from record import write
from speed_peers import PEERS, WARM_UP
from speed_process import Row, measured, run
from speed_scenes import FRAME, SCANS, SKEWED_FRAMES, VOXEL_UM, Made, Scene, made, objects
from speed_tables import YARDSTICK, markdown

from spatialdino_core.geometry.deskew import Deskew
from spatialdino_core.geometry.grid import output_grid
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.clock import Clock
from spatialdino_core.movies.part import WHOLE, Part
from spatialdino_core.movies.provenance import code_hash
from spatialdino_core.segment.believe.calibration import Calibration, calibrate
from spatialdino_core.segment.detect.window import SegmentMovie
from spatialdino_core.segment.frame import segment_frame
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.stage import calibrate_movie, segment_movie
from spatialdino_core.track.link import link_objects
from spatialdino_core.track.parameters import TrackParameters

ROOT = Path(__file__).resolve().parents[1]
VERSION = code_hash("spatialdino_core.segment.stage")
PARAMETERS = SegmentParameters()
STAGE_FRAMES = 2
LINKED_FRAMES = 20
LARGE_PARTICLES = 5475
"""In 150 × 750 × 750 voxels."""
SCENES = {
    scene.name: scene
    for scene in (
        Scene("small", (64, 256, 256)),
        Scene("small textured", (64, 256, 256), textured=True),
        Scene("large", (150, 250, 250), (1, 3, 3)),
        Scene("large textured", (150, 250, 250), (1, 3, 3), textured=True),
    )
}
PARTS = "compile", "small", "large", "large textured", "growth"
LEFT_OUT = {("large", "pyclesperanto DoG (PoCL)"): "too slow, ten times DoG's seconds on the small frame"}
DOUBLED = (1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2)
PARTICLES = 1250, 2500, 5000, 10000
MOVIE_FRAMES = 18, 36, 72, 144
Call = Callable[[], Any]


def seen(made: Made, corner: bool) -> SegmentMovie:
    """The movie as segmentation reads it, or a corner of it to warm up on."""
    movie, box = made.movie, WARM_UP if corner else ()
    frames = sorted(movie.record.checksums)
    return SegmentMovie(
        lambda frame: movie.store.read(frame)[box],
        frames,
        movie.voxel_um,
        valid=movie.mask[box],
        name=made.folder.name,
    )


def kept_calibration(made: Made) -> Path:
    return made.folder / "ledger" / "segment_without_features.json"


def calibration(made: Made) -> Calibration:
    return calibrate_movie(made.record, made.folder / "labels.json", PARAMETERS, version=VERSION)


def calibrating(case: Row) -> Call:
    """What segmentation does once for a movie."""
    scene = Made(Path(case["folder"]))
    calibrate(seen(scene, corner=True), PARAMETERS)
    kept_calibration(scene).unlink(missing_ok=True)
    return lambda: calibration(scene).reach


def warmed(scene: Made) -> Calibration:
    """The calibration, after a corner of a frame was segmented with it."""
    known = calibration(scene)
    segment_frame(seen(scene, corner=True), FRAME, known, PARAMETERS)
    return known


def segmenting(case: Row) -> Call:
    """One frame, after the window in time of the one before was read."""
    scene = Made(Path(case["folder"]))
    known, movie = warmed(scene), seen(scene, corner=False)
    movie.seen(FRAME - 1, movie.groups(FRAME - 1, known.reach))
    return lambda: len(segment_frame(movie, FRAME, known, PARAMETERS)[1])


def stage(scene: Made, part: Part) -> None:
    """Segmentation as the workflow runs it, into a folder of its own."""
    folder = scene.folder / "segmented"
    results = folder / "labels.json", folder / "objects.parquet"
    segment_movie(
        scene.record, scene.folder / "features.json", *results, PARAMETERS, version=VERSION, part=part
    )


def staging(case: Row) -> Call:
    """The stage on two frames: reading, segmenting, compressing labels, tables."""
    scene = Made(Path(case["folder"]))
    warmed(scene)
    ledger = scene.folder / "segmented" / "ledger"
    shutil.rmtree(ledger.parent, ignore_errors=True)
    ledger.mkdir(parents=True)
    shutil.copy(kept_calibration(scene), ledger)
    stage(scene, Part(0, 0))
    return lambda: stage(scene, Part(FRAME, FRAME + STAGE_FRAMES))


def warm_deskew() -> None:
    """Stacks of either scan, too small to take time."""
    for scan in SCANS.values():
        grid = output_grid(ScanGeometry(pixel_um=VOXEL_UM[1], **scan), (8, 24, 32), frame="deskewed")
        Deskew(grid=grid, threads=1)(np.zeros(grid.raw_shape, np.uint16))


def deskewing(case: Row) -> Call:
    """The stage on two stacks of a stage scan, from TIFF files to the store with its projections."""
    scene = Made(Path(case["folder"]))
    warm_deskew()
    output = scene.folder / "deskewed again" / "deskewed.json"
    shutil.rmtree(output.parent, ignore_errors=True)
    return lambda: scene.deskew(output, skewed=True)


def whole_movie(case: Row) -> Call:
    """Deskew, calibrate and segment all frames of a short or long movie."""
    scene = Made(Path(case["folder"]))
    warm_deskew()
    warmed(scene)
    again = scene.folder / "deskewed again"
    for folder in (again, scene.folder / "segmented"):
        shutil.rmtree(folder, ignore_errors=True)

    def call() -> None:
        scene.deskew(again / "deskewed.json", skewed=False)
        stage(scene, WHOLE)

    return call


def linking(case: Row) -> Call:
    """Objects of all frames to tracks and events."""
    few, many = objects(20, LINKED_FRAMES), objects(case["particles"], case["frames"])

    def call(given: Any, frames: int) -> int:
        table, region = given
        return int(link_objects(table, Clock.even(frames), region, TrackParameters())[2].tracks)

    call(few, LINKED_FRAMES)
    return lambda: call(many, case["frames"])


def encoding(case: Row) -> Call:
    """One frame to the encoder's voxels and to tokens, with the bundled encoder."""
    import torch

    from spatialdino_core.features.encoding import Model, MovieEncoder
    from spatialdino_core.features.parameters import FeatureParameters

    torch.set_num_threads(1)
    model = Model(ROOT / "weights" / "bundled.safetensors", FeatureParameters(), torch.device("cpu"))
    encoder = MovieEncoder(Made(Path(case["folder"])).movie, model)
    with torch.inference_mode():
        model.encoder(torch.zeros(8, 1, *(model.window,) * 3), class_attention=True)
    return lambda: encoder.encode(encoder.read(FRAME)).tokens.shape[0]


def compiling(case: Row) -> Call:
    """Everything of the chain on small movies; with an empty cache it is compiled, too."""
    scenes = [Made(Path(folder)) for folder in case["folders"]]

    def call() -> int:
        warm_deskew()
        for scene in scenes:
            movie = seen(scene, corner=False)
            segment_frame(movie, FRAME, calibrate(movie, PARAMETERS), PARAMETERS)
        linking({"particles": 300, "frames": LINKED_FRAMES})()
        return len(list(Path(case["cache"]).rglob("*.nbi")))

    return call


MEASURED: dict[str, Callable[[Row], Call]] = {
    "calibrate": calibrating,
    "segment_frame": segmenting,
    "segment stage": staging,
    "deskew stage": deskewing,
    "features": encoding,
    "link": linking,
    "movie": whole_movie,
    "compile": compiling,
}


class Bench:
    """Runs of all cases, in the work folder."""

    def __init__(self, work: Path, peers: str, out: Path | None) -> None:
        self.work, self.peers, self.out = work, peers, out
        self.rows: list[Row] = []
        self.cache = work / "numba"

    def scene(self, scene: Scene) -> Row:
        """What a case needs to know of a scene on disk."""
        there = made(scene, self.work)
        return {"size": scene.name, "voxels": scene.voxels, "folder": str(there.folder)}

    def ours(self, what: str, **case: Any) -> Row:
        """One run of one of `MEASURED`."""
        return self.kept(run("speed.py", {"what": what} | case, NUMBA_CACHE_DIR=str(self.cache)))

    def peer(self, what: str, **case: Any) -> Row:
        """One run of one of `PEERS`."""
        where = {"frame": str(Made(Path(case["folder"])).frame), "voxel_um": VOXEL_UM}
        python = sys.executable if what.startswith(("scipy", "gaussian")) else self.peers
        return self.kept(run("speed_peers.py", {"what": what} | case | where, python))

    def kept(self, row: Row) -> Row:
        """The row, printed and written with those before it: a run may be ended at any time."""
        self.rows.append(row)
        write(self.out, {"rows": self.rows}, markdown(self.rows))
        shown = {
            name: row[name]
            for name in ("what", "size", "cpu_s", "peak_mb", "found", "missing")
            if name in row
        }
        print(shown, flush=True)
        return row

    def compile(self) -> None:
        """With an empty cache, then with a full one."""
        folders = [self.scene(SCENES[name])["folder"] for name in ("small", "small textured")]
        shutil.rmtree(self.cache, ignore_errors=True)
        for size in ("cold", "warm"):
            self.ours("compile", size=size, folders=folders, cache=str(self.cache))

    def table(self, sizes: tuple[str, ...], rounds: int) -> None:
        """All that is measured on frames of these sizes, in turns; on textured ones the yardstick alone."""
        scenes = [self.scene(SCENES[name]) for name in sizes]
        for _ in range(rounds):
            for scene in scenes:
                for what in ("calibrate", "segment_frame"):
                    self.ours(what, **scene)
                if "textured" in scene["size"]:
                    self.peer(YARDSTICK, **scene)
                else:
                    self.plain(scene)

    def plain(self, scene: Row) -> None:
        """Peers, stages, features of a small frame, links of a large one."""
        for what in PEERS:
            if (scene["size"], what) in LEFT_OUT:
                self.kept({"what": what} | scene | {"missing": LEFT_OUT[scene["size"], what]})
            else:
                self.peer(what, **scene)
        self.ours("segment stage", **scene, frames=STAGE_FRAMES)
        self.ours("deskew stage", **scene, frames=SKEWED_FRAMES)
        if scene["size"] == "small":
            self.ours("features", **scene)
        else:
            self.ours("link", size=scene["size"], particles=LARGE_PARTICLES, frames=LINKED_FRAMES)

    def growth(self, rounds: int) -> None:
        """Voxels, particles and frames, each doubled three times."""
        for _ in range(rounds):
            for times in DOUBLED:
                scene = Scene("voxels " + "x".join(map(str, times)), (32, 256, 256), times)
                about = self.scene(scene) | {"growth": "voxels", "amount": scene.voxels}
                for what in ("calibrate", "segment_frame", "deskew stage"):
                    self.ours(what, **about)
                self.peer(YARDSTICK, **about)
            for particles in PARTICLES:
                scene = Scene(f"particles {particles}", (64, 256, 256), (1, 2, 2), particles)
                about = {"growth": "particles", "amount": particles}
                for what in ("calibrate", "segment_frame"):
                    self.ours(what, **self.scene(scene), **about)
                self.ours("link", particles=particles, frames=LINKED_FRAMES, **about)
            for frames in MOVIE_FRAMES:
                scene = Scene(f"frames {frames}", (32, 128, 128), frames=frames)
                about = {"growth": "frames", "amount": frames}
                self.ours("calibrate", **self.scene(scene), **about)
                self.ours("movie", **self.scene(scene), **about)
                self.ours("link", particles=PARTICLES[0], frames=frames, **about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="all by default")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "speed")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    if options.case:
        return measured(lambda: MEASURED[options.case["what"]](options.case))
    bench = Bench(options.work.resolve(), options.peers, options.out)
    if "compile" in options.parts:
        bench.compile()
    if "small" in options.parts:
        bench.table(("small", "small textured"), options.rounds)
    if "large" in options.parts:
        bench.table(("large",), options.rounds)
    if "large textured" in options.parts:
        bench.table(("large textured",), options.rounds)
    if "growth" in options.parts:
        bench.growth(options.rounds)
    print(markdown(bench.rows))


if __name__ == "__main__":
    main()
