"""Golden values of deskewing: where voxels lie, how they are weighed, what becomes of cameras and frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from golden import Stage
from raw_inputs import counts, outcome, sheet_row

from spatialdino_core.files import read_json, write_json
from spatialdino_core.geometry.background import (
    estimate_background,
    histogram_mode,
    histogram_quantile,
    intensity_histogram,
)
from spatialdino_core.geometry.bad_pixels import Repair
from spatialdino_core.geometry.camera import Camera
from spatialdino_core.geometry.deskew import Deskew
from spatialdino_core.geometry.deskewed import PROJECTIONS, DeskewedMovie
from spatialdino_core.geometry.grid import OutputGrid, output_grid
from spatialdino_core.geometry.light import dark_frames, frame_light, frame_warnings, listed
from spatialdino_core.geometry.no_data import inner_parts, no_data_region, no_data_value
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.registration import read_registration, registered_map
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.geometry.stage import deskew_movie
from spatialdino_core.kernels import combine as combine_module
from spatialdino_core.kernels.combine import Projections, combine, combine_reference, stored
from spatialdino_core.kernels.combine_affine import combine_affine
from spatialdino_core.kernels.fourier_shear import displaced
from spatialdino_core.kernels.halve import halved
from spatialdino_core.kernels.taps import PlaneMap, cubic_convolution, make_taps, split, weights_along
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.part import Part
from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.movies.resolve import resolve
from spatialdino_core.movies.rounding import rounding_of

MODULES = ["geometry/*.py", "kernels/combine.py", "kernels/combine_affine.py", "kernels/combine_cpu.py"]
STAGE = Stage("deskew", [*MODULES, "kernels/taps.py", "kernels/fourier_shear.py", "kernels/halve.py"])
SHAPE = (7, 12, 17)
RAW = counts(7, SHAPE, 100, 900)
PLAIN: dict[str, Any] = dict(
    frame="deskewed", isotropic=False, interpolation="cubic", crop="full", tiff=False
)
PLAIN |= dict(fill="background", grid_offset_um=0.0)
SHIFTED = np.array([[1.02, 0.01, 0, 0.03], [0, 0.98, 0.02, -0.05], [-0.01, 0, 1.01, 0.07], [0, 0, 0, 1]])


def geometry(scan: str = "stage", axis: str = "x", sign: int = 1, **changes: Any) -> ScanGeometry:
    """A scan with a shear of more than a pixel; an objective's with none."""
    values: dict[str, Any] = dict(
        angle_deg=31.5, step_um=0.21, pixel_um=0.104, skew_axis=axis, scan_sign=sign
    )
    return ScanGeometry(scan=scan, **(values | changes))  # type: ignore[arg-type]


GEOMETRIES = {
    f"{scan} {axis} {sign:+}": geometry(scan, axis, sign)
    for scan in ("stage", "z-stage", "objective", "none")
    for axis in "xy"
    for sign in (1, -1)
}


@STAGE.scene
def scans(folder: Path) -> dict[str, Any]:
    """Spacing, shear, direction of every scan, and values that cannot be."""
    changes: dict[str, Any] = {
        "step": dict(step_um=0.0), "a step": dict(step_um=-1), "pixel": dict(pixel_um=0),
        "word": dict(step_um="1"),
        "infinite": dict(pixel_um=float("inf")), "axis": dict(skew_axis="z"), "sign": dict(scan_sign=0),
        "no angle": dict(angle_deg=None), "flat": dict(angle_deg=0), "upright": dict(angle_deg=90),
        "steep": dict(angle_deg=89.5),
    }  # fmt: skip
    return {
        "geometries": {
            name: [g.plane_spacing_um, g.shear_voxels, g.skew_dimension, g.descending, g.tilt]
            for name, g in GEOMETRIES.items()
        },
        "bad": {
            f"{scan} {name}": not isinstance(outcome(geometry, scan, **change), str)
            for name, change in changes.items()
            for scan in ("stage", "z-stage", "objective", "none", "other")
        },
        "no tilt": outcome(lambda: geometry("objective", angle_deg=None).tilt),
    }


def of_grid(grid: OutputGrid) -> dict[str, Any]:
    """All numbers of a grid, arrays in a row."""
    points = np.array([[0.0, 0.0, 0.0], [0.4, 0.3, 1.2], [0.1, 0.9, 0.5]])
    lines = [*grid.plane_map.plane, *grid.plane_map.pixel, grid.plane_map.shear]
    affines = [np.array(each["affine"]).ravel() for each in grid.transformations()]
    return {
        "shape": grid.shape,
        "placed": [*grid.voxel_um, *grid.origin_um, *lines],
        "ranges": [[r.start, r.stop] for r in (grid.plane_map.rows, grid.plane_map.columns, grid.batch)],
        "reversed": grid.plane_map.reversed_planes,
        "valid": grid.valid,
        "voxels": grid.to_raw_voxels().ravel()[:12].tolist(),
        "um": grid.to_raw_um().ravel()[:12].tolist(),
        "raw": grid.raw_voxels(points).ravel().tolist(),
        "affines": bool(
            np.allclose(affines, [m.ravel()[:12] for m in (grid.to_raw_voxels(), grid.to_raw_um())])
        ),
    }


GRIDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "isotropic core": dict(isotropic=True, crop="core"),
    "coverslip": dict(frame="coverslip", grid_offset_um=0.05),
    "region": dict(grid_offset_um=-0.13, roi_um=((0.1, 0.52), (0.25, 0.94), (0.3, 1.35))),
}


@STAGE.scene
def grids(folder: Path) -> dict[str, Any]:
    """Output voxels of every scan in every frame, cropped and shifted."""
    some = [*[*GEOMETRIES][:6], "z-stage y -1", "objective x +1", "objective y -1", "none x +1"]
    found: dict[str, Any] = {
        f"{name}, {kind}": outcome(
            lambda g, o: of_grid(output_grid(g, SHAPE, **o)), GEOMETRIES[name], options
        )
        for name in some
        for kind, options in GRIDS.items()
    }
    one = geometry(step_um=0.104 / np.cos(np.radians(31.5)))
    grid = output_grid(one, SHAPE, roi_um=((0, 9), (0.104, 0.208), (-5, 0.312)))
    far = [((a, b), (0, 9), (0, 9)) for a, b in ((-1, -0.001), (0.7, 0.75), (0.05, 0.06), (0, 0))]
    return found | {
        "at centres": of_grid(grid),
        "edges": [outcome(lambda b: output_grid(one, SHAPE, roi_um=b).shape, box) for box in far],
        "coverslip core": outcome(output_grid, one, SHAPE, frame="coverslip", crop="core"),
        "too long": outcome(output_grid, geometry(step_um=1.0), SHAPE, crop="core"),
        "one plane": of_grid(output_grid(one, (1, 5, 6), isotropic=True)),
        "recorded": sorted(asdict(one)),
    }


@STAGE.scene
def weights(folder: Path) -> dict[str, Any]:
    """Tables of taps: edges, whole positions, short axes, both orders."""
    positions = np.array([0, 1e-7, 0.25, 0.9999995, 1, 1.6, 3 - 1e-7, 3.5, 4.999, 5, 5.3, 6])
    found: dict[str, Any] = {
        "split": split(positions),
        "cubic": cubic_convolution(np.array([0, 0.2, 0.5, 0.9])),
    }
    for pixels in (1, 2, 3, 4, 7):
        within = np.minimum(positions, pixels - 1)
        found[f"along {pixels}"] = [part for order in (1, 3) for part in weights_along(within, pixels, order)]
    maps = {
        name: output_grid(GEOMETRIES[name], shape, **options).plane_map
        for name, shape, options in (
            ("stage x +1", SHAPE, {}),
            ("stage y -1", SHAPE, dict(frame="coverslip")),
            ("z-stage x +1", (3, 4, 3), dict(isotropic=True)),
            ("objective x -1", (2, 3, 4), dict(frame="coverslip")),
            ("none x +1", (4, 3, 2), {}),
            ("stage x -1", SHAPE, dict(roi_um=((0.2, 0.5), (0, 9), (0.5, 1.1)))),
        )
    }
    maps["outside"] = maps["stage x +1"].cropped(range(2, 4), range(100, 103))
    maps["some rows are empty"] = maps["stage x +1"].cropped(range(7), range(3, 6))
    for name, plane_map in maps.items():
        for order in (1, 3):
            taps = make_taps(plane_map, order)
            found[f"{name} {order}"] = {
                "shape": [*taps.shape, *taps.block_shape, taps.block[0].start, taps.block[1].start],
                "offsets": taps.offsets,
                "first": taps.first,
                "start": taps.start,
                "weight": taps.weight,
                "mask": taps.mask,
                "runs": taps.runs,
            }
    level = PlaneMap(
        planes=3, pixels=4, plane=(1.0, 0.0, -1.0), pixel=(0.0, 0.5, 0.25), shear=0.0, reversed_planes=False,
        rows=range(6), columns=range(-2, 12),
    )  # fmt: skip
    found["valid columns"] = [level.valid_columns(k) for k in level.rows]
    return found


@STAGE.scene
def deskewed_frames(folder: Path) -> dict[str, Any]:
    """Voxels and projections: every frame and interpolation, both axes, both directions."""
    cases: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "cubic x": ("stage x +1", {}, {}),
        "cubic x back": ("stage x -1", {}, dict(threads=3, fill=41)),
        "cubic y": ("stage y +1", {}, dict(threads=2)),
        "linear y back": ("stage y -1", {}, dict(interpolation="linear")),
        "linear x": ("z-stage x +1", {}, dict(interpolation="linear")),
        "isotropic x": ("stage x +1", dict(isotropic=True), dict(threads=2)),
        "isotropic y": ("z-stage y -1", dict(isotropic=True), dict(interpolation="linear")),
        "coverslip x": ("stage x -1", dict(frame="coverslip"), dict(fill=1000.6)),
        "coverslip y": ("stage y +1", dict(frame="coverslip", crop="full"), {}),
        "coverslip objective": ("objective x +1", dict(frame="coverslip"), dict(interpolation="linear")),
        "region x": ("stage x +1", GRIDS["region"], {}),
        "region y": ("stage y +1", GRIDS["region"], {}),
        "fourier x": ("stage x +1", dict(grid_offset_um=0.03), dict(interpolation="fft")),
        "fourier y back": ("z-stage y -1", GRIDS["region"], dict(interpolation="fft", fill=12)),
        "upright": ("none x -1", {}, {}),
        "registered x": ("stage x +1", {}, dict(registration=SHIFTED)),
        "registered y": ("stage y -1", dict(isotropic=True), dict(registration=SHIFTED, threads=2)),
        "registered linear": ("z-stage x +1", {}, dict(registration=SHIFTED, interpolation="linear")),
        "registered region": ("stage y +1", GRIDS["region"], dict(registration=SHIFTED, fill=3)),
    }
    random = np.random.default_rng(1)
    camera = Camera(
        dark=random.uniform(80, 120, SHAPE[1:]).astype(np.float32),
        gain=random.uniform(0.6, 1.7, SHAPE[1:]).astype(np.float32),
    )
    found: dict[str, Any] = {}
    for name, (scan, options, settings) in cases.items():
        grid = output_grid(GEOMETRIES[scan], SHAPE, **options)
        plain = "" if settings.get("interpolation") == "fft" else "y"
        for flip, corrected in (
            (("", False), ("xy", True)) if "region" in name else ((plain, False), ("", True))
        ):
            used = replace(camera, flip=flip) if corrected else Camera(flip=flip)
            deskew = Deskew(grid=grid, camera=used, **settings)
            frame = deskew(RAW[deskew.region])
            found[f"{name} {flip} {corrected}"] = {
                "region": [(s.start, s.stop) for s in deskew.region],
                "fill": frame.fill,
                "voxels": frame.voxels,
                "projections": [frame.along_z, frame.along_y, frame.along_x],
            }
    deskew = Deskew(grid=output_grid(GEOMETRIES["stage x +1"], SHAPE))
    bad = np.zeros(SHAPE[1:], bool)
    bad[3, 4:6] = bad[0, 0] = bad[7:10, 6:9] = bad[5, 12] = True
    for name in ("cubic x", "cubic y", "registered y", "region x", "fourier y back"):
        scan, options, settings = cases[name]
        grid = output_grid(GEOMETRIES[scan], SHAPE, **options)
        raw = np.where(np.arange(SHAPE[2]) < 3, 4095, RAW).astype(np.uint16)
        used = replace(camera, flip="" if "fourier" in name else "xy", bad=bad)
        deskew = Deskew(grid=grid, camera=used, no_data=4095, **settings)
        frame = deskew(raw[deskew.region])
        found[f"{name}, bad pixels"] = [frame.fill, frame.voxels, frame.along_y]
    deskew = Deskew(grid=output_grid(GEOMETRIES["stage x +1"], SHAPE))
    found["bad"] = [outcome(deskew, raw) for raw in (RAW[:, 1:], RAW.astype(np.int32))]
    hot = RAW.copy()
    hot[3, 4:6, 8] = 65535
    hot[3, 4:6, 10] = 0
    found["clipped"] = deskew(hot[deskew.region]).voxels
    return found


@STAGE.scene
def combined(folder: Path) -> dict[str, Any]:
    """The loops beside their reference, wider than a block and a tile; halves of volumes."""
    wide = (5, 70, 80)
    maps = {
        "shear": output_grid(GEOMETRIES["stage x +1"], wide).plane_map,
        "linear": output_grid(GEOMETRIES["z-stage x -1"], wide).plane_map,
        "rotation": output_grid(GEOMETRIES["stage x -1"], wide, frame="coverslip").plane_map,
    }
    raw = counts(3, wide, 0, 3000)
    found: dict[str, Any] = {}
    for name, plane_map in maps.items():
        taps = make_taps(plane_map, 1 if name == "linear" else 3)
        block = raw[taps.block[0], :, taps.block[1]]
        reference = stored(combine_reference(torch.from_numpy(block.astype(np.float32)), taps, 55)).numpy()
        found[f"{name} reference"] = reference
        for last in (True, False):
            for count in (1, 2):
                part = np.ascontiguousarray(block if last else block.swapaxes(1, 2))
                shift = lambda p, low: p.astype(np.float32) + np.float32(low)  # noqa: E731
                out, peaks = combine(part, taps, 55, pixel_last=last, threads=count)
                same = out if last else out.swapaxes(1, 2)
                found[f"{name} {last} {count}"] = [
                    int(np.abs(same.astype(int) - reference).max()),
                    np.array_equal(peaks.along_k, np.maximum(same.max(0), 55)),
                    np.array_equal(peaks.along_batch, np.maximum(same.max(1), 55)),
                    np.array_equal(peaks.along_i, np.maximum(same.max(2), 55)),
                    combine(part, taps, 55, pixel_last=last, threads=count, correction=shift)[0],
                ]
            found[f"{name} device {last}"] = on_device(part, taps, last)
    found["corner"] = found["rotation reference"][:4, :3, 30:40]
    with pytest.raises(ValueError, match="table reads"):
        combine(block[:, :, 1:], taps, 0, pixel_last=True)
    with pytest.raises(ValueError, match="table reads"):
        combine_reference(torch.from_numpy(block[:, :, 1:].astype(np.float32)), taps, 0)
    line = torch.from_numpy(counts(1, (3, 9), 0, 50).astype(np.float32))
    found["displaced"] = [displaced(line, fraction) for fraction in (0.0, 0.3, -0.7, 5e-7)]
    found["stored"] = stored(torch.tensor([-1.0, 0.5, 1.5, 2.5, 65535.4, 70000.0])).numpy().tolist()
    volume = counts(5, (5, 6, 7), 0, 400)
    for factors in ((1, 2, 2), (2, 2, 2), (2, 1, 1), (1, 1, 2), (2, 2, 1)):
        found[f"halved {factors}"] = [
            halved(volume, factors),
            halved(volume[:, ::-1, :6].astype(np.float32), factors),
        ]
    thin = {"one plane": (1, 5, 6), "two planes": (2, 3, 2), "one pixel": (3, 4, 1), "six": (6, 6, 7)}
    matrix = np.array([[0.9, 0.05, 0.02, 0.1], [0.03, 0.95, 0, 0.2], [0.1, 0.04, 1.02, -0.3]])
    for name, shape in thin.items():
        for order, back in ((1, False), (3, True)):
            stack = counts(2, shape, 0, 500)
            arguments = (stack, matrix, 0.6, order, back, 7, (4, 5, 6))
            found[f"{name} {order}"] = combine_affine(*arguments, threads=2)
    return found


def on_device(raw: np.ndarray, taps: Any, pixel_last: bool) -> list[Any]:
    """Parts along the batch axis, as a GPU without room for all gets them."""
    batch = raw.shape[1 if pixel_last else 2]
    k, i = taps.shape
    out = np.empty((k, batch, i) if pixel_last else (k, i, batch), np.uint16)
    peaks = Projections.start(k, batch, i, 55)
    shift = lambda part, low: part.astype(np.float32) + np.float32(low)  # noqa: E731
    frame = combine_module._Frame(raw, taps, 55, shift, out, peaks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(combine_module, "DEVICE_SLAB_BYTES", 2**17)
        combine_module._on_device(frame, pixel_last, torch.device("cpu"))
    return [out, *peaks.arrays]


@STAGE.scene
def backgrounds(folder: Path) -> dict[str, Any]:
    """Histograms, quantiles, modes: of noise, of few values, of none."""
    random = np.random.default_rng(3)
    noise = np.rint(random.normal(104.3, 4, (6, 40, 41))).clip(0, 65535).astype(np.uint16)
    signal = noise.copy()
    signal[2:4, 5:30, 6:35] += 300
    dropped = noise.copy()
    dropped[:4] = 0
    frames = {
        "noise": noise,
        "signal": signal,
        "dropped": dropped,
        "zeros": np.zeros((3, 4), np.uint16),
        "constant": np.full((3, 4), 65535, np.uint16),
        "two values": np.array([7] * 5 + [9] * 6 + [0] * 20, np.uint16),
        "narrow": np.rint(random.normal(1.4, 0.6, 5000)).clip(0, 65535).astype(np.uint16),
        "skewed": np.rint(random.gamma(2.0, 30, 20000) + 90).astype(np.uint16),
        "top": np.rint(random.normal(65533, 2, 3000)).clip(0, 65535).astype(np.uint16),
        "spread": np.arange(0, 60000, 37).astype(np.uint16),
        "few": np.array([3, 5, 5, 6, 6, 6, 7, 9], np.uint16),
    }
    valid = np.arange(40)[:, None] % 3 > 0
    histogram = intensity_histogram(noise, valid)
    with pytest.raises(TypeError):
        intensity_histogram(noise.astype(np.int32))
    return {
        "modes": {name: estimate_background(frame) for name, frame in frames.items()},
        "masked": [int(histogram.sum()), histogram_mode(histogram), histogram[95:115]],
        "flat": np.array_equal(intensity_histogram(noise.ravel()), intensity_histogram(noise)),
        "quantiles": [histogram_quantile(histogram, f) for f in (0, 0.0001, 0.01, 0.25, 0.5, 0.99, 1)],
        "few": [histogram_quantile(intensity_histogram(frames["few"]), f / 16) for f in range(17)],
        "none": histogram_quantile(np.zeros(9, np.int64), 0.5),
    }


@STAGE.scene
def cameras(folder: Path) -> dict[str, Any]:
    """Dark images, flat fields, flips, and those that do not fit."""
    random = np.random.default_rng(4)
    light = random.uniform(300, 900, (6, 8)).astype(np.float32)
    light[0, :3] = 120
    images = {
        "dark": random.uniform(90, 110, (6, 8)),
        "flat": light,
        "exposures": random.uniform(80, 120, (3, 6, 8)),
        "night": np.full((6, 8), 60.0),
        "other": np.ones((6, 7)),
        "all": np.ones((6, 8)),
        "mask": np.arange(48).reshape(6, 8) % 7 == 0,
    }
    for name, image in images.items():
        tifffile.imwrite(folder / f"{name}.tif", image.astype(np.float32), photometric="minisblack")
    part = counts(1, (2, 6, 8), 80, 700)
    rows: dict[str, dict[str, Any]] = {
        "nothing": {},
        "flipped": dict(flip="xy"),
        "number": dict(dark="100.5", flip="x"),
        "dark": dict(dark="dark"),
        "exposures": dict(dark="exposures", flip="y"),
        "both": dict(dark="dark", flat="flat"),
        "both flipped": dict(dark="dark", flat="flat", flip="x"),
        "flat of a number": dict(dark="99", flat="flat"),
        "flat alone": dict(flat="flat"),
        "night": dict(dark="dark", flat="night"),
        "none": dict(dark="no"),
        "other": dict(dark="other"),
        "mask": dict(bad_pixels="mask"),
        "table": dict(bad_pixels="table", dark="dark", flat="flat", flip="y"),
        **{name: dict(bad_pixels=name) for name in ("all", "other", "far", "words", "torn", "no")},
    }
    (folder / "table.tsv").write_text("x\ty\n1\t2\n\n7\t5\n")
    (folder / "far.tsv").write_text("y\tx\n6\t0\n")
    (folder / "words.tsv").write_text("1,2\n")
    (folder / "torn.tif").write_bytes(b"II*")
    found: dict[str, Any] = {}
    for name, cells in rows.items():
        paths = {k: str(folder / f"{v}.tif") if v in (*images, "no") else v for k, v in cells.items()}
        if "bad_pixels" in cells:
            kind = "tsv" if cells["bad_pixels"] in ("table", "far", "words") else "tif"
            paths["bad_pixels"] = str(folder / f"{cells['bad_pixels']}.{kind}")
        camera = outcome(Camera.of, sheet_row("x", **paths), (6, 8), [(1, 1)] if name == "mask" else [])
        if isinstance(camera, str):
            found[name] = camera
            continue
        region = camera.region((slice(1, 2), slice(2, 5), slice(1, 3)), (2, 6, 8))
        if camera.bad is not None:
            found[f"bad pixels {name}"] = [camera.bad, Repair.of(camera.bad)(part)]
        found[name] = [camera.flip, [(s.start, s.stop) for s in region], camera.oriented(part)[0]]
        if camera.dark is not None:
            found[name] += [camera.dark, camera.gain]
            found[name] += [camera.corrected(camera.oriented(part)[:, 1:4, 2:7], slice(1, 4), slice(2, 7))]
    return found


@STAGE.scene
def filled_borders(folder: Path) -> dict[str, Any]:
    """Which values are borders, where they are, and the parts between them."""
    shape = (5, 36, 44)
    z, y, x = np.indices(shape)
    image = np.rint(np.random.default_rng(4).normal(120, 6, shape)).astype(np.uint16)
    outside = {"sheared": (x < 3 + 2 * z) | (x > 30 + 2 * z), "turned": (x + y < 14) | (x + y > 66)}
    outside |= {"thin": (x < 1) & (y < 10), "few planes": (x < 20) & (z < 2), "planes": z < 1}
    outside |= {"all but one": (x != 20) | (y != 20), "everywhere": x >= 0, "nowhere": x < 0}
    found: dict[str, Any] = {}
    for name, where in outside.items():
        for value in (0, 70, 90, 120, 240, 4095):
            stack = np.where(where, value, image).astype(np.uint16)
            region = no_data_region(stack, value)
            parts = [part.shape for part in inner_parts(stack, region)]
            found[f"{name} {value}"] = [no_data_value(stack), int(region.sum()), parts]
    clipped = np.maximum(image, 120) - 120
    return found | {f"clipped, {factor} times": no_data_value(clipped * factor) for factor in (1, 16)}


@STAGE.scene
def registrations(folder: Path) -> dict[str, Any]:
    """Affines that are taken, and where they lead."""
    mirrored = np.diag([1.0, 1, -1, 1])
    files: dict[str, Any] = {
        "good": SHIFTED.tolist(), "mirrored": mirrored.tolist(), "flat": np.diag([1, 0, 1, 1]).tolist(),
        "small": SHIFTED[:3].tolist(), "projective": (SHIFTED + 0.1 * np.eye(4)).tolist(), "text": "a",
        "ragged": [[1, 2], [3]], "none": [[None] * 4] * 4,
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, content in files.items():
        write_json(folder / "r.json", content)
        found[name] = outcome(read_registration, folder / "r.json")
    for name in ("stage x +1", "stage y -1", "z-stage x +1"):
        grid = output_grid(GEOMETRIES[name], SHAPE, **GRIDS["region"])
        found[f"map {name}"] = registered_map(grid, SHIFTED).ravel().tolist()
    return found


@STAGE.scene
def deskewed_movies(folder: Path) -> dict[str, Any]:
    """Whole movies: stores, projections, TIFF files, records, bad frames, parts, what is computed again."""
    for channel, seed in (("488nm", 0), ("560nm", 10)):
        for frame in range(4):
            stack = counts(seed + frame, SHAPE, 90 + frame, 300 + 100 * frame)
            if (channel, frame) == ("560nm", 2):
                stack[:] = 0
            tifffile.imwrite(folder / f"{channel}_t{frame}.tif", stack, photometric="minisblack")
            os.utime(folder / f"{channel}_t{frame}.tif", ns=(1000, 1000))
    for frame in range(4):
        black = np.where(np.arange(SHAPE[2]) < 4 + frame, 0, counts(frame, SHAPE, 90, 300)).astype(np.uint16)
        tifffile.imwrite(folder / f"black_t{frame}.tif", black, photometric="minisblack")
    write_json(folder / "shift.json", SHIFTED.tolist())
    write_json(folder / "other.json", (SHIFTED + 0.01 * np.eye(4, k=3)).tolist())
    acquisition = Acquisition(
        scan="stage", angle_deg=31.5, step_um=0.21, pixel_um=0.104, interval_s=2.0, skew_axis="x", scan_sign=1
    )

    def run(
        name: str,
        channels: Sequence[str],
        part: Any = "all",
        changes: Any = None,
        about: Any = None,
        **given: Any,
    ) -> Any:
        of = MovieRecord(
            movie="cell", channels=list(channels), paths=[], train=False, acquisition=acquisition, frames=4,
            shape_zyx=SHAPE, dtype="uint16",
        )  # fmt: skip
        rows = [
            sheet_row(folder / f"{c}_t*.tif", channel=c, **((changes or {}).get(c, {}))) for c in channels
        ]
        output = folder / name / "deskewed.json"
        preview = None
        if (told := given.pop("found", None)) is not None:
            write_json(preview := folder / f"{name}.json", told)
        arguments: dict[str, Any] = dict(device="cpu", version="1", skip_bad=True) | (about or {})
        deskew_movie(
            rows, replace(of, skipped={1: "gone"}) if given.pop("skipped", False) else of,
            resolve(rows, ReadingParameters()).table, output, DeskewParameters(**(PLAIN | given)),
            part=Part.parse(part), threads=1, preview=preview, **arguments,
        )  # fmt: skip
        return output

    def seen(output: Path) -> dict[str, Any]:
        content = read_json(output)
        movie = DeskewedMovie(output)
        about = content["about"]
        ledger = (output.parent / "ledger" / "deskew.jsonl").read_text().splitlines()
        return {
            "frames": sorted(content["checksums"]),
            "skipped": sorted(content["skipped"]),
            "fills": about["fills"],
            "geometry": about["geometry"],
            "voxels": [movie.store.read(f, slice(None)) for f in movie.first_frames(9)],
            "projections": {
                axis: zarr.open_array(output.parent / path / "0")[:] for axis, path in PROJECTIONS.items()
            },
            "shown": [
                c["window"] for c in zarr.open_group(movie.store.path).attrs["ome"]["omero"]["channels"]
            ],
            "placed": [movie.voxel_um, movie.store.origin_um, movie.interval_s, movie.frames],
            "valid": movie.valid,
            "raw": movie.raw_voxels(np.array([[0.1, 0.2, 0.9]])).tolist(),
            "lines": len(ledger),
            "stores": content["stores"],
            "matrix": np.array(about["coordinateTransformations"][0]["affine"]),
        }

    found: dict[str, Any] = {"two": seen(run("two", ("488nm", "560nm"), tiff=True))}
    tiffs = sorted((folder / "two" / "deskewed_tiff").iterdir())
    with tifffile.TiffFile(tiffs[-1]) as tif:
        voxels = tif.asarray()
        sizes = [float(v) for v in sorted(set(_sizes(tif.ome_metadata)))]
        found["tiffs"] = [[path.name for path in tiffs], voxels, tif.series[0].axes, sizes]

    masked: dict[str, Any] = dict(found={"no_data": {"black": 0}, "hot_pixels": {"black": [[3, 4]]}})
    for part in ("0-0", "0-2", "2-4", "all"):
        black = run("black", ("black", "560nm"), part, **masked)
    found["black"] = seen(black) | {"about": read_json(black)["about"]["bad_pixels"]}
    found["kept"] = seen(run("kept", ("black",), skipped=True, hot_pixels="keep", **masked))

    def run_again() -> int:
        run("two", ("488nm", "560nm"), tiff=True)
        return len((folder / "two" / "ledger" / "deskew.jsonl").read_text().splitlines())

    found["again"] = run_again()
    tiffs[0].unlink()
    found["a TIFF was gone"] = [run_again(), tiffs[0].exists()]
    os.utime(folder / "488nm_t0.tif", ns=(2000, 2000))
    found["touched"] = run_again()
    for part in ("0-0", "0-2", "2-4", "all"):
        run("parts", ("488nm",), part, skipped=True)
    found["parts"] = seen(folder / "parts" / "deskewed.json")
    shifted = {"560nm": dict(registration=str(folder / "shift.json"), dark="95", flip="y")}
    found["registered"] = seen(run("registered", ("488nm", "560nm"), changes=shifted, crop="core"))
    first = {"488nm": dict(registration=str(folder / "shift.json"))}
    settings: dict[str, dict[str, Any]] = {
        "plain": {},
        "isotropic": dict(isotropic=True),
        "fill": dict(fill=3),
        "offset": dict(grid_offset_um=0.01),
        "linear": dict(interpolation="linear"),
        "tiff": dict(tiff=True),
        "version": dict(about=dict(version="2")),
        "dark": dict(changes={"488nm": dict(dark="95")}),
        "flip": dict(changes={"488nm": dict(flip="x")}),
        "nothing found": dict(found={"hot_pixels": {"488nm": []}, "no_data": {"488nm": None}}),
        "hot pixel": dict(found={"hot_pixels": {"488nm": [[1, 2]]}}),
        "border": dict(found={"no_data": {"488nm": 3}}),
        "region": dict(changes={"488nm": dict(roi_um="0:0.5,0:1,0:1")}),
    }
    keys = {
        name: read_json(run("key", ("488nm",), "0-0", **options))["about"]["key"]
        for name, options in settings.items()
    }
    two = {
        name: read_json(
            run(
                "key",
                ("488nm", "560nm"),
                "0-0",
                changes={"560nm": dict(registration=str(folder / f"{name}.json"))},
            )
        )["about"]["key"]
        for name in ("shift", "other")
    }
    found["keys"] = [keys[name] == keys["plain"] for name in keys] + [two["shift"] == two["other"]]
    found["refused"] = [
        outcome(run, "bad", ("488nm", "560nm"), about=dict(skip_bad=False)),
        outcome(run, "bad", ("488nm",), changes=first),
        outcome(run, "bad", ("488nm", "560nm"), changes=shifted, interpolation="fft"),
    ]
    bare = MovieRecord(movie="a", channels=[], paths=[], train=False)
    upright = replace(acquisition, scan="none", angle_deg=None, skew_axis=None)
    found["geometries"] = [ScanGeometry.of(a) for a in (acquisition, upright)]
    found["unusable"] = outcome(bare.usable)
    for isotropic, frame in ((True, "deskewed"), (False, "coverslip"), (False, "deskewed")):
        given = PLAIN | dict(interpolation="fft", isotropic=isotropic, frame=frame)
        found[f"fft {isotropic} {frame}"] = _is_valid(given)
    return found


def _sizes(ome_xml: str | None) -> list[str]:
    import re

    return re.findall(r'PhysicalSize[XYZ]="(.*?)"', ome_xml or "")


def _is_valid(parameters: dict[str, Any]) -> bool:
    try:
        return bool(DeskewParameters(**parameters))
    except ValueError:
        return False


@STAGE.scene
def light_of_frames(folder: Path) -> dict[str, Any]:
    """Dark, constant and rounded frames, and how they are named."""
    usual = counts(0, (4, 20, 24), 90, 120)
    usual[1:3, 5:8, 5:9] += 400
    stacks = [usual, usual // 4 + 70, counts(1, (4, 20, 24), 95, 99), np.full((4, 20, 24), 100, np.uint16)]
    stacks = [*stacks, usual, counts(2, (4, 20, 24), 95, 99), usual * 8, np.zeros_like(usual), usual]
    lights = [frame_light(stack) for stack in stacks]
    fractions = [usual / 100, usual / 3, usual + 0.5, usual * 100.5, usual.astype(np.float32), usual]
    rounded = [rounding_of(stack) for stack in fractions]
    facts = {
        9 - n: {"light": [asdict(light)], "rounding": [loss and asdict(loss)]}
        for n, (light, loss) in enumerate(zip(lights, [*rounded, None, None, None], strict=True))
    }
    return {
        "lights": [[light, light.has_signal] for light in lights],
        "dark": dark_frames(dict(enumerate(lights))),
        "all dark": dark_frames(dict.fromkeys(range(3), lights[2])),
        "rounded": [loss and [loss, loss.loses, loss.factor, len(str(loss)) > 9] for loss in rounded],
        "narrow": rounding_of(np.full((3, 4, 1), 0.5)),
        "lines": [len(frame_warnings(facts | {0: {}}, ["a"])), frame_warnings({}, ["a", "b"])],
        "listed": [listed([3]), listed([1, 2, 4]), listed(range(0, 30, 3))],
    }


def test_results_of_deskewing(tmp_path: Path, write_golden: bool) -> None:
    STAGE.check(tmp_path, write=write_golden)
