"""Formulas against what processes take: the peak of their resident memory, and bytes on disk.

One process for each stage, which works on a small movie and then on a larger one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml

from spatialdino_core import budget
from spatialdino_core.budget import MovieShape
from spatialdino_core.config import WorkflowConfig, load_config
from spatialdino_core.encoder.header import WeightsHeader
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import build_encoder
from spatialdino_core.encoder.weights import save_encoder
from spatialdino_core.features.basis import fit_basis
from spatialdino_core.files import read_json
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.needs import Needs, encoder_shape, movie_shape

ROOT = Path(__file__).parents[2]
PIXEL_UM = 0.104
TOLERANCE = 0.25
FRAMES = 3
SHAPES = {"small": (16, 64, 64), "middle": (32, 160, 160), "wide": (96, 288, 320)}
LARGER = {"preview": "wide", "deskew": "wide", "features": "middle", "segment": "middle"}
SETTINGS = {
    "movies": "movies.tsv",
    "results": "results",
    "device": "cpu",
    "quality": {"frames": 1},
    "features": {"overlap": 0.0, "use": "always"},
    "segment": {"calibration_frames": 1},
}
MEASURE = """
import json, sys
from importlib import import_module

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6

script = import_module("workflow_scripts." + sys.argv[1])
found = []
for arguments in json.loads(sys.argv[2]):
    open("/proc/self/clear_refs", "w").write("5")
    sys.argv = [sys.argv[0], *arguments]
    names = [word[2:].replace("-", "_") for word in arguments[::2] if word != "--settings"]
    script.run(script.main, "", *names)
    found.append(peak())
print("peaks", json.dumps(found))
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="Linux tells peaks of memory"
)


@dataclass(frozen=True)
class Movies:
    """Movies of two sizes, and what the stages are told of them."""

    folder: Path
    config: WorkflowConfig

    def needs(self) -> Needs:
        return Needs(config=self.config, encoder=encoder_shape(self.config, str(self.folder / "weights")))

    def results(self, movie: str) -> Path:
        return self.folder / "results" / movie

    def shape(self, movie: str) -> MovieShape:
        return movie_shape(read_json(self.results(movie) / "movie.json"), self.config.deskew)

    def run(
        self,
        stage: str,
        arguments: Callable[[Path], dict[str, object]],
        *sections: str,
        movies: Sequence[str] = (),
    ) -> list[float]:
        """Peaks (MB) of a stage on the movies, one after the other."""
        chosen = {name: getattr(self.config, name) for name in sections}
        plain = {n: v if isinstance(v, str | bool | int) else asdict(v) for n, v in chosen.items()}
        lists = []
        for movie in movies or ("small", LARGER[stage]):
            named = arguments(self.results(movie)) | {"settings": json.dumps(plain)}
            given = {name: str(value).replace("MOVIE", movie) for name, value in named.items()}
            lists.append([word for name, value in given.items() for word in (f"--{name}", value)])
        command = [sys.executable, "-c", MEASURE, stage, json.dumps(lists)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=self.folder, env=environment, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        peaks: list[float] = json.loads(done.stdout.rpartition("peaks ")[2])
        return peaks

    def check(self, stage: str, peaks: Sequence[float]) -> None:
        """Hold the formula to peaks, and what it says of voxels alone to what the larger movie takes more."""
        formula = [
            self.needs().memory_mb(stage, self.shape(movie), threads=2) for movie in ("small", LARGER[stage])
        ]
        print(stage, peaks, formula)
        assert formula == pytest.approx(peaks, rel=TOLERANCE)
        # What the allocator gives back differs from run to run: too little must not be asked for.
        assert formula[1] - formula[0] >= (1 - TOLERANCE) * (peaks[1] - peaks[0])


@pytest.fixture(scope="module")
def movies(tmp_path_factory: pytest.TempPathFactory) -> Movies:
    """Noise of a camera and dim spots, whose frames do not tell particles from noise on their own."""
    folder = tmp_path_factory.mktemp("budget")
    columns = "movie channel path scan angle_deg step_um pixel_um interval_s skew_axis scan_sign train"
    lines = [columns.split()]
    for movie, shape in SHAPES.items():
        (folder / movie).mkdir()
        rng = np.random.default_rng(0)
        for frame in range(FRAMES):
            image = rng.normal(100, 5, shape)
            for z, y, x in rng.integers(2, np.subtract(shape, 3), (np.prod(shape) // 20_000, 3)):
                image[z, y - 1 : y + 2, x - 1 : x + 2] += 15
            tifffile.imwrite(folder / movie / f"a_stack{frame:04}.tif", image.round().astype(np.uint16))
        lines.append([movie, "488nm", f"{movie}/*.tif", *f"stage 31.5 0.4 {PIXEL_UM} 2 x +1 no".split()])
    (folder / "movies.tsv").write_text("\n".join("\t".join(line) for line in lines) + "\n")
    parameters = EncoderParameters(embed_dim=24, depth=1, heads=2, layer_scale=1.0, drop_path=0.0)
    encoder = build_encoder(parameters, torch.Generator().manual_seed(0)).eval()
    crops = [np.random.default_rng(n).random((1, 32, 32, 32), np.float32) for n in range(3)]
    header = WeightsHeader(
        architecture=encoder.architecture,
        voxel_um=(PIXEL_UM,) * 3,
        normalisation={},
        field_of_view_voxels=(32, 32, 32),
    )
    save_encoder(folder / "weights", encoder, header, fit_basis(encoder, crops, 24))
    found = Movies(folder, load_config(yaml.safe_load((ROOT / "config.yaml").read_text()) | SETTINGS))
    found.run(
        "register",
        lambda results: {
            "sheet": "movies.tsv",
            "movie": "MOVIE",
            "output": results / "movie.json",
            "table": results / "acquisition.tsv",
        },
        *("reading", "on_bad_frame"),
        movies=list(SHAPES),
    )
    return found


def test_preview(movies: Movies) -> None:
    peaks = movies.run(
        "preview",
        lambda results: {
            "sheet": "movies.tsv",
            "record": results / "movie.json",
            "table": results / "acquisition.tsv",
            "frames": movies.config.quality.frames,
            "state": "now",
            "measures": results / "preview.json",
            "picture": results / "preview.png",
        },
        "on_bad_frame",
        "optics",
        movies=("small", "wide", "middle"),
    )[:2]
    movies.check("preview", peaks)


def test_deskew(movies: Movies) -> None:
    peaks = movies.run(
        "deskew",
        lambda results: {
            "sheet": "movies.tsv",
            "movie-record": results / "movie.json",
            "table": results / "acquisition.tsv",
            "preview": results / "preview.json",
            "output": results / "deskewed.json",
            "version": "1",
            "threads": 2,
            "frames": "all",
        },
        *("deskew", "on_bad_frame", "device", "verify"),
        movies=("small", "wide", "middle"),
    )[:2]
    movies.check("deskew", peaks)


def test_features_and_what_they_write(movies: Movies) -> None:
    peaks = movies.run(
        "features",
        lambda results: {
            "deskewed": results / "deskewed.json",
            "weights": "weights",
            "output": results / "features.json",
            "segment-version": "1",
            "version": "1",
            "frames": "all",
        },
        *("features", "segment", "device", "verify"),
    )
    movies.check("features", peaks)
    encoder, shape = movies.needs().encoder, movies.shape("middle")
    written = budget.features_bytes(shape, encoder, components=24) + budget.foreground_bytes(shape, encoder)
    found = sum(size(movies.results("middle") / name) for name in ("features.zarr", "foreground.ome.zarr"))
    # Patches without data take nothing.
    assert found <= written <= found / (1 - shape.filled) * (1 + TOLERANCE)


def test_segment(movies: Movies) -> None:
    peaks = movies.run(
        "segment",
        lambda results: {
            "deskewed": results / "deskewed.json",
            "features": results / "features.json",
            "output": results / "labels.json",
            "objects": results / "objects.parquet",
            "version": "1",
            "threads": 2,
            "frames": "all",
        },
        *("segment", "device", "verify"),
    )
    movies.check("segment", peaks)
    assert size(movies.results("middle") / "labels.ome.zarr") < budget.labels_bytes(movies.shape("middle"))


def test_bytes_of_images_that_do_not_compress(tmp_path: Path) -> None:
    """Noise where there are data, a constant in the fill; anisotropic voxels, as deskewed ones are."""
    about = {"scan": "stage", "angle_deg": 31.5, "step_um": 0.4, "pixel_um": PIXEL_UM, "interval_s": 2.0}
    record: dict[str, object] = {
        "frames": 2,
        "channels": ["a"],
        "dtype": "uint16",
        "shape_zyx": [40, 150, 200],
    }
    shape = movie_shape(
        record | {"acquisition": about | {"skew_axis": "x", "scan_sign": 1}}, DeskewParameters()
    )
    layout = StoreLayout(
        shape_czyx=(1, *shape.deskewed),
        dtype="uint16",
        voxel_um=shape.voxel_um,
        interval_s=2.0,
        channels=("a",),
    )
    store = FrameStore.prepare(tmp_path / "store", layout, 2, {})
    z, y, x = shape.deskewed
    begin = np.linspace(0, x - 200, z)[:, None]
    inside = (np.arange(x) >= begin) & (np.arange(x) < begin + 200)
    for frame in range(2):
        noise = np.random.default_rng(frame).integers(0, 2**16, (1, z, y, x), np.uint16)
        store.write(frame, np.where(inside[:, None], noise, 100).astype(np.uint16))
    flat = 2 * 2 * (z * y + z * x + y * x)
    assert budget.deskewed_bytes(shape) - flat == pytest.approx(size(tmp_path / "store"), rel=TOLERANCE)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
