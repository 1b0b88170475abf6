"""The stage on small movies: what its table and ledger hold, and which frames it computes again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.features.unused import leave_features_out
from spatialdino_core.files import read_json
from spatialdino_core.geometry.deskewed import VALID
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.segment import stage
from spatialdino_core.segment.measure.objects import COLUMNS
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.stage import calibrate_movie, segment_movie
from workflow_scripts.arguments import Arguments
from workflow_scripts.features import unused

SHAPE = (24, 48, 64)
ISOTROPIC_UM = (0.104, 0.104, 0.104)
PATCH = 8
SPAN = 5
"""First frames that calibration reads, with the reach below."""
ISOTROPIC = OpticsParameters(sigma_axial_um=0.13)
ALONE = SegmentParameters(temporal_reach_frames=2, temporal_below_f1=0.0, optics=ISOTROPIC)
TOGETHER = SegmentParameters(temporal_reach_frames=2, temporal_below_f1=1.0, optics=ISOTROPIC)
Write = Callable[[Sequence[np.ndarray]], Path]


def stacks(number: int, peak: float, spots: Callable[..., np.ndarray]) -> list[np.ndarray]:
    """Particles that stay where they are."""
    rng = np.random.default_rng(0)
    light = 40 + spots(SHAPE, rng.uniform(5, np.array(SHAPE) - 6, (20, 3)), peak, np.full(3, 1.25))
    return [(rng.poisson(light) + 100).astype(np.uint16) for _ in range(number)]


@pytest.fixture
def movie(tmp_path: Path) -> Write:
    """Writes the stores and records of the two stages before, as far as ``stacks`` go; the movie's folder."""

    def write(stacks: Sequence[np.ndarray]) -> Path:
        folder = tmp_path / "cell-1"
        common = {"interval_s": 2.0}
        image = StoreLayout(
            shape_czyx=(1, *SHAPE), dtype="uint16", voxel_um=ISOTROPIC_UM, channels=("488nm",), **common
        )
        patches = tuple(n // PATCH for n in SHAPE)
        coarse = {
            "dtype": "float16",
            "voxel_um": tuple(v * PATCH for v in ISOTROPIC_UM),
            "origin_um": tuple(v * (PATCH - 1) / 2 for v in ISOTROPIC_UM),
            **common,
        }
        components = tuple(f"component_{k}" for k in range(3))
        names = {
            "deskewed.ome.zarr": image,
            "features.zarr": StoreLayout(
                shape_czyx=(3, *patches), channels=components, kind="features", **coarse
            ),
            "foreground.ome.zarr": StoreLayout(
                shape_czyx=(2, *patches), channels=("activation", "foreground"), kind="map", **coarse
            ),
        }
        stores = {n: FrameStore.prepare(folder / n, layout, len(stacks), {}) for n, layout in names.items()}
        deskewed, described = {}, {}
        for frame, stack in enumerate(stacks):
            rng = np.random.default_rng(frame)
            deskewed[frame] = stores["deskewed.ome.zarr"].write(frame, stack[None])
            stores["foreground.ome.zarr"].write(frame, np.full((2, *patches), 0.5, np.float16))
            described[frame] = stores["features.zarr"].write(
                frame, rng.normal(0, 1, (3, *patches)).astype(np.float16)
            )
        about = {
            "geometry": asdict(ScanGeometry(scan="none", step_um=0.104, pixel_um=0.104)),
            "acquisition": {"interval_s": 2.0},
            "raw_shape_zyx": list(SHAPE),
            "parameters": asdict(DeskewParameters()),
            "roi_um": None,
        }
        StageRecord(stores=["deskewed.ome.zarr"], checksums=deskewed, skipped={}, about=about).write(
            folder / "deskewed.json"
        )
        StageRecord(
            stores=["features.zarr", "foreground.ome.zarr"], checksums=described, skipped={}, about={}
        ).write(folder / "features.json")
        return folder

    return write


def segment(folder: Path, parameters: SegmentParameters) -> pd.DataFrame:
    segment_movie(
        folder / "deskewed.json",
        folder / "features.json",
        folder / "labels.json",
        folder / "objects.parquet",
        parameters,
        device="cpu",
        version="",
    )
    return pd.read_parquet(folder / "objects.parquet")


def computed(folder: Path) -> int:
    """Frames that were finished; lines that only reopen a frame have no key."""
    lines = (folder / "ledger" / "segment.jsonl").read_text().splitlines()
    return sum(json.loads(line)["key"] != "" for line in lines)


def reach(folder: Path) -> int:
    return int(read_json(folder / "labels.json")["about"]["calibration"]["reach"])


def test_the_table_has_confidence_and_features_and_fits_the_labels(movie: Write, spots) -> None:
    folder = movie(stacks(3, 150.0, spots))
    table = segment(folder, ALONE)
    features = [f"feature_{k}" for k in range(3)]
    assert list(table.columns) == ["frame", *COLUMNS, *features]
    assert table["detection_confidence"].between(0, 1).all()
    assert np.isfinite(table[features].to_numpy()).all()
    labels = FrameStore(folder / "labels.ome.zarr")
    for frame in range(3):
        rows = table[table["frame"] == frame]
        assert len(rows) > 10
        assert set(rows["label"]) == set(np.unique(labels.read(frame))) - {0}
    about = read_json(folder / "labels.json")["about"]
    assert about["calibration"]["evidence"]["threshold"] <= table["detection_confidence"].min()
    emptied, foreign, other = (folder / "ledger" / "objects" / f"{frame}.parquet" for frame in range(3))
    emptied.write_bytes(b"")
    shutil.copy(other, foreign)
    pd.testing.assert_frame_equal(segment(folder, ALONE), table)
    assert computed(folder) == 3 + 2


def test_without_features_particles_are_found_by_their_image_alone(
    movie: Write, spots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What decides that they are left out calibrates the movie for what follows."""
    folder = movie(stacks(3, 150.0, spots))
    found = calibrate_movie(folder / "deskewed.json", folder / "features.json", ALONE, version="")
    leave_features_out(folder / "deskewed.json", folder / "features.json", "few words")
    # What an earlier run computed is not lost, and not used.
    assert {"features.zarr", "foreground.ome.zarr"} <= {path.name for path in folder.iterdir()}
    assert StageRecord.read(folder / "features.json").stores == []
    monkeypatch.setattr(stage, "calibrate", None)  # it is done
    table = segment(folder, ALONE)
    assert list(table.columns) == ["frame", *COLUMNS]
    assert (table.groupby("frame").size() > 10).all()
    about = read_json(folder / "labels.json")["about"]
    assert about["calibration"]["evidence"]["expected_f1"] == found.evidence.expected_f1 > 0.9
    assert StageRecord.read(folder / "features.json").about["unused"] == "few words"
    assert computed(folder) == 3
    segment(folder, ALONE)
    assert computed(folder) == 3


@pytest.mark.parametrize(
    ("use", "enough", "reason"),
    [("never", 0.0, "never"), ("always", 0.0, ""), ("auto", 0.5, "F1 score of "), ("auto", 1.0, "")],
)
def test_whether_features_are_worth_their_time(
    movie: Write, spots, use: str, enough: float, reason: str
) -> None:
    folder = movie(stacks(3, 150.0, spots))
    features = asdict(FeatureParameters(use=use, enough_f1=enough))  # type: ignore[arg-type]
    given = {"deskewed": folder / "deskewed.json", "output": folder / "features.json", "segment_version": ""}
    given |= {"settings": {"segment": asdict(ALONE)}}
    said = unused(Arguments(**given), FeatureParameters(**features))
    assert reason in said
    assert bool(said) == bool(reason)


@pytest.mark.parametrize("parameters", [ALONE, TOGETHER], ids=["alone", "together"])
def test_a_movie_that_grows_costs_its_new_frames_and_those_they_help(
    movie: Write, spots, parameters: SegmentParameters
) -> None:
    every = stacks(12, 25.0, spots)
    folder = movie(every[:9])
    before = segment(folder, parameters)
    helps = reach(folder)
    assert helps == parameters.temporal_reach_frames * (parameters is TOGETHER)
    assert computed(folder) == 9
    movie(every)
    after = segment(folder, parameters)
    assert reach(folder) == helps
    assert computed(folder) == 9 + 3 + helps
    untouched = 9 - helps
    pd.testing.assert_frame_equal(
        before[before["frame"] < untouched].reset_index(drop=True),
        after[after["frame"] < untouched].reset_index(drop=True),
    )


@pytest.mark.parametrize("parameters", [ALONE, TOGETHER], ids=["alone", "together"])
def test_a_rewritten_frame_costs_itself_and_those_it_helps(
    movie: Write, spots, parameters: SegmentParameters
) -> None:
    every = stacks(12, 25.0, spots)
    folder = movie(every)
    segment(folder, parameters)
    every[9] = np.roll(every[9], 3, axis=2)
    assert SPAN <= 9 - 2
    movie(every)
    segment(folder, parameters)
    assert computed(folder) == 12 + 1 + (4 if parameters is TOGETHER else 0)
    segment(folder, parameters)
    assert computed(folder) == 12 + 1 + (4 if parameters is TOGETHER else 0)


def test_a_movie_grown_bit_by_bit_ends_as_the_whole_at_once(movie: Write, spots) -> None:
    every = stacks(10, 25.0, spots)
    folder = movie(every[:7])
    segment(folder, TOGETHER)
    movie(every)
    grown = segment(folder, TOGETHER)
    for path in (folder / "ledger").rglob("*"):
        if path.is_file():
            path.unlink()
    pd.testing.assert_frame_equal(segment(folder, TOGETHER), grown)


def test_nothing_is_found_along_borders_without_data(movie: Write, spots) -> None:
    """A movie that another program deskewed: the particles that lie in its data, and no others."""
    every = stacks(3, 150.0, spots)
    whole = segment(movie(every), ALONE)
    z, _, x = np.indices(SHAPE)
    inside = (x > z + 2) & (x < SHAPE[2] - 26 + z)
    folder = movie([np.where(inside, stack, 100).astype(np.uint16) for stack in every])
    about = {"voxel_um": ISOTROPIC_UM, "interval_s": 2.0, "channels": ("data",), "kind": "map"}
    layout = StoreLayout(shape_czyx=(1, *SHAPE), dtype="uint8", **about)
    written = FrameStore.prepare(folder / VALID, layout, 1, {}).write(0, inside[None].astype(np.uint8))
    record = StageRecord.read(folder / "deskewed.json")
    no_data = {"mask": VALID, "checksum": written}
    replace(record, about=record.about | {"no_data": no_data}).write(folder / "deskewed.json")
    found = segment(folder, ALONE)
    places = [np.round(table[["z", "y", "x"]].to_numpy()).astype(int) for table in (whole, found)]
    assert inside[tuple(places[1].T)].all()
    deep = ndimage.distance_transform_edt(inside) > 6
    kept = [deep[tuple(place.T)].sum() for place in places]
    assert len(found) > 20
    assert kept[0] * 0.95 <= kept[1] <= kept[0] * 1.05
    near = inside & ~deep
    assert near[tuple(places[1].T)].sum() <= near[tuple(places[0].T)].sum()
