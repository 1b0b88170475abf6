"""Golden values of segmentation: small frames of known particles, alone and together, and the stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from golden import Stage
from golden_tables import brief, voxels
from scipy import ndimage

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.part import Part
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.segment.believe.bimodality import bimodality
from spatialdino_core.segment.believe.calibration import Calibration, calibrate
from spatialdino_core.segment.believe.evidence import Maxima, fit_evidence
from spatialdino_core.segment.believe.tail import NoiseTail
from spatialdino_core.segment.detect.blobs import find_blobs, responses_at
from spatialdino_core.segment.detect.observer import SINGLE_FRAME, TimeGroups
from spatialdino_core.segment.detect.tiles import share_of_frame
from spatialdino_core.segment.detect.window import SegmentMovie
from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.frame import segment_frame
from spatialdino_core.segment.optics import Optics
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.stage import segment_movie

STAGE = Stage("segment", ["segment/**/*.py"])
VOXEL_UM = (0.25, 0.11, 0.13)
PSF_VOXELS = np.array([0.33, 0.13, 0.13]) / VOXEL_UM
SINGLE = SegmentParameters(temporal_reach_frames=2, temporal_below_f1=0.0)


def light(shape: tuple[int, ...], places: np.ndarray, heights: Any, width: Any = 1.0) -> np.ndarray:
    """Sum of Gaussians of a width in point spread functions."""
    image = np.zeros(shape)
    grids = np.ogrid[tuple(slice(0, n) for n in shape)]
    for place, height in zip(places, np.broadcast_to(heights, len(places)), strict=True):
        far = sum(((g - p) / s) ** 2 for g, p, s in zip(grids, place, width * PSF_VOXELS, strict=True))
        image += height * np.exp(-0.5 * far)
    return image


def places(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> np.ndarray:
    return 2 + rng.random((count, 3)) * (np.array(shape) - 5)


def counted(rng: np.random.Generator, expected: np.ndarray, dtype: type = np.uint16) -> np.ndarray:
    """Photon noise, offset 100, read noise 2."""
    return np.clip(rng.poisson(expected) + 100 + rng.normal(0, 2, expected.shape), 0, 65535).astype(dtype)


def window(
    frames: Mapping[int, np.ndarray],
    valid: np.ndarray | None = None,
    foreground: Any = None,
    voxel_um: Any = VOXEL_UM,
) -> SegmentMovie:
    about = {"valid": valid, "foreground": foreground}
    return SegmentMovie(lambda number: frames[number], sorted(frames), voxel_um, **about)


def known(calibration: Calibration) -> dict[str, Any]:
    """What was calibrated; numbers of which there are many, in brief."""
    found = calibration.as_json()
    covariance = np.array(found.pop("covariance"))
    matrices = pd.DataFrame(covariance.reshape(len(covariance), -1)).loc[:, [0, 1, 3, 6, 10, 15]]
    return found | {"covariance": brief(matrices), "evidence": weighed(found["evidence"])}


def weighed(evidence: dict[str, Any]) -> dict[str, Any]:
    """The numbers of evidence."""
    rising = {"z": ("z_scores", "confidences"), "foreground": ("foregrounds", "log_ratios")}
    curves = {n: brief(pd.DataFrame({one: evidence[one] for one in names})) for n, names in rising.items()}
    return {n: each for n, each in evidence.items() if not isinstance(each, list)} | curves


def segmented(
    movie: SegmentMovie,
    numbers: list[int],
    calibration: Calibration,
    parameters: SegmentParameters,
    **options: Any,
) -> dict[str, Any]:
    """Labels and tables of some frames, in brief."""
    labels, tables = [], []
    for number in numbers:
        found = segment_frame(movie, number, calibration, parameters, **options)
        labels.append(found[0])
        tables.append(found[1].assign(frame=number))
    return {"labels": voxels(np.stack(labels)), "table": brief(pd.concat(tables))}


def maxima_of(found: Detections, sizes: tuple[float, ...]) -> dict[str, Any]:
    table = pd.DataFrame(found.position, columns=list("zyx"))
    return brief(table.assign(s=np.searchsorted(sizes, found.width), value=found.z_score))


def refused(call: Any, *args: Any, **options: Any) -> bool:
    try:
        call(*args, **options)
    except BadInputError:
        return True
    return False


@cache
def bright(shape: tuple[int, int, int] = (24, 52, 87), seed: int = 0) -> dict[int, np.ndarray]:
    """Particles of several heights and widths, some of them close pairs, on a slope of background."""
    rng = np.random.default_rng(seed)
    slope = 30 + 10 * np.linspace(0, 1, shape[2]) + 6 * np.linspace(1, 0, shape[0])[:, None, None]
    frames = {}
    for number in range(4):
        some = places(rng, shape, 30)
        heights = rng.uniform(60, 400, len(some))
        image = slope + light(shape, some, heights)
        image += light(shape, places(rng, shape, 1), 200, 1.6)
        pairs = places(rng, shape, 3)
        beside = rng.normal(0, 1, pairs.shape)
        beside *= rng.uniform(1.6, 2.4, (3, 1)) / np.linalg.norm(beside, axis=1, keepdims=True)
        image += light(shape, pairs, 500) + light(shape, pairs + beside * PSF_VOXELS, 380)
        frames[number] = counted(rng, image)
    return frames


@cache
def long() -> SegmentMovie:
    """A frame that small tiles can divide."""
    rng = np.random.default_rng(2)
    shape = (12, 24, 200)
    some = places(rng, shape, 50)
    return window({0: counted(rng, 30 + light(shape, some, rng.uniform(20, 200, len(some))))})


@cache
def dim(motion: float = 0.35) -> dict[int, np.ndarray]:
    """Dim particles that wander in front of texture that stands still; frames 4 and 15 are missing."""
    rng = np.random.default_rng(3)
    shape = (14, 44, 50)
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), 1.3 * PSF_VOXELS)
    still = 40 * (1 + 0.1 * texture / texture.std())
    where = places(rng, shape, 30)
    frames = {}
    for number in range(20):
        where = np.clip(where + rng.normal(0, motion, where.shape) * PSF_VOXELS, 1, np.array(shape) - 2)
        if number not in (4, 15):
            frames[number] = counted(rng, still + light(shape, where, 26))
    return frames


@STAGE.scene
def single_frames(folder: Path) -> dict[str, Any]:
    movie = window(bright())
    parameters = replace(SINGLE, split_false_rate=0.01)
    calibration = calibrate(movie, parameters)
    assert calibration.singles is not None
    never = replace(parameters, split_false_rate=0.0)
    whole = calibrate(movie, never)
    split = segmented(long(), [0], calibration, parameters, tile_voxels=45_000)
    return {
        "calibration": known(calibration),
        "frames": segmented(movie, [0, 1, 2], calibration, parameters),
        "tiles": split,
        "never split": segmented(movie, [1], whole, never),
    }


@STAGE.scene
def coarse_planes(folder: Path) -> dict[str, Any]:
    """A point spread function that is thinner than a plane."""
    rng = np.random.default_rng(4)
    shape = (12, 44, 70)
    thin = np.array([0.085, 0.13, 0.13]) / VOXEL_UM
    images = [30 + light(shape, places(rng, shape, 30), 150, thin / PSF_VOXELS) for _ in range(2)]
    movie = window({number: counted(rng, image) for number, image in enumerate(images)})
    parameters = replace(SINGLE, optics=OpticsParameters(sigma_axial_um=0.085), split_false_rate=0.1)
    calibration = calibrate(movie, parameters)
    assert calibration.singles is not None
    return {
        "calibration": known(calibration),
        "frames": segmented(movie, [0], calibration, parameters),
    }


@STAGE.scene
def with_foreground_and_fill(folder: Path) -> dict[str, Any]:
    shape = (22, 48, 68)
    rng = np.random.default_rng(5)
    z, x = np.arange(shape[0])[:, None, None], np.arange(shape[2])
    valid = (x > 0.7 * z) & (x < 55 + 0.6 * z)
    frames, maps = {}, {}
    for number in range(5):
        some = places(rng, shape, 34)
        image = 35 + light(shape, some, rng.uniform(15, 90, len(some)))
        frames[number] = np.where(valid, counted(rng, image), 0).astype(np.uint16)
        blurred = ndimage.gaussian_filter(light(shape, some[:30], 1.0), 1)
        maps[number] = np.clip(blurred * 3 + rng.uniform(0, 0.3, shape), 0, 1).astype(np.float32)
    movie = window(frames, valid, lambda number: maps[number])
    found = {}
    for name, parameters in {
        "weighed": SINGLE,
        "less": replace(
            SINGLE, foreground_weight=0.4, size_factors=(1.0, 1.3, 1.8), noise_window_um=1.6, mask_level=0.4
        ),
        "few": replace(SINGLE, false_positives_per_frame=0.5, candidate_confidence=0.6, max_radius_um=0.4),
        "many": replace(SINGLE, false_positives_per_frame=6.0, min_volume_um3=0.06, calibration_frames=3),
    }.items():
        calibration = calibrate(movie, parameters)
        found[name] = {
            "calibration": known(calibration),
            "frames": segmented(movie, [3], calibration, parameters),
        }
    lacks = segment_frame, window(frames, valid), 3, calibration, parameters
    return found | {"refused without": refused(*lacks)}


@STAGE.scene
def several_frames_help(folder: Path) -> dict[str, Any]:
    parameters = SegmentParameters(calibration_frames=6)
    found: dict[str, Any] = {}
    for name, motion in (("still", 0.0), ("slow", 0.35), ("fast", 1.1)):
        movie = window(dim(motion))
        calibration = calibrate(movie, parameters)
        assert calibration.reach == 8
        found[name] = {
            "calibration": known(calibration),
            "frames": segmented(
                movie, [9, 10, 0, 19] if name == "slow" else [9, 19], calibration, parameters
            ),
        }
    short = window({number: frame.astype(np.float32) for number, frame in dim().items() if number < 8})
    near = SegmentParameters(temporal_reach_frames=1, temporal_below_f1=1.0, size_factors=(1.2,))
    calibration = calibrate(short, near)
    return found | {
        "near": {
            "calibration": known(calibration),
            "frames": segmented(short, [3, 5], calibration, near),
        }
    }


@STAGE.scene
def defaults(folder: Path) -> dict[str, Any]:
    return asdict(SegmentParameters())


@STAGE.scene
def one_frame(folder: Path) -> dict[str, Any]:
    """With the defaults."""
    rng = np.random.default_rng(8)
    flat = (1, 90, 110)
    plane = counted(rng, 50 + light(flat, places(rng, (9, 90, 110), 60) * (0, 1, 1), 120))
    movie, parameters = window({0: bright()[3]}), SegmentParameters()
    calibration = calibrate(movie, parameters)
    return {
        "calibration": known(calibration),
        "frames": segmented(movie, [0], calibration, parameters),
        "plane": refused(calibrate, window({0: plane}), parameters),
    }


@STAGE.scene
def frames_without_particles(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(9)
    shape = (16, 60, 88)
    noise = {number: counted(rng, np.full(shape, 40.0)) for number in range(5)}
    noise[5] = counted(rng, 40 + light(shape, places(rng, shape, 3), 300))
    noise[6] = np.full(shape, 100, np.uint16)
    noise[6][:, :, :30] = counted(rng, np.full((16, 60, 30), 40.0))
    noise[6] += np.round(light(shape, np.array([[8, 20, 60], [7.5, 41, 70.3]]), [60, 30])).astype(np.uint16)
    movie = window(noise)
    calibration = calibrate(movie, SINGLE)
    constant = window({0: np.full(shape, 7, np.uint16)})
    return {
        "calibration": known(calibration),
        "frames": segmented(movie, [0, 5, 6], calibration, SINGLE),
        "constant": [
            refused(calibrate, constant, SINGLE),
            segmented(constant, [0], calibration, SINGLE),
        ],
    }


@STAGE.scene
def bad_frames(folder: Path) -> dict[str, Any]:
    image = bright()[0].astype(np.float32)
    fits, map_ = np.ones((24, 1, 87), bool), np.zeros(image.shape, np.float32)
    broken = image.copy()
    broken[3, 4, 5] = np.nan
    spared = np.ones(image.shape, bool)
    spared[3, 4, 5] = False

    def tried(
        image: np.ndarray | None,
        valid: np.ndarray | None = None,
        likely: np.ndarray | None = None,
        voxel_um: tuple[float, ...] = VOXEL_UM,
    ) -> bool:
        foreground = None if likely is None else lambda number: likely
        movie = window({} if image is None else {0: image}, valid, foreground, voxel_um)
        return refused(calibrate, movie, SINGLE)

    return {
        "as it should": [tried(image, fits, map_), tried(broken, spared)],
        "voxels": [tried(image, voxel_um=size) for size in ((0.2, 0.1), (0.0, 0.1, 0.1), (np.inf, 0.1, 0.1))],
        "shapes": [
            tried(image[0]),
            tried(image[:, :0]),
            tried(image, fits[1:]),
            tried(image, None, map_[1:]),
        ],
        "contents": [tried(None), tried(broken), tried(image, np.zeros_like(spared))],
        "axes": [tried(image, None, map_[:, :1]), tried(image, fits[:, 0])],
    }


@STAGE.scene
def maxima(folder: Path) -> dict[str, Any]:
    """Maxima themselves, tile by tile, and a choice of tiles."""
    movie, other = long(), window(dim())
    image = movie.frame(0)
    parameters = replace(SINGLE, noise_window_um=0.9)
    optics = Optics.of(parameters, VOXEL_UM)
    detector = calibrate(movie, parameters).observer(optics).detector(SINGLE_FRAME)
    options: list[dict[str, Any]] = [
        {"with_dark": True},
        {"tile_voxels": 45_000, "with_dark": True},
        {"tile_voxels": 45_000, "most_voxels": 40_000},
    ]
    found: dict[str, Any] = {}
    for number, option in enumerate(options):
        blobs = find_blobs([image], detector, optics, **option)
        found[f"peaks {number}"] = [maxima_of(some, parameters.size_factors) for some in blobs]
    at = responses_at(image, detector.single_frame, [blobs.bright.position], optics)
    groups = [TimeGroups.around(number, other.frames, reach).lags for number, reach in ((5, 4), (0, 1))]
    seen = [other.seen(number, TimeGroups.around(number, other.frames, 5)) for number in (6, 7, 12)]
    return found | {
        "responses": brief(pd.DataFrame({"value": at[0]})),
        "shares": [share_of_frame((20, 40, 50), (4, 10, 8), most) for most in (10_000, 50_000)],
        "groups": groups,
        "images": [[one.image for one in images] for images in seen],
    }


@STAGE.scene
def statistics(folder: Path) -> dict[str, Any]:
    """Evidence of samples that are larger than those of small movies."""
    rng = np.random.default_rng(11)

    def of_noise(count: int, scale: float = 1.0, least: float = 4.0) -> np.ndarray:
        return np.sqrt(least + scale * rng.exponential(2.0, count))

    particles = rng.normal(9, 1.5, 500)
    texture = rng.normal(4.6, 0.25, 500)
    samples = {
        "particles": (np.r_[of_noise(6000), particles], of_noise(6000)),
        "texture": (np.r_[of_noise(6000, 1.2), texture, particles], of_noise(6000)),
        "skewed": (np.r_[of_noise(9000, 1.15, 2.25), particles[:80]], of_noise(6000, 1.0, 2.25)),
        "heavy": (np.r_[of_noise(5000, 3.0), particles[:200] + 4], of_noise(5000, 2.5)),
        "noise": (of_noise(3000), of_noise(3000)),
        "few": (np.r_[of_noise(200), particles[:60]], of_noise(90)),
        "hardly any": (np.r_[of_noise(60), particles[:30]], of_noise(20)),
        "no dark": (particles[:40], of_noise(0)),
    }
    found: dict[str, Any] = {}
    for name, (high, low) in samples.items():
        chance = np.clip(0.25 + 0.05 * high + rng.normal(0, 0.15, len(high)), 0, 1)
        sure = Maxima(high, chance.astype(np.float32)), Maxima(low, np.zeros(len(low), np.float32))
        for accepted in (None, 3.0, 1e-6)[: 3 if name in ("particles", "few") else 1]:
            evidence = fit_evidence(
                *sure,
                4.0,
                3.2,
                false_positives_per_frame=accepted,
                foreground_weight=0.8 if accepted else 1.0,
            )
            heights = np.array([1.9, 3.0, 4.0, 5.0, 7.0, 12.0])
            tail = evidence.tail
            found[f"{name} {accepted}"] = weighed(asdict(evidence)) | {
                "confidence": evidence.confidence(heights, np.linspace(0, 1, 6)),
                "rates": [tail.rate(z) for z in heights],
                "errors": tail.relative_error(heights),
                "thresholds": [tail.threshold(rate) for rate in (10.0, 1.0, 0.01)],
            }
    empty = NoiseTail(2.0, 0.0, 2.0, 0.05, 0.01, 0)
    edges = np.linspace(0, 1, 65)
    two = np.r_[rng.normal(0.3, 0.06, 4000), rng.normal(0.62, 0.09, 1500)]
    one = rng.normal(0.4, 0.1, 4000)
    close = np.r_[rng.normal(0.4, 0.1, 4000), rng.normal(0.62, 0.1, 2500)]
    counts = [np.histogram(values, edges)[0] for values in (two, one, close, [0.5], [0.1, 0.8, 0.8])]
    return found | {
        "empty": empty.threshold(1.0),
        "histograms": [asdict(bimodality(each, edges)) for each in [*counts, np.zeros(64, int)]],
    }


@STAGE.scene
def movies(folder: Path) -> dict[str, Any]:
    """The stage: stores in, labels and a table of objects out; in parts; and a movie that grew."""
    shape, patch, spacing = (16, 40, 48), 8, 0.104
    voxel_um, origin = (spacing,) * 3, (0.4, -0.3, 0.2)
    rng = np.random.default_rng(12)
    common = {"interval_s": 2.0}
    grid = tuple(n // patch for n in shape)
    coarse = {
        "voxel_um": tuple(v * patch for v in voxel_um),
        "origin_um": tuple(o + v * (patch - 1) / 2 for o, v in zip(origin, voxel_um, strict=True)),
        "dtype": "float16",
    } | common
    layouts = {
        "deskewed.ome.zarr": StoreLayout(
            shape_czyx=(1, *shape),
            dtype="uint16",
            voxel_um=voxel_um,
            origin_um=origin,
            channels=("a",),
            **common,
        ),
        "features.zarr": StoreLayout(
            shape_czyx=(3, *grid), channels=("0", "1", "2"), kind="features", **coarse
        ),
        "foreground.ome.zarr": StoreLayout(shape_czyx=(2, *grid), channels=("a", "f"), kind="map", **coarse),
    }
    about = {
        "geometry": asdict(ScanGeometry(scan="none", step_um=spacing, pixel_um=spacing)),
        "acquisition": {"interval_s": 2.0},
        "raw_shape_zyx": list(shape),
        "parameters": asdict(DeskewParameters()),
        "roi_um": None,
    }

    def write(frames: int) -> None:
        stores = {n: FrameStore.prepare(folder / n, one, frames, {}) for n, one in layouts.items()}
        sums: dict[str, dict[int, str]] = {name: {} for name in stores}
        for frame in range(frames):
            rng = np.random.default_rng([12, frame])
            image = np.zeros(shape) + 40
            axes = np.ogrid[tuple(slice(0, n) for n in shape)]
            for centre in rng.uniform(4, np.array(shape) - 5, (14, 3)):
                image += 150 * np.exp(
                    -0.5 * sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) / 1.6
                )
            drawn = {
                "deskewed.ome.zarr": counted(rng, image)[None],
                "features.zarr": rng.normal(0, 1, (3, *grid)).astype(np.float16),
                "foreground.ome.zarr": rng.uniform(0.2, 0.8, (2, *grid)).astype(np.float16),
            }
            for name, store in stores.items():
                sums[name][frame] = store.write(frame, drawn[name])
        first, *others = layouts
        StageRecord(stores=[first], checksums=sums[first], skipped={}, about=about).write(
            folder / "deskewed.json"
        )
        StageRecord(stores=others, checksums=sums[others[0]], skipped={}, about={}).write(
            folder / "features.json"
        )

    def run(record: str, part: Part, parameters: SegmentParameters) -> None:
        segment_movie(
            *(folder / name for name in ("deskewed.json", "features.json", record, "objects.parquet")),
            parameters,
            device="cpu",
            version="",
            part=part,
        )

    def found() -> dict[str, Any]:
        table = pd.read_parquet(folder / "objects.parquet")
        record = StageRecord.read(folder / "labels.json")
        labels = FrameStore(folder / record.stores[0])
        return {
            "table": brief(table),
            "labels": voxels(np.stack([labels.read(frame) for frame in sorted(record.checksums)])),
            "voxel_um": labels.voxel_um,
            "origin_um": labels.origin_um,
            "shape": labels.shape,
            "calibration": record.about["calibration"]["single_frame_f1"],
            "computed": len((folder / "ledger" / "segment.jsonl").read_text().splitlines()),
        }

    del rng
    parameters = replace(SINGLE, optics=OpticsParameters(sigma_axial_um=0.13), temporal_reach_frames=1)
    write(3)
    for bounds in ((0, 0), (0, 2), (2, None)):
        run("part.json" if bounds[1] is not None else "labels.json", Part(*bounds), parameters)
    first = found()
    write(4)
    run("labels.json", Part(), parameters)
    return {"first": first, "grown": found()}


def test_results_of_segmentation_stay(tmp_path: Path, write_golden: bool) -> None:
    STAGE.check(tmp_path, write=write_golden)
