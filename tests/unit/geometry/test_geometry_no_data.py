"""Borders that another program filled: which they are, and what becomes of them in a deskewed movie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from geometry_scenes import PIXEL

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.background import estimate_background
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.geometry.no_data import inner_parts, no_data_region, no_data_value
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.stage import deskew_movie
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.part import Part
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.store import FrameStore

SHAPE = (12, 40, 60)
Z, Y, X = np.indices(SHAPE)
SHEAR = (X > 1.5 * Z + 1) & (X < 40 + 1.5 * Z)
TURNED = (Y + X > 24) & (Y + X < 76) & (abs(Y - X + 8) < 26)


def image(seed: int = 0, background: float = 8.0, offset: float = 100.0) -> np.ndarray:
    """Particles, photon and read noise, uint16."""
    random = np.random.default_rng(seed)
    light = np.full(SHAPE, background)
    for z, y, x in np.random.default_rng(1).uniform(0, 1, (60, 3)) * SHAPE:
        light += 200 * np.exp(-((Z - z) ** 2 / 3 + (Y - y) ** 2 + (X - x) ** 2) / 3)
    counts = random.poisson(light) + random.normal(offset, 1.5, SHAPE)
    return np.rint(counts).clip(0, 65535).astype(np.uint16)


@pytest.mark.parametrize("inside", [SHEAR, TURNED])
@pytest.mark.parametrize("value", [0, 30, 4095, 65535])
def test_filled_borders_are_found_voxel_by_voxel(inside: np.ndarray, value: int) -> None:
    stack = np.where(inside, image(), value).astype(np.uint16)
    stack[:, 20, 32] = 0  # a dead pixel amid the data is none of it
    assert no_data_value(stack) == value
    assert np.array_equal(no_data_region(stack, value), ~inside)


def test_edges_that_were_interpolated_belong_to_the_border() -> None:
    data = image().astype(float)
    share = np.clip(X - 1.5 * Z - 1.3, 0, 1) * np.clip(40.4 + 1.5 * Z - X, 0, 1)
    stack = np.rint(data * share).astype(np.uint16)
    assert no_data_value(stack) == 0
    region = no_data_region(stack, 0)
    assert region[(share < 0.5) & (data < 150)].all()
    assert not region[share == 1].any()


def stripes(low: int) -> np.ndarray:
    stack = image()
    stack[3:5] = low
    return stack


ORDINARY = {
    "an image": image(),
    "dropped planes": stripes(0),
    "zeros in a few planes": np.where((Z < 5) & (X < 50), 0, image()),
    "a column of zeros": np.where(np.arange(200) < 1, 0, np.tile(image(), (1, 3, 4))[:, :, :200]),
    "dark corners of an aperture": np.where(abs(Y - 20) + abs(X - 30) < 46, image(0, 400.0), image(0, 0.0)),
    "background subtracted and clipped": image().astype(int).clip(108) - 108,
    "the same, scaled up": (image().astype(int).clip(108) - 108) * 16,
    "eight bits of little light": np.random.default_rng(0).poisson(0.3, SHAPE),
    "a mask": np.where(SHEAR, 255, 0),
    "filled with the background": np.where(SHEAR, image(), 108),
    "saturated": np.where(X < 20, 4095, image() + (4095 - 200) * np.exp(-((X - 20) ** 2) / 200)),
    "two voxels": np.where((X == 0) & (Y < 2), 0, image()),
    "all the same": np.full(SHAPE, 7),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_images_have_no_such_borders(name: str) -> None:
    assert no_data_value(ORDINARY[name].astype(np.uint16)) is None


def test_the_background_is_that_of_the_data_however_few_they_are() -> None:
    stack = np.where(X < 50, 4095, image()).astype(np.uint16)
    assert estimate_background(stack, 4095) == pytest.approx(108, abs=1)
    assert estimate_background(stack) == 4095


@pytest.mark.parametrize("inside", [SHEAR, TURNED])
def test_the_inner_parts_are_data_and_most_of_it(inside: np.ndarray) -> None:
    stack = np.where(inside, image(), 0).astype(np.uint16)
    stack[0] = 0
    region = no_data_region(stack, 0)
    parts = inner_parts(stack, region)
    assert len(parts) == SHAPE[0] - 1
    assert all(part.all() for part in parts)
    assert all(np.shares_memory(part, stack) for part in parts)
    assert sum(part.size for part in parts) > (0.99 if inside is SHEAR else 0.4) * inside[1:].sum()


def movie(folder: Path, stacks: list[np.ndarray], channel: str = "c", **cells: object) -> SheetRow:
    folder.mkdir(parents=True, exist_ok=True)
    for frame, stack in enumerate(stacks):
        tifffile.imwrite(folder / f"{channel}_t{frame}.tif", stack, photometric="minisblack")
    values: dict[str, object] = {"movie": "a", "channel": channel, "path": str(folder / f"{channel}_t*.tif")}
    values |= {"scan": "none", "step_um": 0.25, "pixel_um": PIXEL, "interval_s": 2.0, "scan_sign": 1}
    return SheetRow(**(values | cells))  # type: ignore[arg-type]


def run(
    rows: list[SheetRow],
    out: Path,
    no_data: dict[str, int | None] | None = None,
    part: str = "all",
    **given: object,
) -> DeskewedMovie:
    out.mkdir(parents=True, exist_ok=True)
    (out / "preview.json").write_text(json.dumps({} if no_data is None else {"no_data": no_data}))
    record, table = register_movie(rows, ReadingParameters(), "fail")
    assert record.problem is None, record.problem
    what: dict[str, Any] = {"part": Part.parse(part), "preview": out / "preview.json"}
    output = out / ("deskewed.json" if part == "all" else f"deskewed.{part}.json")
    deskew_movie(
        rows, record, table, output, DeskewParameters(**given),  # type: ignore[arg-type]
        device="cpu", version="1", skip_bad=False, threads=1, **what,
    )  # fmt: skip
    return DeskewedMovie(output)


def files(out: Path) -> dict[str, bytes]:
    found = [path for path in out.rglob("*") if path.is_file() and path.parent.name != "ledger"]
    return {str(path.relative_to(out)): path.read_bytes() for path in found if path.name != "preview.json"}


@pytest.mark.parametrize("value", [0, 4095])
def test_a_movie_deskewed_elsewhere_has_no_data_in_its_borders(tmp_path: Path, value: int) -> None:
    data = [image(t) for t in range(3)]
    filled = [np.where(SHEAR, stack, value).astype(np.uint16) for stack in data]
    got = run([movie(tmp_path / "raw", filled)], tmp_path / "out", {"c": value})
    assert np.array_equal(got.valid, SHEAR)
    assert np.array_equal(np.broadcast_to(got.mask, SHAPE), SHEAR)
    for frame in range(3):
        voxels = got.store.read(frame)
        assert np.array_equal(voxels[SHEAR], data[frame][SHEAR])
        assert (voxels[~SHEAR] == got.record.about["fills"][str(frame)][0]).all()
        assert abs(got.record.about["fills"][str(frame)][0] - 108) <= 1
    assert got.record.about["no_data"]["values"] == {"c": value}


def test_a_movie_without_such_borders_has_no_file_of_it(tmp_path: Path) -> None:
    rows = [movie(tmp_path / "raw", [image(0), image(1)])]
    run(rows, tmp_path / "said", {"c": None})
    run(rows, tmp_path / "silent")
    assert files(tmp_path / "said") == files(tmp_path / "silent")
    assert not (tmp_path / "said" / "valid.ome.zarr").exists()


def test_a_mask_that_the_stage_did_not_write_is_refused_and_made_again(tmp_path: Path) -> None:
    filled = [np.where(SHEAR, image(t), 0).astype(np.uint16) for t in range(2)]
    rows, out = [movie(tmp_path / "raw", filled)], tmp_path / "out"
    run(rows, out, {"c": 0})
    FrameStore(out / "valid.ome.zarr", "r+").write(0, np.ones((1, *SHAPE), np.uint8))
    with pytest.raises(BadInputError, match=r"valid\.ome\.zarr: found another mask.*verify=true"):
        DeskewedMovie(out / "deskewed.json")
    assert np.array_equal(run(rows, out, {"c": 0}).valid, SHEAR)
    (out / "valid.ome.zarr/0/zarr.json").write_text("")
    with pytest.raises(BadInputError, match=r"valid\.ome\.zarr: found .*verify=true"):
        DeskewedMovie(out / "deskewed.json")
    assert np.array_equal(run(rows, out, {"c": 0}).valid, SHEAR)


def test_the_mask_goes_when_the_raw_files_have_data_there(tmp_path: Path) -> None:
    filled = [np.where(SHEAR, image(t), 0).astype(np.uint16) for t in range(2)]
    run([movie(tmp_path / "raw", filled)], tmp_path / "out", {"c": 0})
    assert (tmp_path / "out" / "valid.ome.zarr").exists()
    got = run([movie(tmp_path / "raw", [image(0), image(1)])], tmp_path / "out", {"c": None})
    assert got.valid.all()
    assert not (tmp_path / "out" / "valid.ome.zarr").exists()


def test_what_is_filled_in_the_first_two_frames_alone_is_masked(tmp_path: Path) -> None:
    both, first = X > 1.5 * Z + 1, TURNED & (X > 1.5 * Z + 1)
    frames = [np.where(where, image(t), 0).astype(np.uint16) for t, where in enumerate((both, first, X >= 0))]
    got = run([movie(tmp_path / "raw", frames)], tmp_path / "out", {"c": 0})
    assert np.array_equal(got.valid, X > 1.5 * Z + 1)


def test_the_first_channel_says_where_there_are_data(tmp_path: Path) -> None:
    first = [np.where(SHEAR, image(t), 0).astype(np.uint16) for t in range(2)]
    second = [np.where(TURNED, image(t + 9), 0).astype(np.uint16) for t in range(2)]
    rows = [movie(tmp_path / "raw", first), movie(tmp_path / "raw", second, "d")]
    got = run(rows, tmp_path / "out", {"c": 0, "d": 0})
    assert np.array_equal(got.valid, SHEAR)
    other = got.store.read(0, 1)
    assert np.array_equal(other[TURNED], second[0][TURNED])
    assert (other[~TURNED] == got.record.about["fills"]["0"][1]).all()
    assert run(rows, tmp_path / "other", {"c": None, "d": 0}).valid.all()


@pytest.mark.parametrize("frame", ["deskewed", "coverslip"])
@pytest.mark.parametrize("flip", [None, "x"])
def test_a_skewed_stack_with_black_borders_has_data_where_the_camera_had(
    tmp_path: Path, frame: str, flip: str | None
) -> None:
    """Columns that a program blackened, of a camera that mirrors: nothing of them is left beside the data."""
    inside = X > 14
    filled = [np.where(inside, image(t), 0).astype(np.uint16) for t in range(2)]
    cells = dict(scan="stage", angle_deg=31.5, step_um=0.4, skew_axis="x", flip=flip)
    got = run([movie(tmp_path / "raw", filled, **cells)], tmp_path / "out", {"c": 0}, frame=frame)
    voxel = np.argwhere(np.ones(got.store.shape[2:], bool)) * got.voxel_um + got.store.origin_um
    raw = got.raw_voxels(voxel)[:, 2].reshape(got.store.shape[2:])
    in_box = np.broadcast_to(got.grid.valid, got.store.shape[2:])
    # A plane between two is read from both, each where its normal through the voxel meets them.
    reach = 1 if frame == "deskewed" else 1 + 0.4 * np.cos(np.deg2rad(31.5)) / PIXEL
    away = (raw < 44 - reach) if flip else (raw > 15 + reach)
    near = (raw > 45) if flip else (raw < 14)
    assert got.valid[in_box & away].all()
    assert not got.valid[in_box & near].any()
    assert not got.valid[~in_box].any()
    assert got.store.read(0)[in_box].min() > 80


def test_parts_see_the_mask_of_the_job_before_them(tmp_path: Path) -> None:
    rows = [movie(tmp_path / "raw", [np.where(SHEAR, image(t), 0).astype(np.uint16) for t in range(4)])]
    for part in ("0-0", "0-2", "2-4", "all"):
        got = run(rows, tmp_path / "parts", {"c": 0}, part)
        assert np.array_equal(got.valid, SHEAR)
    for part in ("0-0", "0-2", "2-4"):
        (tmp_path / "parts" / f"deskewed.{part}.json").unlink()
    run(rows, tmp_path / "one", {"c": 0})
    assert files(tmp_path / "parts") == files(tmp_path / "one")


def test_other_borders_make_other_results_for_the_stages_that_follow(tmp_path: Path) -> None:
    """Also of frames whose own voxels are the same."""
    wide, narrow = X > 5, X > 9
    frames = [np.where(narrow, image(t), 0).astype(np.uint16) for t in range(3)]
    before = run([movie(tmp_path / "raw", frames)], tmp_path / "out", {"c": 0}, fill=100).record.checksums
    frames[0] = np.where(wide, image(0), 0).astype(np.uint16)
    frames[1] = np.where(wide, image(1), 0).astype(np.uint16)
    after = run([movie(tmp_path / "raw", frames)], tmp_path / "out", {"c": 0}, fill=100).record.checksums
    assert before[2] != after[2]
    array = zarr.open_array(tmp_path / "out" / "deskewed.ome.zarr" / "0")
    assert np.array_equal(array[2, 0], np.where(narrow, frames[2], 100))
