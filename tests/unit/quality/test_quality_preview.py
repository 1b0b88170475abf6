"""The preview of movies on disk: known motion, damage and bad input, and how many frames are held at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_quality_coherence import particles, photographed

from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.quality import channel, preview
from spatialdino_core.quality.channel import frames_to_look_at
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.quality.preview import preview_movie
from spatialdino_core.quality.verdict import judge_movie

SHAPE = (8, 64, 80)
STEP_PIXELS = (1.5, -2.0)
HALF_LIFE_FRAMES = 6.0


def stack(frame: int, *, seed: int = 0, moving: bool = True) -> np.ndarray:
    """Spots that move by `STEP_PIXELS` and fade with `HALF_LIFE_FRAMES`, offset 100, noise 3."""
    rng = np.random.default_rng(seed)
    places = np.stack([rng.uniform(a, b, 150) for a, b in ((0, 8), (-40, 104), (-40, 120))], axis=1)
    steps = [0.0, *(frame * step if moving else 0.0 for step in STEP_PIXELS)]
    axes = [
        np.exp(-((np.arange(n)[None] - places[:, k, None] - steps[k]) ** 2) / 2 / 1.3**2)
        for k, n in enumerate(SHAPE)
    ]
    image = 100 + 300 * 2 ** (-frame / HALF_LIFE_FRAMES) * np.einsum("nz,ny,nx->zyx", *axes)
    image += np.random.default_rng(100 * seed + frame).normal(0, 3, SHAPE)
    return np.rint(image).clip(0, 65535).astype(np.uint16)


def look(
    folder: Path,
    frames: Sequence[np.ndarray],
    *,
    skip_bad: bool = False,
    number: int = 5,
    channels: int = 1,
    times_s: list[float] | None = None,
    flip: Literal["x"] | None = None,
) -> dict[str, Any]:
    """Preview of a movie; ``frames`` are those of the first channel, then of the second and so on."""
    length = len(frames) // channels
    rows = []
    for c in range(channels):
        for t in range(length):
            path = folder / f"c{c}" / f"stack{t:04}.tif"
            path.parent.mkdir(exist_ok=True)
            tifffile.imwrite(path, frames[c * length + t], photometric="minisblack")
        rows.append(
            SheetRow(
                movie="m",
                channel=f"{488 + 72 * c}nm",
                path=str(folder / f"c{c}" / "*.tif"),
                scan="stage",
                angle_deg=31.5,
                step_um=0.4,
                pixel_um=0.1,
                interval_s=2.0,
                skew_axis="x",
                scan_sign=1,
                flip=flip,
            )
        )
    reading = ReadingParameters()
    record, table = register_movie(rows, reading, "skip" if skip_bad else "fail")
    record = replace(record, times_s=times_s or record.times_s)
    how: dict[str, Any] = {
        "optics": OpticsParameters(),
        "frames": number,
        "skip_bad": skip_bad,
        "state": "of the files",
    }
    preview_movie(rows, record, table, folder / "m.json", folder / "m.png", **how)
    found: dict[str, Any] = json.loads((folder / "m.json").read_text())
    return found


def verdict(found: dict[str, Any]) -> str:
    missing = {"missing_fraction": found["missing_frames"] / found["frames"]}
    return "; ".join(judge_movie(missing, found["channels"], QualityParameters()).reasons)


def test_motion_and_bleaching_of_a_known_movie(tmp_path: Path) -> None:
    found = look(tmp_path, [stack(t) for t in range(9)])
    assert found["problem"] is None
    assert found["looked_at"] == [0, 1, 2, 4, 6, 8]
    m = found["channels"]["488nm"]
    assert m["motion_um"] == pytest.approx(0.1 * np.hypot(*STEP_PIXELS), abs=0.02)
    assert m["motion_um_per_min"] == pytest.approx(0.1 * np.hypot(*STEP_PIXELS) * 30, abs=0.6)
    assert m["drift_um"] == pytest.approx(0.8 * np.hypot(*STEP_PIXELS), abs=0.04)
    assert m["drift_um_per_min"] == pytest.approx(m["drift_um"] / 16 * 60, rel=1e-4)
    assert m["half_life_s"] == pytest.approx(2.0 * HALF_LIFE_FRAMES, rel=0.1)
    assert m["signal_change"] == pytest.approx(2 ** (-8 / HALF_LIFE_FRAMES) - 1, abs=0.05)
    assert m["background_change"] == pytest.approx(0, abs=0.5)
    assert m["snr_last"] < m["snr"]


def test_a_skipped_frame_counts_in_time(tmp_path: Path) -> None:
    frames = [stack(t) for t in range(9)]
    frames[1] = np.zeros(SHAPE, np.uint16)
    found = look(tmp_path, frames, skip_bad=True, number=3)
    assert (found["frames"], found["missing_frames"]) == (9, 1)
    assert found["looked_at"] == [0, 2, 5, 8]
    m = found["channels"]["488nm"]
    assert m["motion_um"] == pytest.approx(0.2 * np.hypot(*STEP_PIXELS), abs=0.03)
    assert m["motion_um_per_min"] == pytest.approx(0.1 * np.hypot(*STEP_PIXELS) * 30, abs=0.6)
    assert m["half_life_s"] == pytest.approx(2.0 * HALF_LIFE_FRAMES, rel=0.15)


def test_speeds_and_half_lives_go_by_the_clock(tmp_path: Path) -> None:
    """Frames 0 to 4, as they look 0, 2, 4, 10 and 16 s after the first, when they were recorded."""
    when = [0, 1, 2, 5, 8]
    found = look(tmp_path, [stack(t) for t in when], times_s=[2.0 * t for t in when])
    assert "uneven clock: steps from 2 to 6 s, usual 4 s; motion is" in found["warnings"][0]
    m = found["channels"]["488nm"]
    assert m["half_life_s"] == pytest.approx(2.0 * HALF_LIFE_FRAMES, rel=0.1)
    assert m["drift_um"] == pytest.approx(0.8 * np.hypot(*STEP_PIXELS), abs=0.04)
    assert m["drift_um_per_min"] == pytest.approx(m["drift_um"] / 16 * 60, rel=1e-4)


def test_the_second_channel_is_judged_as_well(tmp_path: Path) -> None:
    light = particles(60, 20)
    good = [photographed(light, seed=t) for t in range(3)]
    dim = [photographed(0 * light, seed=9 + t) for t in range(3)]
    found = look(tmp_path, good + dim, channels=2)
    assert verdict(found).startswith("560nm: no more spots")
    assert "488nm" not in verdict(found)
    with Image.open(tmp_path / "m.png") as picture:
        _, y, x = light.shape
        assert picture.size == (3 * x + 12, 2 * y + 6)


def test_one_frame_is_enough(tmp_path: Path) -> None:
    found = look(tmp_path, [stack(0)])
    assert found["looked_at"] == [0]
    assert found["panels"] == ["frame 0", "middle plane of frame 0"]
    for name in ("signal_change", "half_life_s", "motion_um", "drift_um", "background_change"):
        assert found["channels"]["488nm"][name] is None
    assert verdict(found) == ""


def test_the_last_frame_is_drawn_on_the_scale_of_the_first(tmp_path: Path) -> None:
    look(tmp_path, [stack(t, moving=False) for t in (0, 1, 12)])
    with Image.open(tmp_path / "m.png") as picture:
        first, last = (np.asarray(picture)[:, 86 * k : 86 * k + 80] for k in (0, 1))
    assert np.percentile(last, 99) < 0.6 * np.percentile(first, 99)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([np.full(SHAPE, 100, np.uint16)] * 3, ["8 empty planes", "repeated frames"]),
        ([np.full(SHAPE, 65535, np.uint16)] * 3, ["saturated", "empty planes"]),
        ([np.full(SHAPE, 255, np.uint8)], ["saturated", "empty planes"]),
        ([np.maximum(stack(t), 60000) for t in range(3)], ["empty planes"]),
    ],
    ids=["constant", "saturated", "saturated 8 bit", "clipped from below"],
)
def test_movies_without_an_image_are_rejected(
    tmp_path: Path, frames: list[np.ndarray], words: list[str]
) -> None:
    found = look(tmp_path, frames)
    assert found["problem"] is None
    for word in words:
        assert word in verdict(found)


def test_frames_that_repeat_are_counted(tmp_path: Path) -> None:
    frozen = look(tmp_path, [stack(0)] * 8)
    assert frozen["channels"]["488nm"]["repeated_frames"] == len(frozen["looked_at"]) - 1
    assert "repeated frames" in verdict(frozen)


def test_zeros_are_a_problem_unless_they_are_skipped(tmp_path: Path) -> None:
    frames = [stack(t) for t in range(4)]
    frames[0] = np.zeros(SHAPE, np.uint16)
    assert "only zeros" in look(tmp_path, frames)["problem"]
    skipped = look(tmp_path, frames, skip_bad=True)
    assert skipped["problem"] is None
    assert skipped["looked_at"] == [1, 2, 3]
    assert skipped["missing_frames"] == 1
    frames[3] = np.zeros(SHAPE, np.uint16)
    assert look(tmp_path, frames, skip_bad=True)["missing_frames"] == 2
    nothing = look(tmp_path, [np.zeros(SHAPE, np.uint16)] * 4, skip_bad=True)
    assert "no usable frame" in nothing["problem"]
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.size == (64, 64)


def test_whatever_a_reader_raises_is_the_problem_of_its_movie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    frames = [stack(t) for t in range(2)]
    assert look(tmp_path, frames)["state"] == "of the files"

    def too_much(*_: object) -> None:
        raise MemoryError("4 PiB")

    monkeypatch.setattr("spatialdino_core.quality.preview.look_at", too_much)
    problem = look(tmp_path, frames)["problem"]
    assert "movie 'm': found files that cannot be read (MemoryError: 4 PiB)" in problem
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize("number", [1, 3, 5])
def test_floats_are_counts_or_a_problem(tmp_path: Path, number: int) -> None:
    frames = [stack(t, moving=False) for t in range(3)]
    whole = look(tmp_path, frames, number=number)["channels"]
    for content in (frames, [f + 0.2 for f in frames]):
        floats = look(tmp_path, [f.astype(np.float32) for f in content], number=number)["channels"]
        for name in ("snr", "background", "noise", "signal", "focus", "signal_change", "drift_um"):
            if number > 1 or whole["488nm"][name] is not None:
                assert floats["488nm"][name] == pytest.approx(whole["488nm"][name], rel=1e-3, abs=1e-3)
    scaled = look(tmp_path, [(f / 65535).astype(np.float32) for f in frames], number=number)
    assert "rounding" in scaled["problem"]
    negative = look(tmp_path, [f.astype(np.float32) - 500 for f in frames], number=number)
    assert "camera counts" in negative["problem"]


def test_eight_bits_are_measured_like_sixteen(tmp_path: Path) -> None:
    frames = [(stack(t, moving=False) // 4).astype(np.uint8) for t in range(3)]
    assert (
        look(tmp_path, frames)["channels"]
        == look(tmp_path, [f.astype(np.uint16) for f in frames])["channels"]
    )


@given(
    usable=st.lists(st.integers(0, 500), min_size=1, max_size=300, unique=True).map(sorted),
    number=st.integers(1, 100),
)
def test_frames_are_spread_evenly_from_the_first_to_the_last(usable: list[int], number: int) -> None:
    chosen = frames_to_look_at(usable, number)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(usable)
    assert chosen[0] == usable[0]
    assert len(chosen) <= number + 1
    if number > 1:
        assert chosen[-1] == usable[-1]
        assert len(usable) == 1 or chosen[1] == usable[1]
        places = sorted({usable.index(frame) for frame in chosen} - ({1} if len(chosen) > number else set()))
        gaps = np.diff(places)
        assert len(gaps) == 0 or gaps.max() <= (len(usable) - 1) / (min(number, len(usable)) - 1) + 1


def test_one_frame_is_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame's voxels are gone when the next is read."""
    import weakref

    alive: list[weakref.ref[np.ndarray]] = []
    most = 0
    measure = channel.look_at

    def watched(frame: int, raw: np.ndarray, *how: Any) -> channel.FrameLook:
        nonlocal most
        alive.append(weakref.ref(raw))
        most = max(most, sum(ref() is not None for ref in alive))
        return measure(frame, raw, *how)

    monkeypatch.setattr(preview, "look_at", watched)
    look(tmp_path, [stack(t) for t in range(8)], channels=2)
    assert len(alive) == 2 * 4
    assert most <= 2


def test_hot_pixels_of_the_first_two_frames_are_listed_and_not_measured(tmp_path: Path) -> None:
    """Later frames have no say, or the list would change when a movie grows."""
    clean = [stack(t) for t in range(5)]
    places = {(20, 31), (40, 7)}
    frames = [frame.copy() for frame in clean]
    for t, frame in enumerate(frames):
        for y, x in places:
            frame[:, y, x] += 400
        frame[:, 50, 60] += 400 * (t > 0)
        frame[:, 10, 70] += 400 * (t != 1)
        frame[:, 60, 70] += 400 * (t > 1)
        frame[:, 33, 50] += 400 * (t < 2)
    (tmp_path / "hot").mkdir()
    (tmp_path / "clean").mkdir()
    found = look(tmp_path / "hot", frames)
    assert found["hot_pixels"] == {"488nm": sorted([*map(list, places), [33, 50]])}
    m, expected = found["channels"]["488nm"], look(tmp_path / "clean", clean)["channels"]["488nm"]
    assert m["hot_pixels"] == 3
    assert expected["hot_pixels"] == 0
    for name in ("snr", "signal", "motion_um", "drift_um"):
        assert m[name] == pytest.approx(expected[name], rel=0.05), name


def test_borders_that_another_program_filled_are_not_measured(tmp_path: Path) -> None:
    clean = [stack(t) for t in range(3)]
    z, _, x = np.indices(SHAPE)
    outside = (x < 4 + z) | (x > 60 + z)
    for name, value in (("zero", 0), ("other", 9000), ("clean", None)):
        (tmp_path / name).mkdir()
        frames = clean if value is None else [np.where(outside, value, f).astype(np.uint16) for f in clean]
        found = look(tmp_path / name, frames)
        assert found["no_data"] == {"488nm": value}
        m = found["channels"]["488nm"]
        assert m["no_data_fraction"] == pytest.approx(0 if value is None else outside.mean(), rel=1e-5)
        assert m["noise"] == pytest.approx(3, rel=0.25)
        assert m["background"] == pytest.approx(100, abs=6)
        assert (m["empty_planes"], m["saturated_fraction"]) == (0, 0)
        assert m["motion_um"] == pytest.approx(0.1 * np.hypot(*STEP_PIXELS), abs=0.03)
        assert (m["lowest"] > 50, m["highest"] < 2000) == (True, True)


def test_a_contradicted_geometry_is_in_the_preview(tmp_path: Path) -> None:
    """A scan that went backwards, one as declared, and one whose camera mirrored it, which is the same."""
    right = [photographed(particles(60, 30, seed), seed=seed) for seed in range(2)]
    for name in ("right", "backwards", "mirrored"):
        (tmp_path / name).mkdir()
    found = look(tmp_path / "right", right)
    assert found["geometry"]["488nm"]["word"] == "same"
    assert "3.41) px declared" in found["geometry"]["488nm"]["fact"]
    assert found["channels"]["488nm"]["shift_x_pixels"] == pytest.approx(-3.28, abs=0.1)
    backwards = look(tmp_path / "backwards", [one[::-1] for one in right])
    assert "scan_sign -1 would agree" in backwards["geometry"]["488nm"]["reason"]
    mirrored = look(tmp_path / "mirrored", [one[:, :, ::-1] for one in right], flip="x")
    assert mirrored["geometry"]["488nm"]["word"] == "same"
    assert verdict(mirrored) == ""


def test_what_correlations_take_does_not_grow_with_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    whole = preview.channel_metrics
    monkeypatch.setattr(
        preview, "channel_metrics", lambda looks, *others: kept.extend(looks) or whole(looks, *others)
    )
    look(tmp_path, [photographed(particles(20, 30, seed), seed=seed) for seed in range(3)])
    assert len(kept) == 3
    assert all(one.planes is None for one in kept)
