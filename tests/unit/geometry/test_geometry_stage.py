"""The deskew stage on movies in files: what it writes, read by other programs, and what it repeats."""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from geometry_scenes import Beads
from ome_zarr_models.v05 import Image

from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.stage import deskew_movie
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.part import Part
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import SheetRow

PIXEL, STEP = 0.104, 0.5
SHAPE = (20, 24, 60)


def rows(folder: Path, angle: float = 31.5, **changes: object) -> list[SheetRow]:
    values = {"movie": "cell", "scan": "stage", "angle_deg": angle, "step_um": STEP, "pixel_um": PIXEL}
    values |= {"interval_s": 2.0, "skew_axis": "x", "scan_sign": 1}
    return [
        SheetRow(channel=channel, path=str(folder / f"{channel}_t*.tif"), **(values | changes))  # type: ignore[arg-type]
        for channel in ("488nm", "560nm")
    ]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for channel in ("488nm", "560nm"):
        for frame in range(4):
            random = np.random.default_rng([frame, len(channel), channel == "560nm"])
            stack = random.poisson(120, SHAPE).astype(np.uint16)
            tifffile.imwrite(folder / f"{channel}_t{frame:02d}.tif", stack)
    return folder


def run(sheet: list[SheetRow], out: Path, **parameters: object) -> DeskewedMovie:
    record, table = register_movie(sheet, ReadingParameters(), "fail")
    assert record.problem is None, record.problem
    deskew_movie(
        sheet, record, table, out / "deskewed.json", DeskewParameters(**parameters),  # type: ignore[arg-type]
        device="cpu", version="1", skip_bad=False,
    )  # fmt: skip
    return DeskewedMovie(out / "deskewed.json")


def run_part(sheet: list[SheetRow], out: Path, part: str) -> None:
    record, table = register_movie(sheet, ReadingParameters(), "fail")
    output = out / (f"deskewed.{part}.json" if part != "all" else "deskewed.json")
    deskew_movie(
        sheet, record, table, output, DeskewParameters(),
        device="cpu", version="1", skip_bad=False, threads=1, part=Part.parse(part),
    )  # fmt: skip


def files(out: Path) -> dict[str, bytes]:
    """All that a stage leaves for others; not its notes of who computed when."""
    found = [path for path in out.rglob("*") if path.is_file() and path.parent.name != "ledger"]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def test_parts_in_processes_of_their_own_write_what_one_job_writes(raw, tmp_path):
    sheet = rows(raw)
    run_part(sheet, tmp_path / "one", "all")
    shared = tmp_path / "several"
    run_part(sheet, shared, "0-0")
    opened = files(shared)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(run_part, sheet, shared, part) for part in ("0-2", "2-4")]:
            done.result()
    assert DeskewedMovie(shared / "deskewed.2-4.json").record.checksums.keys() == {2, 3}
    described = [name for name in opened if name.endswith("zarr.json")]
    assert described
    assert {name: files(shared)[name] for name in described} == {name: opened[name] for name in described}
    assert sorted(path.name for path in (shared / "ledger").iterdir()) == [
        "deskew.0-2.jsonl",
        "deskew.2-4.jsonl",
    ]
    run_part(sheet, shared, "all")
    assert computed(shared) == 4, "the last job finds all frames and computes none"
    for part in ("0-0", "0-2", "2-4"):
        (shared / f"deskewed.{part}.json").unlink()
    assert files(shared) == files(tmp_path / "one")


def test_the_last_job_computes_what_parts_have_left_out(raw, tmp_path):
    for part in ("0-0", "0-2", "all"):
        run_part(rows(raw), tmp_path / "out", part)
    assert computed(tmp_path / "out") == 4
    assert DeskewedMovie(tmp_path / "out" / "deskewed.json").record.checksums.keys() == {0, 1, 2, 3}


def finished(out: Path) -> list[dict]:
    """Lines of the ledger but those that only reopen a frame."""
    lines = (out / "ledger" / "deskew.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["key"] != ""]


def computed(out: Path) -> int:
    return len(finished(out))


@pytest.mark.parametrize("angle", [31.5, 45.0])
@pytest.mark.parametrize("frame", ["deskewed", "coverslip"])
def test_spacing_units_and_affine_are_read_by_others(raw, tmp_path, frame, angle):
    movie = run(rows(raw, angle), tmp_path / "out", frame=frame, tiff=True)
    spacing = STEP * math.sin(math.radians(angle)) if frame == "deskewed" else PIXEL
    group = zarr.open_group(tmp_path / "out" / "deskewed.ome.zarr", mode="r")
    image = Image.from_zarr(group).ome_attributes.multiscales[0]
    assert [axis.name for axis in image.axes] == ["t", "c", "z", "y", "x"]
    assert [getattr(axis, "unit", None) for axis in image.axes] == [
        "second", None, "micrometer", "micrometer", "micrometer",
    ]  # fmt: skip
    scale = image.datasets[0].coordinateTransformations[0].scale
    assert scale == pytest.approx([2.0, 1.0, spacing, PIXEL, PIXEL], rel=1e-12)
    channels = group.attrs["ome"]["omero"]["channels"]
    assert [(c["label"], c["color"]) for c in channels] == [("488nm", "00FF00"), ("560nm", "FFA000")]
    assert all(c["window"]["start"] < c["window"]["end"] < 65535 for c in channels)
    # The affine takes a voxel to the raw voxel that the microscope recorded there.
    voxels, um = group.attrs["spatialdino"]["coordinateTransformations"]
    assert np.shape(voxels["affine"]) == (3, 4)
    assert (voxels["output"], um["output"]) == ("raw array", "raw")
    beads = Beads(angle=angle)
    point = np.array([6.0, 3.0, 40.0, 1.0])
    u, _, w = beads.at(*(np.array(voxels["affine"]) @ point))
    origin = beads.at(*(np.array(voxels["affine"]) @ [0.0, 3.0, 0.0, 1.0]))
    shift = np.array([w - origin[2], u - origin[0]])
    if frame == "coverslip":
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        shift = np.array([shift[0] * cos - shift[1] * sin, shift[1] * cos + shift[0] * sin])
    np.testing.assert_allclose(shift, [6 * spacing, 40 * PIXEL], atol=1e-9)
    # The calibrated TIFF holds the same voxels and says the same.
    with tifffile.TiffFile(tmp_path / "out" / "deskewed_tiff" / "cell_t0002.ome.tif") as tif:
        pixels = ElementTree.fromstring(tif.ome_metadata or "").find(".//{*}Pixels")
        assert pixels is not None
        sizes = [float(pixels.attrib[f"PhysicalSize{axis}"]) for axis in "ZYX"]
        assert sizes == pytest.approx([spacing, PIXEL, PIXEL], rel=1e-12)
        assert pixels.attrib["PhysicalSizeZUnit"] == "µm"
        assert [c.attrib["Name"] for c in pixels.findall("{*}Channel")] == ["488nm", "560nm"]
        np.testing.assert_array_equal(tif.asarray(), group["0"][2])
    assert movie.voxel_um == pytest.approx((spacing, PIXEL, PIXEL))


def test_projections_are_stored_beside_the_voxels(raw, tmp_path):
    movie = run(rows(raw), tmp_path / "out")
    for axis, name in enumerate("zyx"):
        flat = zarr.open_group(tmp_path / "out" / "projections" / f"along_{name}.ome.zarr", mode="r")["0"]
        for channel in (0, 1):
            voxels = movie.store.read(1, channel)
            fill = movie.record.about["fills"]["1"][channel]
            expected = np.maximum(voxels.max(axis, keepdims=True), fill)
            np.testing.assert_array_equal(flat[1, channel], expected)


def test_one_file_per_frame_channel_and_level(raw, tmp_path):
    run(rows(raw), tmp_path / "out")
    store = tmp_path / "out" / "deskewed.ome.zarr"
    levels = [p for p in store.iterdir() if p.is_dir()]
    shards = [p for p in store.rglob("*") if p.is_file() and p.name != "zarr.json"]
    assert len(shards) == 4 * 2 * len(levels)


def test_empty_corners_cost_nothing(tmp_path):
    """A long scan, of which most voxels are fill: its store is little larger than that of the raw data."""
    folder = tmp_path / "raw"
    folder.mkdir()
    stack = np.random.default_rng(0).poisson(120, (200, 24, 60)).astype(np.uint16)
    for channel in ("488nm", "560nm"):
        tifffile.imwrite(folder / f"{channel}_t00.tif", stack)
    full = run(rows(folder), tmp_path / "full")
    upright = run(rows(folder, scan="none", angle_deg=None), tmp_path / "none", interpolation="linear")
    sizes = [
        sum(p.stat().st_size for p in (movie.folder / "deskewed.ome.zarr" / "0").rglob("*") if p.is_file())
        for movie in (full, upright)
    ]
    assert np.prod(full.store.shape) > 12 * np.prod(upright.store.shape)
    assert sizes[0] < 1.25 * sizes[1]


def test_what_changed_is_done_again_and_nothing_else(raw, tmp_path):
    out = tmp_path / "out"
    calibrated = [row.model_copy(update={"dark": str(tmp_path / "dark.tif")}) for row in rows(raw)]
    tifffile.imwrite(tmp_path / "dark.tif", np.full(SHAPE[1:], 90, np.uint16))
    run(calibrated, out)
    assert computed(out) == 4
    run(calibrated, out)
    assert computed(out) == 4
    run(calibrated, out, tiff=True)  # the files are missing, so every frame is made again, to the same bits
    assert computed(out) == 8
    tiffs = [out / "deskewed_tiff" / f"cell_t000{frame}.ome.tif" for frame in range(4)]
    as_written = [tifffile.imread(path) for path in tiffs]
    tiffs[0].write_bytes(b"")
    tiffs[1].unlink()
    shutil.copy(tiffs[2], tiffs[3])
    run(calibrated, out, tiff=True)
    assert computed(out) == 11
    np.testing.assert_array_equal([tifffile.imread(path) for path in tiffs], as_written)
    tifffile.imwrite(tmp_path / "dark.tif", np.full(SHAPE[1:], 95, np.uint16))
    run(calibrated, out)
    assert computed(out) == 15
    run(calibrated, out, tiff=True)  # those of the other dark image are none of these frames
    assert computed(out) == 19
    lines = finished(out)
    assert [line["output"] for line in lines[:4]] == [line["output"] for line in lines[4:8]]
    assert set(lines[0]["seconds"]) == {"read", "compute", "write", "wait", "processor"}


@pytest.mark.parametrize("parts", [["all"], ["0-0", "2-4", "0-2", "all"]], ids=["at once", "in parts"])
def test_dark_and_constant_frames_are_named_whoever_computed_them(raw, tmp_path, parts):
    random = np.random.default_rng(0)
    for frame in range(4):
        bright = random.poisson(20, SHAPE) + 100
        bright[5:9, 5:9, 20:24] += 500
        dark = np.rint(random.normal(100, 1.5, SHAPE))
        first = dark if frame == 2 else bright
        second = np.full(SHAPE, 100) if frame == 1 else bright
        for channel, stack in (("488nm", first), ("560nm", second)):
            tifffile.imwrite(raw / f"{channel}_t{frame:02d}.tif", stack.astype(np.uint16))
    for part in parts:
        run_part(rows(raw), tmp_path / "out", part)
    dark, constant = DeskewedMovie(tmp_path / "out" / "deskewed.json").record.about["warnings"]
    assert dark.startswith("488nm, frame 2: no signal (dark)")
    assert constant.startswith("560nm, frame 1: a single value")


def test_a_region_of_interest_and_its_tracks(raw, tmp_path):
    """A region is a cut-out of the full store, and its positions in µm lead to the same raw voxels."""
    box = ((0.5, 2.0), (0.5, 1.5), (3.0, 6.0))
    whole = run(rows(raw), tmp_path / "whole")
    part = run([row.model_copy(update={"roi_um": box}) for row in rows(raw)], tmp_path / "part")
    first = [round(o / v) for o, v in zip(part.store.origin_um, part.voxel_um, strict=True)]
    cut = tuple(slice(f, f + n) for f, n in zip(first, part.store.shape[2:], strict=True))
    np.testing.assert_array_equal(part.store.read(3, 1), whole.store.read(3, 1)[cut])
    position = np.array([[1.1, 0.7, 4.2]])
    np.testing.assert_allclose(part.raw_voxels(position), whole.raw_voxels(position), atol=1e-9)


def test_registered_record_survives(raw, tmp_path):
    record, _ = register_movie(rows(raw), ReadingParameters(), "fail")
    record.write(tmp_path / "movie.json")
    assert MovieRecord.read(tmp_path / "movie.json") == record
