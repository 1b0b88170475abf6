"""Golden values of the preview: measures of raw frames and of what changes between them, and its pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from golden import Stage
from PIL import Image
from raw_inputs import counts, outcome, sheet_row

from spatialdino_core.files import read_json
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.movies.resolve import resolve
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.quality.bleaching import signal_trend
from spatialdino_core.quality.channel import channel_metrics, frames_to_look_at, look_at
from spatialdino_core.quality.coherence import SpotMaxima, noise_p_value, spot_maxima
from spatialdino_core.quality.geometry_check import compare, image_shift, shift_measures
from spatialdino_core.quality.hot_pixels import hot_pixels
from spatialdino_core.quality.metrics import frame_metrics
from spatialdino_core.quality.motion import motion_image, rigid_shift
from spatialdino_core.quality.pictures import grey, grey_range, max_projection, middle_plane, reduced, tiled
from spatialdino_core.quality.plane_correlation import added, plane_correlations
from spatialdino_core.quality.plane_shift import plane_shift
from spatialdino_core.quality.planes import (
    FRAMES_IN_A_ROW,
    alike_throughout,
    covariance_by_lag,
    ends_and_neighbours,
    frames_move_as_planes,
    pass_through_focus,
    returning,
    texture,
)
from spatialdino_core.quality.plausibility import check_plausible, evidence_of, plausibility_warnings
from spatialdino_core.quality.preview import preview_movie

MODULES = [
    "bleaching",
    "channel",
    "coherence",
    "geometry_check",
    "hot_pixels",
    "metrics",
    "motion",
    "pictures",
    "plane_correlation",
    "plane_shift",
    "planes",
    "plausibility",
]
MODULES += ["preview", "seams"]
STAGE = Stage("preview", [f"quality/{name}.py" for name in MODULES])
SHAPE = (5, 36, 44)
X = np.arange(44)
ACQUISITION = Acquisition(
    scan="stage", angle_deg=31.5, step_um=0.4, pixel_um=0.13, interval_s=2.5, skew_axis="x", scan_sign=1
)
GEOMETRY, OPTICS = ScanGeometry.of(ACQUISITION), OpticsParameters()


def scene(
    seed: int,
    brightness: float = 900,
    shift: tuple[float, float] = (0, 0),
    sigma: float = 1.3,
    spots: int = 14,
) -> np.ndarray:
    """Particles over an offset, with photon and camera noise, uint16 (z, y, x)."""
    places = np.random.default_rng(1)
    light = np.full(SHAPE, 20.0)
    z, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij", sparse=True)
    for _ in range(spots):
        cz, cy, cx = places.uniform([0, 5, 6], [4, 30, 37])
        square = (z - cz) ** 2 / 2 + (y - cy - shift[0]) ** 2 + (x - cx - shift[1]) ** 2
        light += brightness * places.uniform(0.3, 1) * np.exp(-square / (2 * sigma**2))
    noise = np.random.default_rng(seed)
    return np.rint(np.clip(noise.poisson(light) + noise.normal(100, 3, SHAPE), 0, 65535)).astype(np.uint16)


@STAGE.scene
def spots(folder: Path) -> dict[str, Any]:
    """Points that go on from plane to plane, noise alone, borders without data, a band of a large frame."""
    z, y, x = np.ogrid[:30, :64, :72]
    rng, light = np.random.default_rng(3), np.full((30, 64, 72), 10.0)
    for a, b, c in rng.uniform([3, 5, 5], [27, 59, 67], (25, 3)):
        along = x - c + GEOMETRY.shear_voxels * (z - a)
        light += 12 * np.exp(-((z - a) ** 2 / 4.8 + (y - b) ** 2 / 2 + along**2 / 2))
    stack = (100 + rng.poisson(light)).astype(np.uint16)
    noise = (100 + rng.poisson(np.full(light.shape, 10.0))).astype(np.uint16)
    border = np.zeros(light.shape, bool)
    border[:, :20] = True
    empty = np.full(light.shape, 7, np.uint16)
    backwards, up = replace(GEOMETRY, scan_sign=-1), replace(GEOMETRY, skew_axis="y")
    cases: dict[str, tuple[Any, ...]] = {
        "usual": (stack, GEOMETRY, OPTICS), "noise": (noise, GEOMETRY, OPTICS),
        "flat": (empty, GEOMETRY, OPTICS),
        "backwards": (stack, backwards, OPTICS), "along y": (stack.swapaxes(1, 2), up, OPTICS),
        "border": (stack, GEOMETRY, OPTICS, border), "thin": (stack[:10], GEOMETRY, OPTICS),
        "wide": (np.tile(noise, (1, 8, 8)), GEOMETRY, OPTICS),
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, case in cases.items():
        maxima = spot_maxima(5, *case)
        found[name] = None if maxima is None else [maxima, noise_p_value([maxima, maxima])]
    few = SpotMaxima(*(np.array(values, np.float32) for values in ([3, 4, 5, 30, 31], [3, 4, 5], [3])))
    return found | {"few": [noise_p_value([few] * n, mirrored=m) for n in (1, 3) for m in (False, True)]}


@STAGE.scene
def shifts_between_planes(folder: Path) -> dict[str, Any]:
    """Points declared rightly and wrongly, noise, a border without data, few planes, several tiles."""
    shape, rng = (28, 60, 72), np.random.default_rng(5)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    light = np.full(shape, 10.0)
    for a, b, c in rng.uniform(0, shape, (40, 3)):
        along = x - c + GEOMETRY.shear_voxels * (z - a)
        light += 25 * np.exp(-((z - a) ** 2 / 4.8 + (y - b) ** 2 / 2 + along**2 / 2))
    stack = (100 + rng.poisson(light)).astype(np.uint16)
    noise = (100 + rng.poisson(np.full(shape, 10.0))).astype(np.uint16)
    border = np.zeros(shape, bool)
    border[:, :12] = True
    backwards, up = replace(GEOMETRY, scan_sign=-1), replace(GEOMETRY, skew_axis="y")
    upright = replace(GEOMETRY, scan="none", angle_deg=None, step_um=0.2)
    cases: dict[str, tuple[Any, ...]] = {
        "usual": (stack, GEOMETRY), "noise": (noise, GEOMETRY), "backwards": (stack, backwards),
        "along y": (stack.swapaxes(1, 2), up), "other axis": (stack, up), "upright": (stack, upright),
        "border": (stack, GEOMETRY, border), "thin": (stack[:12], GEOMETRY),
        "wide": (np.tile(stack, (1, 5, 4)), GEOMETRY), "steep": (stack, replace(GEOMETRY, angle_deg=55)),
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, (stack_here, geometry, *no_data) in cases.items():
        planes = plane_correlations(1, stack_here, geometry, OPTICS, *no_data)
        shift = None if planes is None else plane_shift(planes)
        words = [compare(shift, geometry, flip) for flip in ("", "x", "xy")]
        numbers = [[float(n) for n in re.findall(r"\d+\.\d+", one.reason)] for one in words]
        found[name] = [
            shift,
            image_shift(geometry),
            [one.word for one in words],
            numbers,
            shift_measures(shift),
        ]
    one = plane_correlations(0, stack, GEOMETRY, OPTICS)
    twice = added(one, added(None, one))
    return found | {"twice": None if twice is None else plane_shift(twice)}


@STAGE.scene
def measures_of_frames(folder: Path) -> dict[str, Any]:
    """Stacks of every kind: dim, blurred, saturated, broken, of other types, very small."""
    usual = scene(0)
    broken = usual.copy()
    broken[1] = 0
    broken[2] = 777
    broken[4] = broken[3]
    stacks: dict[str, np.ndarray] = {
        "usual": usual,
        "dim": scene(1, brightness=20),
        "blurred": scene(2, sigma=2.6, brightness=600),
        "sharp": scene(6, sigma=0.55, brightness=2000),
        "noise": scene(3, spots=0),
        "faint": scene(4, brightness=9),
        "broken": broken,
        "floats": usual.astype(np.float32) + np.float32(0.4),
        "small floats": usual.astype(np.float32) / 7 - 12,
        "bytes": np.clip(usual // 2, 0, 255).astype(np.uint8),
        "steps of one": np.random.default_rng(5).integers(100, 102, SHAPE).astype(np.uint16),
        "narrow": usual[:, :, :2],
        "just wide enough": usual[:, :3, :7],
        "too narrow for detail": usual[:, :4, :5],
        "a gradient": np.rint(usual + 40 * np.arange(44)).astype(np.uint16),
        "zeros": np.zeros(SHAPE, np.uint16),
        "constant": np.full(SHAPE, 300, np.uint16),
        "integers": usual.astype(np.int32) * 150,
    }
    for full in (255, 1023, 1024, 2047, 4095, 16383, 65535, 65534):
        stacks[f"saturated at {full}"] = np.where(usual > 800, full, np.minimum(usual, full)).astype(
            np.uint16
        )
    return {name: frame_metrics(stack) for name, stack in stacks.items()}


@STAGE.scene
def hot_pixels_and_filled_borders(folder: Path) -> dict[str, Any]:
    """Pixels that are a little too bright, very much, in pairs, at borders; borders of one value."""
    found: dict[str, Any] = {}
    places = {"lone": [(9, 8)], "pair": [(20, 30), (20, 31)], "edges": [(0, 12), (35, 20), (15, 43), (0, 0)]}
    for name, pixels in places.items():
        for excess in (12, 25, 60, 500):
            stack = scene(7, brightness=120)
            for y, x in pixels:
                stack[:, y, x] += excess
            found[f"{name} {excess}"] = hot_pixels(stack).tolist()
    some = scene(7, brightness=120)
    some[:4, 9, 8] += 500
    found["not in all planes"] = hot_pixels(some).tolist()
    z, y, x = np.indices(SHAPE)
    outside = {"sheared": (x < 3 + 2 * z) | (x > 30 + 2 * z), "turned": (x + y < 14) | (x + y > 66)}
    for name, where in outside.items():
        for value in (0, 4095):
            stack = np.where(where, value, scene(8)).astype(np.uint16)
            found[f"{name} {value}"] = asdict(look_at(0, stack, GEOMETRY, OPTICS)) | {"content": None}
    return found


@STAGE.scene
def trends_of_signals(folder: Path) -> dict[str, Any]:
    """Bleaching, scatter that is none, frames without signal."""
    signals: dict[str, Sequence[float]] = {
        "steady": [100, 101, 99.5, 100.2, 100.1],
        "bleaching": [100, 78, 62, 50, 39],
        "scattered": [100, 108, 81, 97, 79],
        "barely": [100, 88, 93, 80, 84],
        "growing": [50, 60, 70, 90, 100],
        "dark from the third": [100, 90, 0, 80, 70],
        "dark from the fourth": [100, 80, 66, 0, 70],
        "dark": [0, 90, 80],
        "two": [100, 70],
        "three": [100, 80.2, 64],
        "one": [100],
        "exact": [100, 90, 81],
    }
    frames = [0, 2, 3, 7, 9]
    return {
        name: [
            signal_trend(frames[: len(s)], s, times) for times in ([0, 5, 7.5, 17.5, 22.5], [0, 5, 8, 90, 95])
        ]
        for name, s in signals.items()
    }


@STAGE.scene
def motion_between_frames(folder: Path) -> dict[str, Any]:
    """Shifts of the sample, and images that have too little in common."""
    before = motion_image(scene(0, sigma=1.6))
    found: dict[str, Any] = {"image": before}
    shifts = {"down": (3.4, 0), "left": (0, -2.2), "both": (-1.7, 4.15), "none": (0, 0)}
    for name, shift in shifts.items():
        moved = rigid_shift(before, motion_image(scene(1, shift=shift, sigma=1.6)))
        found[name] = [moved, moved.length_um(0.13) if moved else None]
    others = {
        "far": motion_image(np.roll(scene(2, sigma=1.6), 16, axis=2)),
        "not so far": motion_image(np.roll(scene(2, sigma=1.6), 11, axis=1)),
        "noise": motion_image(scene(3, spots=0)),
        "nothing": np.zeros_like(before),
        "hot": motion_image(np.where(np.arange(44) == 20, 4000, scene(3))),
        "little": np.float32(0.4) * before + motion_image(np.roll(scene(5, spots=9), 9, axis=1)),
        "less": np.float32(0.1) * before + motion_image(np.roll(scene(5, spots=9), 9, axis=1)),
    }
    for name, image in others.items():
        found[name] = [rigid_shift(before, image), rigid_shift(image, before)]
    return found


@STAGE.scene
def channels_over_time(folder: Path) -> dict[str, Any]:
    """What is put together from several frames, and which frames are looked at."""
    shifts = [(0, 0), (0.9, 0.2), (2.4, 1.1), (3.1, 2.2)]
    stacks = [scene(n, brightness=900 * 0.8**n, shift=shift) for n, shift in enumerate(shifts)]
    stacks[2][1] = stacks[2][0]
    stacks[1][3] = 5
    stacks[3] = np.minimum(stacks[3] + 7, 255).astype(np.uint16)
    looks = [
        look_at(frame, stack, GEOMETRY, OPTICS) for frame, stack in zip((0, 1, 5, 9), stacks, strict=True)
    ]
    times = 2.5 * np.arange(10)
    twice = [*looks[:2], replace(looks[1], frame=6), replace(looks[0], frame=7)]
    return {
        "four": channel_metrics(looks, 0.13, times),
        "one": channel_metrics(looks[:1], 0.13, times[:1]),
        "two": channel_metrics(looks[:2], 0.13, times),
        "repeated": channel_metrics(twice, 0.13, times),
        "after a pause": channel_metrics(looks, 0.13, times + 60 * (np.arange(10) > 4)),
        "strided": look_at(0, np.asfortranarray(stacks[0]), GEOMETRY, OPTICS).content == looks[0].content,
        "frames": [
            frames_to_look_at(usable, number)
            for usable in ([3], [3, 4], [0, 2, 3, 5, 8, 9, 12, 13, 14, 20, 21])
            for number in (1, 2, 3, 5, 20)
        ],
    }


@STAGE.scene
def pictures_of_frames(folder: Path) -> dict[str, Any]:
    """Projections, planes, grey values, sheets of pictures."""
    stack = counts(0, (4, 12, 15))
    wide = counts(1, (403, 9), 0, 5000)
    images = {f"{y}x{x}": reduced(counts(y, (y, x), 0, 900)) for y, x in ((400, 3), (401, 3), (5, 803))}
    image = max_projection(stack)
    return images | {
        "wide": reduced(wide),
        "projection": image,
        "middle": [middle_plane(stack), middle_plane(stack[:3]), middle_plane(stack[:1])],
        "range": grey_range(wide.astype(np.float32)),
        "grey": [grey(image, grey_range(image)), grey(image, (150.0, 150.0)), grey(image, (0.0, 400.0))],
        "tiled": tiled([[np.full((3, 5), 10 * r + c, np.uint8) for c in range(1, 4)] for r in range(1, 3)]),
    }


@STAGE.scene
def previews_of_movies(folder: Path) -> dict[str, Any]:
    """Whole previews: two channels, bad frames, movies that cannot be used."""
    for channel, seed in (("a", 0), ("b", 50)):
        for frame in range(8):
            stack = scene(
                seed + frame, brightness=(900 + 4 * seed) * 0.85**frame, shift=(0.7 * frame, -0.3 * frame)
            )
            tifffile.imwrite(folder / f"{channel}_t{frame}.tif", stack, photometric="minisblack")
            stack[:, 30, 11] = 4000
            stack[:, 12, 40] += 900 if frame != 1 else 0
            tifffile.imwrite(folder / f"{'dh'[channel == 'b']}_t{frame}.tif", np.where(X < 9, 0, stack))
    zeros = np.zeros(SHAPE, np.uint16)
    bad = {
        "first": [0],
        "second": [1],
        "middle": [4],
        "last": [7],
        "all": list(range(8)),
        "all-but-one": list(range(1, 8)),
    }
    for name, frames in bad.items():
        for frame in range(8):
            stack = zeros if frame in frames else scene(frame, shift=(0.5 * frame, 0))
            tifffile.imwrite(folder / f"{name}_t{frame}.tif", stack, photometric="minisblack")

    def record(channels: Sequence[str], **changes: Any) -> MovieRecord:
        about: dict[str, Any] = dict(acquisition=ACQUISITION, frames=8, shape_zyx=SHAPE, dtype="uint16")
        return MovieRecord(
            **({"movie": "m", "channels": channels, "paths": [], "train": False} | about | changes)
        )

    def previewed(of: MovieRecord, frames: int = 4, skip_bad: bool = False) -> dict[str, Any]:
        rows = [sheet_row(folder / f"{channel}_t*.tif", channel=channel) for channel in of.channels]
        measures, picture = folder / "m.json", folder / "m.png"
        found = outcome(resolve, rows, ReadingParameters())
        empty = AcquisitionTable(channels=tuple(of.channels), frames=0, stacks={})
        table = empty if isinstance(found, str) else found.table
        how: dict[str, Any] = {"optics": OPTICS, "frames": frames, "skip_bad": skip_bad, "state": "of files"}
        preview_movie(rows, of, table, measures, picture, **how)
        found = read_json(measures)
        return found | {
            "panels": len(found.get("panels", [])),
            "problem": found["problem"] is not None,
            "warnings": len(found["warnings"]),
            "picture": np.asarray(Image.open(picture)),
        }

    found = {
        "two channels": previewed(record("ab")),
        "all frames": previewed(record("a"), frames=20),
        "one frame": previewed(record("a"), frames=1),
        "two frames": previewed(record("b"), frames=2),
        "hot and filled": previewed(record("dh")),
        "skipped": previewed(record("a", skipped={0: "x", 3: "y", 7: "z"}), frames=3),
        "unusable": previewed(record("a", problem="no")),
        "no files": previewed(record("c")),
    }
    for name, missing in (("exchanged", None), ("torn", 9)):
        for frame, plane in enumerate(volume(0)):
            stack = recorded(np.repeat(plane[None], 5, 0), frame) * (frame != missing)
            tifffile.imwrite(folder / f"{name}_t{frame}.tif", stack, photometric="minisblack")
        found[name] = previewed(record([name], frames=24, shape_zyx=(5, 48, 64)))
    for name in bad:
        for skip_bad in (False, True):
            found[f"{name} bad {skip_bad}"] = previewed(record([name]), frames=3, skip_bad=skip_bad)
    return {name: thinned(preview) for name, preview in found.items()}


def volume(seed: int, shift: float = 0.0, shape: tuple[int, int, int] = (24, 48, 64)) -> np.ndarray:
    """Particles at random, sheared along x by ``shift`` pixels per plane, float (z, y, x)."""
    places = np.random.default_rng(seed).uniform(0, 1, (40, 3)) * shape
    z, y, x = (np.arange(n) for n in shape)
    across = x + shape[2] / 2 - places[:, 2, None, None] - shift * z[None, :, None]
    across = across % shape[2] - shape[2] / 2
    return 10 + 200 * np.einsum(
        "nz,ny,nzx->zyx",
        np.exp(-((z - places[:, :1]) ** 2) / 3.4),
        np.exp(-((y - places[:, 1:2]) ** 2) / 3.2),
        np.exp(-(across**2) / 3.2),
    )


def recorded(light: np.ndarray, seed: int = 9) -> np.ndarray:
    noise = np.random.default_rng(seed)
    return np.rint(noise.poisson(light) + noise.normal(100, 1.5, light.shape)).astype(np.uint16)


@STAGE.scene
def likeness_of_planes(folder: Path) -> dict[str, Any]:
    """Volumes, and what is no volume: time points and channels in one stack, frames that are planes."""
    found: dict[str, Any] = {}
    for shift in (0.0, 3.3):
        whole = [volume(seed, shift) for seed in range(4)]
        stacks = {
            "a volume": whole[0],
            "time points": np.concatenate([whole[0]] * 3),
            "incomplete": np.concatenate([whole[0]] * 3)[:67],
        }
        stacks |= {f"{n} channels": np.stack(whole[:n], 1).reshape(-1, 48, 64) for n in (2, 3, 4)}
        for name, light in stacks.items():
            seen = texture(recorded(light))
            turned = replace(seen, planes=seen.planes.swapaxes(1, 2))
            found[f"{name}, {shift:g}"] = [
                seen.power, seen.planes, covariance_by_lag(seen).sum(axis=1),
                returning(seen, shift), returning(turned, shift, "y"), returning(seen),
            ]  # fmt: skip
    images = {
        "exchanged": list(volume(0)),
        "moving": [np.roll(volume(0)[5], round(1.5 * n), 1) for n in range(24)],
    }
    for name, planes in images.items():
        frames = [texture(recorded(np.repeat(plane[None], 4, 0), n)) for n, plane in enumerate(planes)]
        ends = [ends_and_neighbours(frame) for frame in frames]
        row = [frame.mean for frame in frames[7 : 7 + FRAMES_IN_A_ROW]]
        found[name] = [
            np.stack(ends),
            alike_throughout(ends),
            pass_through_focus(row),
            pass_through_focus(row[1:]),
        ]
    skewed = [
        texture(recorded(np.stack([volume(n, 3.3)[plane] for n in range(4)]))) for plane in range(7, 17)
    ]
    for name, frames in {"planes": skewed, "thin": [texture(counts(3, (2, 40, 50)))] * 2}.items():
        found[f"{name} that follow"] = [
            frames_move_as_planes(frames, 3.3, sure=sure) for sure in (True, False)
        ] + [frames_move_as_planes(frames[:1], 3.3), frames_move_as_planes(frames, 1.0)]
    odd = {"thin": (2, 40, 50), "small": (9, 10, 50), "one": (1, 40, 50), "dark": (9, 40, 50)}
    for name, shape in odd.items():
        seen = texture(np.full(shape, 100, np.uint16) if name == "dark" else counts(3, shape))
        ends = ends_and_neighbours(seen)
        found[name] = [returning(seen), returning(seen, 3.3), ends, alike_throughout([ends])]
    found["coming and going"] = pass_through_focus(
        [volume(n)[3].astype(np.float32) for n in range(FRAMES_IN_A_ROW)]
    )
    return found


@STAGE.scene
def judgements_of_content(folder: Path) -> dict[str, Any]:
    """What is refused and warned of: planes, counts, fractions."""
    upright = replace(ACQUISITION, scan="none", angle_deg=None, skew_axis=None)
    one = recorded(volume(0))
    flat = recorded(np.concatenate([volume(0)] * 3))
    turns = recorded(np.stack([volume(0), volume(1)], 1).reshape(-1, 48, 64))
    slices = [recorded(np.repeat(plane[None], 4, 0), n) for n, plane in enumerate(volume(0))]
    small = (one - 100.0) / 40
    movies: dict[str, list[np.ndarray]] = {
        "one": [one], "two": [one, one], "flat": [flat], "turns": [turns, turns], "once": [flat, one, one],
        "exchanged": slices, "stretched": [one * 8], "few": [np.minimum(one, 110) // 8 * 8],
        "fractions": [small, small], "a dark one": [one + 0.3, small], "beyond": [small + 60000],
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, stacks in movies.items():
        for acquisition in (upright, ACQUISITION, replace(ACQUISITION, scan="z-stage")):
            for axes in (None, "zyx"):
                row = sheet_row(folder / "none.tif", axes=axes)
                record = MovieRecord(
                    movie="m", channels=["a"], paths=[], train=False, acquisition=acquisition,
                    frames=len(stacks), shape_zyx=stacks[0].shape, dtype="uint16",
                )  # fmt: skip
                counted = [np.rint(s).clip(0).astype(np.uint16) for s in stacks]
                seen = [texture(c) for c in counted]
                looks = [
                    evidence_of(s, c, t, acquisition, before)
                    for s, c, t, before in zip(stacks, counted, seen, [None, *seen], strict=False)
                ]
                row_of_frames = seen[7:17]
                found[f"{name} {acquisition.scan} {axes}"] = [
                    outcome(check_plausible, row, record, looks, lambda n, kept=row_of_frames: kept[:n]),
                    len(plausibility_warnings(row, record, looks)),
                    [look.returning for look in looks[:2]],
                    looks[-1].rounding,
                ]
    return found


def thinned(preview: dict[str, Any]) -> dict[str, Any]:
    """Measures of each channel as a list: their names once are enough."""
    channels: dict[str, Any] = preview.get("channels", {})
    numbers = {name: list(measures.values()) for name, measures in channels.items()}
    return preview | {"channels": numbers, "measures": list(next(iter(channels.values()), {}))}


def test_results_of_the_preview(tmp_path: Path, write_golden: bool) -> None:
    STAGE.check(tmp_path, write=write_golden)
