"""Golden values of the shards: intensity scale, isotropic voxels, crops, their order and their changes."""

from __future__ import annotations

import errno
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import Stage
from raw_inputs import counts, outcome

from spatialdino_core.crops import shards as shards_module
from spatialdino_core.crops.augment import (
    change_intensity,
    cut_cube,
    draw_change,
    draw_orientation,
    draw_start,
)
from spatialdino_core.crops.bounds import movie_bounds
from spatialdino_core.crops.kmeans import (
    CropBox,
    bright_voxels,
    content_levels,
    crop_boxes,
    cut_crop,
    fine_detail,
    sample_voxels,
)
from spatialdino_core.crops.normalise import Bounds, FrameBounds, bounds_of, normalise
from spatialdino_core.crops.order import epoch_order
from spatialdino_core.crops.parameters import (
    AugmentationParameters,
    CropParameters,
    NormalisationParameters,
)
from spatialdino_core.crops.resample import isotropic_shape, resample_isotropic
from spatialdino_core.crops.shards import Crop, CropShards, file_checksum, write_shards
from spatialdino_core.crops.stage import shard_movie
from spatialdino_core.crops.transforms import (
    KMeansCropSamplesd,
    NormaliseIntensityd,
    RandomIntensityd,
    RandomViewsd,
    ResampleIsotropicd,
)
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.geometry.grid import output_grid
from spatialdino_core.geometry.resampling import resample_axis, resampled_length
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout

STAGE = Stage("shard", ["crops/*.py"])
VOXEL_UM = (0.23, 0.104, 0.104)
CROPS: dict[str, Any] = dict(
    voxel_um=None,
    crop_voxels=8,
    min_size_fraction=0.3,
    max_size_fraction=0.6,
    crops_per_frame=3,
    frames_per_movie=3,
    attracted_by="intensity",
    detail_voxels=1.2,
    low_percentile=97.0,
    high_percentile=99.8,
    fallback_percentile=95.0,
    channels="single",
    channel=0,
    shard_mb=950.0,
    on_corrupt_shard="fail",
)
SCALE: dict[str, Any] = dict(scale="movie", tail_fraction=0.002, calibration_frames=1)
STILL: dict[str, Any] = dict(
    axial_axis="z", gamma_min=0.5, gamma_max=2.0, contrast_change=0.0, noise_max=0.0, noise_views="global",
    blur_max_voxels=0.0, bleaching_max=0.0, photons_min=0.0, gradient_max=0.0, local_inside_global=False,
)  # fmt: skip


def frame_of(seed: int, shape: Sequence[int] = (9, 24, 30), bright: float = 300) -> np.ndarray:
    """Noise with boxes of different brightness, uint16."""
    generator = np.random.default_rng(seed)
    voxels = generator.normal(100, 6, shape)
    for n, (z, y, x) in enumerate(((1, 4, 3), (3, 15, 20), (5, 8, 12), (6, 17, 6))):
        voxels[z : z + 2, y : y + 4, x : x + 5] += bright * (1 + 0.3 * n)
    return np.rint(voxels).clip(0, 65535).astype(np.uint16)


def volume_of(seed: int) -> np.ndarray:
    """Normalised, isotropic by name."""
    return normalise(frame_of(seed), Bounds(80.0, 700.0))


@STAGE.scene
def scales(folder: Path) -> dict[str, Any]:
    """Bounds that leave a fraction outside, and what counts become by them."""
    frame = frame_of(0)
    stacks = {
        "frame": [frame],
        "parts": [frame[:2], frame[2:]],
        "bytes": [np.clip(frame, 0, 255).astype(np.uint8)],
        "equal": [np.full(50, 7, np.uint16)],
        "two values": [np.array([3] * 40 + [4] * 60, np.uint16)],
        "ends": [np.array([0, 65535] * 50, np.uint16)],
        "few": [np.array([1, 5, 9], np.uint16)],
        "none": [np.empty(0, np.uint16)],
        "floats": [frame.astype(np.float32)],
    }
    fractions = (0.0002, 0.002, 0.1, 0.49)
    parameters = [NormalisationParameters(**(SCALE | dict(tail_fraction=f))) for f in fractions]
    small = np.array([0, 79, 80, 81, 390, 699, 700, 701, 65535], np.uint16)
    valid = np.arange(30) > 12
    found: dict[str, Any] = {n: [outcome(bounds_of, s, p) for p in parameters] for n, s in stacks.items()}
    own = FrameBounds(0.01, np.broadcast_to(valid, frame.shape))
    return found | {
        "normalised": normalise(small, Bounds(80.0, 700.0)),
        "by the frame": [normalise(frame, FrameBounds(0.01)), own.of(frame), own.of(frame_of(1))],
        "bad settings": [
            _is_valid(NormalisationParameters, SCALE | change)
            for change in (
                {},
                dict(scale="global"),
                dict(scale="global", low_counts=5.0, high_counts=9.0),
                dict(scale="global", low_counts=9.0, high_counts=9.0),
                dict(low_counts=5.0),
                dict(scale="global", low_counts=9.0, high_counts=5.0),
                dict(high_counts=5.0),
                dict(scale="global", low_counts=0.0, high_counts=1.0),
            )
        ],
        "bad crops": [
            _is_valid(CropParameters, CROPS | change)
            for change in (
                {},
                dict(low_percentile=99.8),
                dict(low_percentile=99.79),
                dict(low_percentile=99.9),
                dict(min_size_fraction=0.6),
                dict(min_size_fraction=0.61),
                dict(fallback_percentile=97.0),
                dict(fallback_percentile=98.0),
            )
        ],
    }


def _is_valid(kind: Any, settings: dict[str, Any]) -> bool:
    try:
        return bool(kind(**settings))
    except ValueError:
        return False


@STAGE.scene
def isotropic_volumes(folder: Path) -> dict[str, Any]:
    """Finer, coarser and equal voxels, parts of the whole, axes by themselves."""
    frame = frame_of(2, (7, 11, 12))
    found: dict[str, Any] = {}
    for target in (0.104, 0.23, 0.16, 0.31, 0.06):
        found[f"{target}"] = [isotropic_shape(frame.shape, VOXEL_UM, target)]
        found[f"{target}"].append(resample_isotropic(frame, VOXEL_UM, target))
    box = (slice(2, 9), slice(1, 8), slice(3, None))
    whole = resample_isotropic(frame, VOXEL_UM, 0.11)
    found["part"] = np.array_equal(resample_isotropic(frame, VOXEL_UM, 0.11, box=box), whole[box])
    found["chunks"] = np.array_equal(resample_isotropic(frame, VOXEL_UM, 0.11, chunk_planes=2), whole)
    found["lengths"] = [
        resampled_length(n, r) for n, r in ((1, 3), (5, 2), (5, 2.0000019), (5, 1.9), (5, 2.01))
    ]
    line = frame[3:4, 4].astype(np.float32)
    for ratio, start, length in (
        (1.0, 0, None),
        (2.5, 0, None),
        (0.4, 1.3, 7),
        (1 + 5e-7, 0, None),
        (1.0, 0.5, 5),
    ):
        found[f"axis {ratio} {start}"] = resample_axis(line, 1, ratio, start=start, length=length)
    found["another axis"] = resample_axis(frame, 0, 1.7)
    return found


@STAGE.scene
def places_of_crops(folder: Path) -> dict[str, Any]:
    """Which voxels attract crops, where these lie, and how they are cut."""
    volume = volume_of(3)
    valid = np.ones(volume.shape, bool)
    valid[:, :, :4] = False
    valid[7:, 20:] = False
    parameters = CropParameters(**CROPS)
    cases: dict[str, tuple[np.ndarray, np.ndarray, dict[str, Any]]] = {
        "usual": (volume, valid, {}),
        "many": (volume, valid, dict(crops_per_frame=7, min_size_fraction=0.0, max_size_fraction=0.0)),
        "large": (volume, valid, dict(crop_voxels=11, min_size_fraction=0.8, max_size_fraction=1.0)),
        "detail": (volume, valid, dict(attracted_by="detail")),
        "wide detail": (volume, valid, dict(attracted_by="detail", detail_voxels=2.0)),
        "little signal": (volume, valid, dict(low_percentile=99.99, high_percentile=99.995)),
        "no contrast": (np.full_like(volume, 0.25), valid, {}),
        "few voxels": (np.where(volume > 0.97, volume, np.float32(0.1)), valid, dict(crops_per_frame=20)),
        "dark": (np.zeros_like(volume), valid, dict(attracted_by="detail")),
        "no data": (volume, np.zeros_like(valid), {}),
    }
    found: dict[str, Any] = {}
    for name, (voxels, inside, changes) in cases.items():
        settings = replace(parameters, **changes)
        attracting, rule = bright_voxels(voxels, inside, settings, np.random.default_rng(4))
        boxes = crop_boxes(voxels, inside, settings, np.random.default_rng(5))
        found[name] = {
            "levels": content_levels(voxels, inside, settings),
            "attracting": [rule, attracting],
            # Almost as many clusters as voxels: rounding decides which of them are together.
            "origins": len(boxes) if name == "few voxels" else np.array([box.origin_voxels for box in boxes]),
            "shapes": np.array([box.shape_voxels for box in boxes]),
            "rules": sorted({box.placed_on for box in boxes}),
            "first": cut_crop(voxels, boxes[0]),
        }
    found["fine detail"] = [fine_detail(volume, valid, sigma) for sigma in (0.8, 1.7)]
    chosen = volume > 0.2
    found["sampled"] = [
        sample_voxels(lambda z: chosen[z], len(volume), most, np.random.default_rng(6))
        for most in (int(chosen.sum()), int(chosen.sum()) - 1, 5)
    ]
    found["none sampled"] = sample_voxels(lambda z: chosen[z] & False, 3, 9, np.random.default_rng(6))
    box = CropBox((2, 20, 27), (9, 8, 5), "uniform")
    found["reflected"] = [cut_crop(volume, box), cut_crop(np.stack([volume, 1 - volume]), box)]
    big = np.random.default_rng(7).random((6, 60, 60), np.float32)
    found["most"] = bright_voxels(
        big,
        big > 0,
        replace(parameters, low_percentile=60.0, fallback_percentile=50.0),
        np.random.default_rng(8),
    )
    return found


@STAGE.scene
def orders_of_crops(folder: Path) -> dict[str, Any]:
    """Epochs of sequential, windowed and even order."""
    return {
        f"{lengths} {window}": [epoch_order(lengths, seed=3, epoch=epoch, window=window) for epoch in (0, 1)]
        for lengths in ((), (4,), (5, 0, 7, 3))
        for window in (1, 3, 14, 15, 16)
    } | {"seeds": [epoch_order((9, 4), seed=seed, epoch=2, window=5) for seed in (0, 1)]}


def crops_from(number: int, size: int = 300) -> Iterator[Crop]:
    for n in range(number, 7):
        values = counts(n, (1, 4, 5, size + 100 * n), 0, 2048).astype(np.float16) / np.float16(2048)
        yield Crop(f"m-{n:04}", values, {"n": n, "a": "x" * 40 * n})


@STAGE.scene
def shard_files(folder: Path) -> dict[str, Any]:
    """Sizes of shards, their index, attempts that were killed, shards that are damaged."""

    def written(name: str, size: float, about: dict[str, Any] | None = None, crops: Any = crops_from) -> Any:
        place = folder / name
        write_shards(place, crops, shard_bytes=size, about=about or {"movie": name})
        index = json.loads((place / "index.json").read_text())
        files = sorted(path.name for path in place.iterdir())
        return {
            "files": files,
            "shards": [[shard[k] for k in ("name", "bytes", "crops")] for shard in index["shards"]],
            "samples": [
                [s[k] for k in ("key", "shard", "offset", "shape", "dtype")] for s in index["samples"]
            ],
            "sizes": [(place / file).stat().st_size for file in files if file.endswith("tar")],
        }

    def killed_at(stop: int) -> Callable[[int], Iterator[Crop]]:
        def crops(number: int) -> Iterator[Crop]:
            for crop in crops_from(number):
                if crop.about["n"] == stop:
                    raise KeyboardInterrupt
                started.append(crop.about["n"])
                yield crop

        return crops

    sizes = {"small": 1e3, "one": 30_000, "two": 40_960, "edge": 51_200, "all": 1e6}
    found: dict[str, Any] = {name: written(name, size) for name, size in sizes.items()}
    with tarfile.open(folder / "two" / "shard-000001.tar") as tar:
        found["members"] = [[m.name, m.size, m.mtime, m.uname] for m in tar]
    for about in ({"movie": "killed"}, {"movie": "other"}):
        started: list[int] = []
        with pytest.raises(KeyboardInterrupt):
            write_shards(folder / "killed", killed_at(5), shard_bytes=40_960, about={"movie": "killed"})
        with (folder / "killed" / "written.jsonl").open("a") as ledger:
            ledger.write('{"torn')
        (folder / "killed" / "shard-000077.tar").touch()
        started.clear()
        found[f"resumed by {about['movie']}"] = [
            written("killed", 40_960, about, killed_at(99)),
            started.copy(),
        ]
    started.clear()
    with pytest.raises(KeyboardInterrupt):
        write_shards(folder / "cut", killed_at(6), shard_bytes=40_960, about={"movie": "cut"})
    (folder / "cut" / "shard-000001.tar").write_bytes(b"cut")
    started.clear()
    found["resumed after a cut"] = [written("cut", 40_960, {"movie": "cut"}, killed_at(99)), started.copy()]
    found["same bytes"] = len(
        {file_checksum(p / "shard-000001.tar") for p in (folder / "two", folder / "cut")}
    )
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        with pytest.MonkeyPatch.context() as patch:

            def full(path: Path, group: Any, code: int = code) -> None:
                raise OSError(code, os.strerror(code))

            patch.setattr(shards_module, "_write_tar", full)
            try:
                found[f"error {code}"] = outcome(written, "full", 1e6)
            except OSError as error:
                found[f"error {code}"] = error.errno == code
    indices = [folder / name / "index.json" for name in ("two", "one")]
    shards = CropShards(indices)
    found["read"] = {
        "lengths": shards.shard_lengths,
        "keys": [shards.key(n).replace(str(folder), "~") for n in (0, 6, 7, len(shards) - 1)],
        "crops": [shards[n] for n in (0, 1, 6, 9)],
        "first channel": CropShards(indices, channels=1)[2],
        "no channel": CropShards(indices, channels=0)[2].shape,
        "abouts": shards.abouts,
        "same": [CropShards(indices[:1]).content_hash == shards.content_hash, len(shards.content_hash)],
    }
    damages = {"gone": None, "short": lambda b: b[:-1], "altered": lambda b: b[:900] + b"?" + b[901:]}
    path = folder / "two" / "shard-000001.tar"
    content = path.read_bytes()
    for name, damage in damages.items():
        path.unlink() if damage is None else path.write_bytes(damage(content))
        found[name] = isinstance(outcome(CropShards, indices), str)
        kept = CropShards(indices, "skip")
        found[f"{name}, skipped"] = [len(kept), kept.shard_lengths, len(kept.skipped), kept.key(1)[-6:]]
        path.write_bytes(content)
    return found


UPRIGHT = ScanGeometry(scan="none", step_um=VOXEL_UM[0], pixel_um=VOXEL_UM[1])


def movie_of(
    folder: Path, frames: Sequence[np.ndarray], skipped: Sequence[int] = (), scan: ScanGeometry = UPRIGHT,
    raw_shape: Sequence[int] = (),
) -> Path:  # fmt: skip
    """A finished deskewed movie; its completion record."""
    shape = (frames[0].shape[0], *frames[0].shape[1:])
    layout = StoreLayout(
        shape_czyx=(shape[0], shape[1], shape[2], shape[3]),
        dtype="uint16",
        voxel_um=VOXEL_UM,
        interval_s=2.0,
        channels=tuple("abc"[: shape[0]]),
    )
    store = FrameStore.prepare(folder / "deskewed.ome.zarr", layout, len(frames), {})
    checksums = {n: store.write(n, data) for n, data in enumerate(frames) if n not in skipped}
    about = {
        "geometry": asdict(scan),
        "acquisition": {"interval_s": 2.0},
        "raw_shape_zyx": list(raw_shape or shape[1:]),
        "parameters": dict(frame="deskewed", isotropic=False, crop="full", grid_offset_um=0.0),
        "roi_um": None,
    }
    record = StageRecord(
        stores=["deskewed.ome.zarr"], checksums=checksums, skipped=dict.fromkeys(skipped, "bad"), about=about
    )
    record.write(folder / "deskewed.json")
    return folder / "deskewed.json"


@STAGE.scene
def shards_of_movies(folder: Path) -> dict[str, Any]:
    """Whole movies: scale, spread frames, channels, crops and what is said of them."""
    frames = [
        np.stack([frame_of(10 * n + c, bright=200 + 60 * n + 90 * c) for c in range(2)]) for n in range(6)
    ]
    record = movie_of(folder / "cell", frames, skipped=[0, 3])
    frame_scale = NormalisationParameters(scale="frame", tail_fraction=0.01)
    counts_scale = NormalisationParameters(scale="global", low_counts=90.0, high_counts=500.0)
    usual = NormalisationParameters(**SCALE)
    three = NormalisationParameters(**(SCALE | dict(calibration_frames=3)))
    cases: dict[str, tuple[dict[str, Any], NormalisationParameters, int]] = {
        "usual": ({}, usual, 0),
        "another seed": ({}, usual, 1),
        "second channel": (dict(channel=1, voxel_um=0.15), three, 0),
        "average": (dict(channels="average", frames_per_movie=2), frame_scale, 0),
        "random": (dict(channels="random", frames_per_movie=9, shard_mb=0.03), counts_scale, 0),
        "one frame": (dict(frames_per_movie=1, attracted_by="detail"), usual, 0),
        "no such channel": (dict(channel=2), usual, 0),
        "fallback": (dict(low_percentile=99.999, high_percentile=99.9999, frames_per_movie=1), usual, 0),
    }
    skew = ScanGeometry(scan="stage", angle_deg=31.5, step_um=0.4, pixel_um=0.104, skew_axis="x", scan_sign=1)
    shape = output_grid(skew, (9, 16, 14)).shape
    skewed = movie_of(folder / "skewed", [frame_of(60, shape)[None]], scan=skew, raw_shape=(9, 16, 14))
    found: dict[str, Any] = {"valid": float(DeskewedMovie(skewed).valid.mean())}
    cases["skewed"] = (dict(crops_per_frame=12, low_percentile=60.0, fallback_percentile=50.0), usual, 0)
    cases["skewed, coarse"] = (
        dict(crops_per_frame=12, low_percentile=99.99, high_percentile=99.995, voxel_um=0.17),
        usual,
        0,
    )
    for name, (changes, scale, seed) in cases.items():
        index = folder / name / "index.json"
        refused = outcome(
            shard_movie,
            skewed if "skewed" in name else record,
            index,
            CropParameters(**(CROPS | changes)),
            scale,
            seed,
            version="1",
        )
        if refused:
            found[name] = refused
            continue
        about = json.loads(index.read_text())["about"]
        crops = CropShards([index])
        samples = []
        for path in sorted(index.parent.glob("*.tar")):
            with tarfile.open(path) as tar:
                samples += [json.load(tar.extractfile(m)) for m in tar if m.name.endswith("json")]
        found[name] = {
            "about": {key: about[key] for key in ("movie", "voxel_um", "bounds", "seed", "results")},
            "frames": sorted(about["frames"]),
            "keys": [crops.key(n).split(":")[1] for n in range(len(crops))],
            "crops": [crops[n].astype(np.float32) for n in range(min(4, len(crops)))],
            "said": len(samples) if name == "skewed, coarse" else samples[:2] + samples[-1:],
        }
    found["bounds"] = [
        movie_bounds(DeskewedMovie(record), p, c) for p in (usual, three, counts_scale) for c in (0, 1)
    ]
    found["frame bounds"] = movie_bounds(DeskewedMovie(record), frame_scale).of(frames[2][0])
    found["kept"] = len(list((folder / "cell" / "ledger").iterdir()))
    empty = movie_of(folder / "empty", frames[:1], skipped=[0])
    found["no frame"] = outcome(
        shard_movie, empty, folder / "e" / "index.json", CropParameters(**CROPS), counts_scale, 0
    )
    return found


@STAGE.scene
def views_of_crops(folder: Path) -> dict[str, Any]:
    """Places and orientations of views, and what is drawn for their intensities."""
    crop = counts(11, (2, 9, 10, 11), 0, 1000).astype(np.float32) / 1000
    found: dict[str, Any] = {}
    for axis in ("z", "y", "x", "none"):
        generator = np.random.default_rng(12)
        drawn = [draw_orientation(generator, axis) for _ in range(8)]
        found[f"orientations {axis}"] = [[*one.order, *map(int, one.flips)] for one in drawn]
        start = draw_start(generator, crop.shape[1:], 5)
        views = [cut_cube(crop, start, 5, one) for one in drawn]
        tensors = [cut_cube(torch.from_numpy(crop), start, 5, one).numpy() for one in drawn]
        found[f"views {axis}"] = [start, np.stack(views), np.array_equal(views, tensors)]
    generator = np.random.default_rng(13)
    found["starts"] = [draw_start(generator, (9, 8, 7), 4, [(1, 6), (2, 6), (0, 7)]) for _ in range(12)]
    changes: dict[str, dict[str, Any]] = {
        "still": {},
        "contrast": dict(contrast_change=0.4),
        "noise": dict(noise_max=0.1),
        "blur": dict(blur_max_voxels=1.5),
        "bleaching": dict(bleaching_max=0.5),
        "photons": dict(photons_min=40.0),
        "gradient": dict(gradient_max=0.4),
        "all": dict(
            contrast_change=0.4,
            noise_max=0.1,
            blur_max_voxels=1.5,
            bleaching_max=0.5,
            photons_min=40.0,
            gradient_max=0.4,
        ),
    }
    views = torch.from_numpy(np.stack([crop[:, :6, :7, :8], crop[:, 3:, 3:, 3:]]))
    for name, change in changes.items():
        parameters = AugmentationParameters(**(STILL | change))
        generator = np.random.default_rng(14)
        drawn_changes = [draw_change(parameters, generator, noisy=n != 1) for n in range(3)]
        found[f"changes {name}"] = [list(one) for one in drawn_changes]
        used = torch.tensor(drawn_changes[1:], dtype=torch.float32)
        changed = change_intensity(views.clone(), used, [5, 6])
        alone = change_intensity(views[1:].clone(), used[1:], [6])
        found[f"changed {name}"] = [changed, bool(torch.allclose(changed[1:], alone, atol=1e-6))]
    still = torch.zeros(2, 9)
    still[:, [0, 1, 4]] = 1
    some = torch.cat([still[:1], used[1:]])
    return found | {
        "unchanged": change_intensity(views.clone(), still, [1, 2]),
        "one of them": change_intensity(views.clone(), some, [1, 2]),
    }


@STAGE.scene
def transforms(folder: Path) -> dict[str, Any]:
    """The MONAI transforms: what a sample becomes."""
    frames = np.stack([frame_of(20), frame_of(21, bright=500)])
    sample: dict[Any, Any] = {"image": frames, "voxel_um": VOXEL_UM, "other": 1}
    sample = NormaliseIntensityd("image", Bounds(90.0, 600.0))(sample)
    found: dict[str, Any] = {"normalised": [sample["image"], sample["other"]]}
    sample = ResampleIsotropicd("image", 0.15)(sample)
    found["isotropic"] = [sample["image"], sample["voxel_um"]]
    sample = dict(sample) | {"image": torch.from_numpy(sample["image"]), "copy": sample["image"] * 2}
    valid = np.ones(sample["image"].shape[1:], bool)
    valid[:, :, :9] = False
    parameters = CropParameters(**(CROPS | dict(crops_per_frame=2)))
    for name, key, given in (("anywhere", None, {}), ("valid", "valid", {"valid": valid})):
        cropping = KMeansCropSamplesd(["image", "copy"], "image", parameters, key)
        cropping.set_random_state(3)
        samples = cropping(dict(sample) | given)
        found[f"crops {name}"] = [[s["image"], s["copy"], s["image_box"]] for s in samples]
        found[f"crops {name}"].append([isinstance(samples[0][k], torch.Tensor) for k in ("image", "copy")])
    for inside in (False, True):
        settings = AugmentationParameters(**(STILL | dict(noise_max=0.2, local_inside_global=inside)))
        sides = dict(global_voxels=7, local_voxels=3, global_views=2, local_views=4)
        viewing = RandomViewsd("image", settings, **sides)
        viewing.set_random_state(4)
        viewed = viewing({"image": sample["image"][:, :8, :14, :15]})
        found[f"views {inside}"] = [viewed["image_global"], viewed["image_local"]]
        changing = RandomIntensityd(["image_global", "image_local"], settings, "image_global")
        changing.set_random_state(5)
        changed = changing(viewed)
        found[f"changed {inside}"] = [changed["image_global"], changed["image_local"]]
    all_noisy = RandomIntensityd("image_local", settings)
    all_noisy.set_random_state(6)
    found["all noisy"] = all_noisy(viewed)["image_local"]
    none = RandomViewsd("image", settings, **(sides | dict(global_views=0, local_views=1)))
    none.set_random_state(7)
    found["no global"] = [
        tuple(none({"image": sample["image"]})[f"image_{k}"].shape) for k in ("global", "local")
    ]
    return found


def test_results_of_sharding(tmp_path: Path, write_golden: bool) -> None:
    torch.set_num_threads(1)
    STAGE.check(tmp_path, write=write_golden)
