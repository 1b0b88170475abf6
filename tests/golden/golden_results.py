"""Results folders as the stages leave them, for golden values of reports, and the numbers that pages hold."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from golden_tables import brief, short
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from PIL import Image

from spatialdino_core.files import write_json
from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout

PATCH = 8
NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
PROVENANCE = ("software", "version", "commit", "results_version", "code")
OBJECTS = ("label", "z", "y", "x", "z_um", "y_um", "x_um", "volume_um3", "intensity_mean", "snr")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What a results folder holds."""

    movie: str = "cell"
    frames: int = 9
    particles: int = 14
    interval_s: float | None = 2.5
    times_s: tuple[float, ...] = ()
    shape: tuple[int, int, int] = (20, 56, 96)
    voxel_um: tuple[float, float, float] = (0.5, 0.25, 0.3)
    step_um: float = 0.15
    channels: tuple[str, ...] = ("488nm",)
    skipped: dict[int, str] = field(default_factory=dict)
    bleaching: float = 0.97
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    components: int = 4
    seed: int = 0


def write_results(root: Path, made: Folder) -> MovieRecord:
    """Write ``root/{movie}`` and the benchmarks; the movie's record."""
    folder = root / made.movie
    rng = np.random.default_rng(made.seed)
    scan = Acquisition(
        scan="stage",
        angle_deg=31.8,
        step_um=0.4,
        pixel_um=0.12,
        interval_s=made.interval_s,
        skew_axis="y",
        scan_sign=1,
        sources={"pixel_um": "sheet"},
    )
    record = MovieRecord(
        movie=made.movie,
        channels=list(made.channels),
        paths=["raw"] * len(made.channels),
        train=False,
        acquisition=scan,
        frames=made.frames,
        shape_zyx=(33, 44, 55),
        dtype="uint16",
        times_s=list(made.times_s),
        skipped=made.skipped,
    )
    record.write(folder / "movie.json")
    size = np.array(made.shape) * made.voxel_um
    paths = rng.uniform(0.15, 0.7, (made.particles, 3)) * size
    paths = paths + rng.normal(0.02, made.step_um, (made.frames, made.particles, 3)).cumsum(axis=0)
    paths = np.clip(paths, 0.05 * size, 0.95 * size)
    done = [frame for frame in range(made.frames) if frame not in made.skipped]
    rows = [_row(made, frame, n, paths[frame, n], rng) for frame in done for n in range(made.particles)]
    table = pd.DataFrame(rows, columns=["frame", *OBJECTS]).astype({"frame": int, "label": int})
    table.to_parquet(folder / "objects.parquet")
    _tracks(made, table, rng).to_csv(folder / "tracks.csv", index=False)
    _events(made, paths).to_csv(folder / "events.csv", index=False)
    write_json(folder / "tracks.json", {"linking": {"links": 40, "rates": [0.5, 0.25], "known": True}})
    _stores(made, folder, paths, done, rng)
    for stage, seconds in (("deskew", 75.25), ("features", 4100.0), ("track", 0.5), ("pretrain", None)):
        name = f"{made.movie}.tsv" if seconds else "../pretrain.tsv"
        path = root / "benchmarks" / stage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        memory = "-" if stage == "track" else "512.5"
        moved = "-\t-\t-" if stage == "track" else "3.5\t1200\t66.25"
        path.write_text(
            "s\th:m:s\tmax_rss\tio_in\tio_out\tcpu_time\n1.0\t0:00:01\t9.0\t1\t1\t1\n"
            f"{seconds or 9000.0}\t0:00:01\t{memory}\t{moved}\n"
        )
    part = root / "benchmarks" / "deskew" / f"{made.movie}.0-4.tsv"
    part.write_text("s\th:m:s\tmax_rss\n30.5\t0:00:30\t700.0\n")
    return record


def _row(made: Folder, frame: int, n: int, place: np.ndarray, rng: np.random.Generator) -> list[Any]:
    signal = (150 + 10 * (n % 20)) * made.bleaching**frame * rng.uniform(0.9, 1.1)
    return [frame, n + 1, *place / made.voxel_um, *place, 0.06, signal, 4 + 0.3 * (n % 20) - 0.1 * frame]


def _tracks(made: Folder, objects: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Tracks of different lengths, some with a gap; the last particle is in none."""
    table = objects[(objects["label"] < made.particles) & (objects["frame"] >= objects["label"] % 4)].copy()
    table["track_id"], table["gap"] = table["label"], 0
    hidden = (table["frame"] == 5) & (table["label"] % 5 == 0)
    table.loc[hidden, ["gap", "label"]] = 1, 0
    table["link_confidence"] = np.where(table["frame"] > 0, rng.beta(4, 1.5, len(table)), np.nan)
    table["time_s"] = table["frame"] * (made.interval_s or 1.0)
    if made.times_s:
        table["time_s"] = np.array(made.times_s)[table["frame"]]
    return table.sample(frac=1, random_state=1)


def _events(made: Folder, paths: np.ndarray) -> pd.DataFrame:
    kinds = [
        ("appearance", 1),
        ("fission", 2),
        ("fusion", 2),
        ("disappearance", made.frames - 1),
        ("other", 2),
    ]
    kinds = kinds if made.frames > 2 and made.particles else []
    rows = [[kind, frame, *paths[frame, 0], 1, 0.7] for kind, frame in kinds]
    return pd.DataFrame(rows, columns=["event", "frame", "z_um", "y_um", "x_um", "track_id", "score"])


def _stores(made: Folder, folder: Path, paths: np.ndarray, done: list[int], rng: np.random.Generator) -> None:
    grid = tuple(-(-n // PATCH) for n in made.shape)
    fine: dict[str, Any] = {"voxel_um": made.voxel_um, "interval_s": made.interval_s}
    coarse = fine | {
        "dtype": "float16",
        "kind": "map",
        "voxel_um": tuple(v * PATCH for v in made.voxel_um),
        "origin_um": tuple(v * (PATCH - 1) / 2 for v in made.voxel_um),
    }
    names = tuple(f"component_{k}" for k in range(made.components))
    layouts = {
        "deskewed": StoreLayout(
            shape_czyx=(len(made.channels), *made.shape), dtype="uint16", channels=made.channels, **fine
        ),
        "labels": StoreLayout(
            shape_czyx=(1, *made.shape), dtype="uint32", channels=("labels",), kind="labels", **fine
        ),
        "foreground": StoreLayout(shape_czyx=(2, *grid), channels=("activation", "foreground"), **coarse),
        "features": StoreLayout(shape_czyx=(made.components, *grid), channels=names, **coarse),
    }
    files = {name: f"{name}.zarr" if name == "features" else f"{name}.ome.zarr" for name in layouts}
    stores = {n: FrameStore.prepare(folder / files[n], layouts[n], made.frames, {}) for n in layouts}
    axes = np.ogrid[tuple(slice(0, n) for n in made.shape)]
    for frame in done:
        labels = np.zeros(made.shape, np.uint32)
        image = np.full(made.shape, 100.0)
        image[:, :, :3] = 0
        for n, place in enumerate(paths[frame]):
            apart = [(a * v - p) / (2 * v) for a, v, p in zip(axes, made.voxel_um, place, strict=True)]
            far = sum(one**2 for one in apart)
            image += (150 + 10 * n) * np.exp(-2 * far)
            labels[far < 1] = n + 1
        drawn = rng.poisson(image).astype(np.uint16)
        stores["deskewed"].write(frame, np.stack([drawn // (c + 1) for c in range(len(made.channels))]))
        stores["labels"].write(frame, labels[None])
        coarse_signal = np.zeros(grid)
        np.maximum.at(coarse_signal, tuple((np.argwhere(labels) // PATCH).T), 1.0)
        noise = rng.uniform(0, 1, (2, *grid))
        maps = np.stack([2 + 5 * coarse_signal + noise[0], 0.5 * coarse_signal + 0.5 * noise[1]])
        stores["foreground"].write(frame, maps.astype(np.float16))
        tokens = (
            rng.normal(0, 1, (made.components, *grid))
            * np.arange(1, made.components + 1)[:, None, None, None]
        )
        tokens += coarse_signal
        tokens[:, :, 0, 0] = 0
        stores["features"].write(frame, tokens.astype(np.float16))
    for name in ("deskewed", "features", "labels"):
        sums = dict.fromkeys(done, "00")
        about = ({"warnings": made.warnings} if name == "deskewed" else {}) | made.about.get(name, {})
        listed = {"features": ["features.zarr", "foreground.ome.zarr"]}.get(name, [f"{name}.ome.zarr"])
        StageRecord(stores=listed, checksums=sums, skipped=made.skipped, about=about).write(
            folder / f"{name}.json"
        )
    write_json(folder.parent / "previews" / f"{made.movie}.json", {"warnings": made.warnings})


@contextmanager
def figures() -> Iterator[list[dict[str, Any]]]:
    """Numbers of the figures that are saved inside the block; they are not drawn."""
    found: list[dict[str, Any]] = []
    original = Figure.savefig

    def savefig(self: Figure, target: io.BytesIO, *, dpi: float, **_: Any) -> None:
        found.append(drawn_in(self) | {"dpi": float(dpi)})
        clear = to_rgba(self.get_facecolor())[3] == 0
        Image.new("RGBA", (2, 2), (0, 0, 0, 0 if clear else 255)).save(target, format="png")

    Figure.savefig = savefig
    try:
        yield found
    finally:
        Figure.savefig = original


def drawn_in(figure: Figure) -> dict[str, Any]:
    """Size of a figure, and the data of what is drawn in its axes."""
    axes = []
    for one in figure.axes:
        drawn = [np.asarray(line.get_xydata()) for line in one.lines]
        for each in one.collections:
            segments = each.get_segments() if isinstance(each, LineCollection) else None
            drawn.append(np.asarray(segments) if segments is not None else each.get_paths()[0].vertices)
            drawn += (
                [] if each.get_array() is None else [np.asarray(each.get_array()), np.array(each.get_clim())]
            )
        drawn += [_patch(patch) for patch in one.patches]
        for image in one.images:
            ends = [*image.get_clim(), *image.get_extent()]
            drawn += [np.ma.filled(np.ma.asarray(image.get_array(), float), -1), np.array(ends, float)]
        place = [*one.get_position().bounds, *one.get_xlim(), *one.get_ylim()]
        axes.append({"place": _rounded(place), "drawn": [_numbers(values) for values in drawn]})
    return {"size": _rounded(figure.get_size_inches()), "axes": axes}


def _rounded(values: Any) -> list[float]:
    return [short(float(value)) for value in values]


def _patch(patch: Any) -> np.ndarray:
    if isinstance(patch, StepPatch):
        return np.concatenate([np.ravel(patch.get_data().values), np.ravel(patch.get_data().edges)])
    return np.array([patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height()])


def _numbers(values: np.ndarray) -> list[float]:
    """The numbers themselves where they are few, else their shape, and means that tell places apart."""
    flat = np.asarray(values, float).ravel()
    if flat.size <= 4:
        return _rounded(flat)
    return [*map(float, values.shape), *brief(pd.DataFrame({"values": flat}))["values"]]


def numbers_in(page: Path) -> dict[str, Any]:
    """Numbers in the text of a page and in its descriptions of pictures, section by section."""
    tree = ET.fromstring(page.read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for number, section in enumerate(tree.iter("section")):
        texts = []
        for row in section.iter("tr"):
            texts += [] if row[0].text in PROVENANCE else [" ".join(cell.itertext()) for cell in row[1:]]
            texts += [cell.attrib["style"] for cell in row.iter("span") if "style" in cell.attrib]
        for item in (*section.iter("li"), *section.iter("figcaption")):
            texts.append(" ".join(item.itertext()))
        texts += [image.attrib["alt"] for image in section.iter("img")]
        if not list(section.iter("section"))[1:]:
            found[str(number)] = " ".join(NUMBER.findall(" ".join(texts)))
    found["lead"] = [
        NUMBER.findall(" ".join(p.itertext())) for p in tree.iter("p") if p.get("class") == "lead"
    ]
    return found
