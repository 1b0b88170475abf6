"""Bad pixels: the files that name them, what is put in their place, and deskewed movies without them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from geometry_scenes import OFFSET, PIXEL, Beads

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.bad_pixels import Repair, mask_of, named_pixels
from spatialdino_core.geometry.camera import Camera
from spatialdino_core.geometry.deskew import Deskew
from spatialdino_core.geometry.grid import output_grid
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.geometry.stage import deskew_movie
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import SheetRow

YX = (12, 17)


def row(**changes: object) -> SheetRow:
    values = {"movie": "a", "channel": "c", "path": "x.tif", "scan": "stage", "angle_deg": 31.5}
    values |= {"step_um": 0.5, "pixel_um": PIXEL, "interval_s": 2.0, "skew_axis": "x", "scan_sign": 1}
    return SheetRow(**(values | changes))  # type: ignore[arg-type]


def upright() -> ScanGeometry:
    return ScanGeometry(scan="none", angle_deg=None, step_um=0.25, pixel_um=0.1, skew_axis="x")


def by_hand(stack: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Each bad pixel, plane and window in loops."""
    out = stack.copy()
    for y, x in np.argwhere(bad):
        for reach in range(1, 20):
            near = [
                (b, a)
                for b in range(y - reach, y + reach + 1)
                for a in range(x - reach, x + reach + 1)
                if 0 <= b < bad.shape[0] and 0 <= a < bad.shape[1] and not bad[b, a]
            ]
            if near:
                break
        for z in range(len(stack)):
            out[z, y, x] = np.rint(np.median([stack[z, b, a] for b, a in near]))
    return out


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_bad_pixels_get_the_median_of_the_good_ones_around_them(share: float) -> None:
    random = np.random.default_rng(3)
    stack = random.integers(0, 65536, (4, *YX)).astype(np.uint16)
    bad = random.random(YX) < share
    bad[0, 0] = bad[-1, 5] = True
    before = stack.copy()
    assert np.array_equal(Repair.of(bad)(stack), by_hand(stack, bad))
    assert np.array_equal(stack, before), "the raw stack itself stays as it was read"


def test_without_good_pixels_all_stay() -> None:
    stack = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    assert np.array_equal(Repair.of(np.ones((3, 4), bool))(stack), stack)


def test_a_table_and_a_mask_name_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\tnote\ty\r\n3\thot\t11\r\n\r\n16\t\t0\r\n", encoding="utf-8-sig")
    mask = np.zeros(YX, np.uint8)
    mask[11, 3], mask[0, 16] = 255, 1
    tifffile.imwrite(tmp_path / "a.tif", mask)
    assert sorted(named_pixels(tmp_path / "a.tsv", YX)) == [(0, 16), (11, 3)]
    assert sorted(named_pixels(tmp_path / "a.tif", YX)) == [(0, 16), (11, 3)]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.tsv", b"y\tx\n3\t17\n", "line 2: found y = '3', x = '17'; expected .* x from 0 to 16"),
        ("a.tsv", b"y\tx\n1\t1\n12\t0\n", "line 3: found y = '12'"),
        ("a.tsv", b"y\tx\n-1\t0\n", "y = '-1'"),
        ("a.tsv", b"y\tx\n1.5\t0\n", "y = '1.5'"),
        ("a.tsv", b"y\tx\n4\n", "y = '4', x = ''"),
        ("a.tsv", b"y,x\n1,1\n", r"columns \['y,x'\]"),
        ("a.tsv", b"", r"columns \[\]"),
        ("a.tsv", b"\xff\xfey\x00", "columns"),
        ("a.tif", b"II*", "cannot be read"),
        ("a.tif", np.zeros((17, 12), np.uint8), r"a mask of shape \(17, 12\); expected \(12, 17\)"),
        ("a.tif", np.ones(YX, np.uint8), "all pixels"),
        ("b.tsv", None, "no such file"),
    ],
)
def test_files_that_cannot_be_are_refused(
    tmp_path: Path, name: str, content: bytes | np.ndarray | None, found: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        tifffile.imwrite(tmp_path / name, content)
    with pytest.raises(BadInputError, match=found):
        named_pixels(tmp_path / name, YX)


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "fft"])
@pytest.mark.parametrize(("axis", "flip"), [("x", ""), ("x", "xy"), ("y", "x")])
def test_a_deskewed_scene_is_as_if_there_were_no_hot_pixels(axis: str, flip: str, interpolation: str) -> None:
    """Hot pixels in a mirrored stack of beads on a slope; the places are those of the file."""
    beads = Beads(count=10, peak=300.0)
    scene = beads.raw() if axis == "x" else beads.raw().swapaxes(1, 2)
    raw = np.ascontiguousarray(Camera(flip=flip).oriented(scene))
    places = [(2, 9), (15, 3), (15, 4), (0, 0), (20, 11)]
    hot = raw.copy()
    hot[:, [y for y, _ in places], [x for _, x in places]] += 2000
    geometry = ScanGeometry(scan="stage", angle_deg=31.5, step_um=0.5, pixel_um=PIXEL, skew_axis=axis)  # type: ignore[arg-type]
    grid = output_grid(geometry, raw.shape)
    camera = Camera.of(row(flip=flip or None), raw.shape[1:], places)

    def deskewed(stack: np.ndarray, camera: Camera) -> np.ndarray:
        deskew = Deskew(grid=grid, interpolation=interpolation, fill=OFFSET, camera=camera)
        return deskew(stack[deskew.region]).voxels.astype(int)

    truth = deskewed(raw, Camera(flip=flip))
    # These beads are two pixels wide: a pixel differs from the median of its neighbours by some counts.
    assert np.abs(deskewed(hot, camera) - truth).max() < 60
    assert np.abs(deskewed(hot, Camera(flip=flip)) - truth).max() > 1000


def test_a_region_is_repaired_where_it_lies() -> None:
    raw = np.random.default_rng(0).integers(90, 110, (6, 30, 40)).astype(np.uint16)
    hot = raw.copy()
    hot[:, 20, 25] = 5000
    grid = output_grid(upright(), raw.shape, roi_um=((0, 9), (1.5, 2.6), (1.9, 3.1)))
    deskew = Deskew(grid=grid, camera=Camera.of(row(), (30, 40), [(20, 25)]))
    bad = np.zeros((30, 40), bool)
    bad[20, 25] = True
    assert np.array_equal(deskew(hot[deskew.region]).voxels, by_hand(hot, bad)[:, 15:27, 19:32])


def test_a_hot_pixel_of_dark_and_flat_image_leaves_no_hole(tmp_path: Path) -> None:
    """The dark image knows the hot pixel: subtracted from what is put in its place, it would leave a hole."""
    random = np.random.default_rng(1)
    dark, flat = np.full(YX, 100.0), np.full(YX, 900.0)
    dark[5, 6], flat[5, 6] = 1500, 2300
    tifffile.imwrite(tmp_path / "dark.tif", dark.astype(np.float32))
    tifffile.imwrite(tmp_path / "flat.tif", flat.astype(np.float32))
    raw = np.rint(random.normal(300, 3, (5, *YX))).astype(np.uint16)
    raw[:, 5, 6] += 1400
    said = row(dark=str(tmp_path / "dark.tif"), flat=str(tmp_path / "flat.tif"))
    grid = output_grid(upright(), raw.shape)
    got = Deskew(grid=grid, camera=Camera.of(said, YX, [(5, 6)]))(raw).voxels
    assert np.abs(got.astype(int) - 300).max() < 20
    assert got[:, 5, 6].std() > 0


def movie(folder: Path, stacks: list[np.ndarray], **cells: object) -> list[SheetRow]:
    folder.mkdir(parents=True, exist_ok=True)
    for frame, stack in enumerate(stacks):
        tifffile.imwrite(folder / f"c_t{frame}.tif", stack, photometric="minisblack")
    return [row(path=str(folder / "c_t*.tif"), **cells)]


def run(rows: list[SheetRow], out: Path, found: dict | None = None, **parameters: object) -> dict:
    preview = out / "preview.json"
    out.mkdir(parents=True, exist_ok=True)
    preview.write_text(json.dumps(found or {}))
    record, table = register_movie(rows, ReadingParameters(), "fail")
    assert record.problem is None, record.problem
    deskew_movie(
        rows, record, table, out / "deskewed.json", DeskewParameters(**parameters),  # type: ignore[arg-type]
        device="cpu", version="1", skip_bad=False, threads=1, preview=preview,
    )  # fmt: skip
    content: dict = json.loads((out / "deskewed.json").read_text())
    return content


def voxels(out: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(out / "deskewed.ome.zarr" / "0")[:])


def test_a_movie_loses_the_hot_pixels_that_preview_and_sheet_name(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    stacks = [np.rint(random.normal(100, 3, (8, 20, 30))).astype(np.uint16) for _ in range(2)]
    bad = mask_of([(4, 5), (10, 20)], (20, 30))
    hot = [np.where(bad, np.uint16(900), stack) for stack in stacks]
    (tmp_path / "bad.tsv").write_text("y\tx\n10\t20\n")
    plain = movie(tmp_path / "raw", hot)
    named = movie(tmp_path / "raw", hot, bad_pixels=str(tmp_path / "bad.tsv"))
    found = {"hot_pixels": {"c": [[4, 5]], "other": [[1, 1]]}}
    both = run(named, tmp_path / "both", found)
    assert voxels(tmp_path / "both").max() < 120
    assert both["about"]["bad_pixels"] == {"c": 2}
    assert run(plain, tmp_path / "one", found)["about"]["bad_pixels"] == {"c": 1}
    kept = run(plain, tmp_path / "kept", found, hot_pixels="keep")
    none = run(plain, tmp_path / "none")
    assert "bad_pixels" not in kept["about"]
    assert np.array_equal(voxels(tmp_path / "kept"), voxels(tmp_path / "none"))
    assert voxels(tmp_path / "none").max() > 800
    assert not {"bad_pixels", "no_data"} & set(none["about"])


def test_another_list_computes_every_frame_anew_and_the_same_list_none(tmp_path: Path) -> None:
    stacks = [np.random.default_rng(t).integers(90, 110, (4, 12, 16)).astype(np.uint16) for t in range(3)]
    rows = movie(tmp_path / "raw", stacks)

    def lines() -> int:
        return len((tmp_path / "out" / "ledger" / "deskew.jsonl").read_text().splitlines())

    run(rows, tmp_path / "out", {"hot_pixels": {"c": [[4, 5]]}, "channels": {"c": {"snr": 7}}})
    first = lines()
    run(rows, tmp_path / "out", {"hot_pixels": {"c": [[4, 5]]}, "channels": {"c": {"snr": 8}}})
    assert lines() == first
    run(rows, tmp_path / "out", {"hot_pixels": {"c": [[4, 6]]}})
    assert lines() > first
