"""The statistics of simulated lives against the laws they are drawn from."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from spatialdino_core.simulate.cell import cell_image, grow_cell, wave_field
from spatialdino_core.simulate.grid import Grid, Volume, imaged_volume
from spatialdino_core.simulate.parameters import AcquisitionParameters, SceneParameters
from spatialdino_core.simulate.scene import TRUTH_COLUMNS, live, truth_table

VOXEL = Grid((1, 1, 1), 0.2, 0.0, 0.1)
POSITION = ["z_um", "y_um", "x_um"]


def box(side_um: float) -> Volume:
    return Volume(np.zeros(3), np.full(3, side_um), slope=0.5)


def table(scene: SceneParameters, side_um: float = 1e4, seed: int = 0) -> pd.DataFrame:
    frames, merged = live(scene, box(side_um), 50.0, np.random.default_rng(seed))
    return truth_table(frames, merged, scene, VOXEL)


def displacements(truth: pd.DataFrame, lag: int) -> np.ndarray:
    moved = truth[POSITION] - truth.groupby("particle")[POSITION].shift(lag)
    return moved.dropna().to_numpy()


def events(truth: pd.DataFrame) -> pd.DataFrame:
    """First and last frame, parent and heir per particle."""
    return truth.groupby("particle").agg(
        first=("frame", "min"),
        last=("frame", "max"),
        rows=("frame", "size"),
        parent=("parent", "first"),
        merged_into=("merged_into", "first"),
    )


def test_brownian_msd_is_six_d_t() -> None:
    scene = SceneParameters(frames=30, particles=1000, diffusion_um2_per_s=0.004, interval_s=1.5)
    truth = table(scene)
    for lag in (1, 5):
        msd = (displacements(truth, lag) ** 2).sum(axis=1).mean()
        assert msd == pytest.approx(6 * 0.004 * lag * 1.5, rel=0.04)
    assert np.abs(displacements(truth, 1).mean(axis=0)).max() < 0.005


def test_directed_particles_run_straight_at_their_speed() -> None:
    truth = table(SceneParameters(frames=6, particles=50, directed_fraction=1.0, speed_um_per_s=0.3))
    for lag in (1, 5):
        np.testing.assert_allclose(np.linalg.norm(displacements(truth, lag), axis=1), 0.3 * 2 * lag)
    headings = displacements(truth, 1) / 0.6
    assert np.abs(headings.mean(axis=0)).max() < 0.3


def test_switching_keeps_the_fraction_and_turns() -> None:
    scene = SceneParameters(
        frames=40,
        particles=300,
        diffusion_um2_per_s=0.0,
        directed_fraction=0.4,
        switching_rate_hz=0.1,
        interval_s=1.0,
        speed_um_per_s=1.0,
    )
    truth = table(scene)
    steps = displacements(truth, 1).reshape(300, 39, 3)
    running = np.linalg.norm(steps, axis=2) > 0.5
    assert running.mean() == pytest.approx(0.4, abs=0.03)
    # Heading correlation between successive steps of runners: unchanged unless drawn anew.
    both = running[:, 1:] & running[:, :-1]
    same = np.isclose((steps[:, 1:] * steps[:, :-1]).sum(axis=2)[both], 1.0)
    kept = math.exp(-0.1)
    assert same.mean() == pytest.approx(kept / (kept + (1 - kept) * 0.4), abs=0.015)


def test_particles_stay_inside_a_small_volume() -> None:
    scene = SceneParameters(frames=30, particles=50, directed_fraction=0.5, speed_um_per_s=0.4)
    truth = table(scene, side_um=2.0)
    assert box(2.0).contains(truth[POSITION].to_numpy()).all()
    assert (np.linalg.norm(displacements(truth, 1), axis=1) > 0).mean() > 0.99


def test_births_balance_deaths() -> None:
    scene = SceneParameters(frames=300, particles=100, lifetime_s=20.0, interval_s=2.0)
    truth = table(scene)
    assert truth.groupby("frame").size().mean() == pytest.approx(100, rel=0.08)
    lives = events(truth)
    deaths = (lives["last"] < 299).sum()
    assert deaths / (truth["frame"] < 299).sum() == pytest.approx(1 - math.exp(-0.1), rel=0.06)
    assert (lives["first"] > 0).sum() / 299 == pytest.approx(100 * (1 - math.exp(-0.1)), rel=0.06)
    assert (lives["last"] - lives["first"] + 1 == lives["rows"]).all()


def test_blinking_has_its_rates() -> None:
    scene = SceneParameters(
        frames=200, particles=100, blink_rate_hz=0.1, blink_duration_s=3.0, interval_s=1.0
    )
    truth = table(scene)
    visible = truth["visible"].to_numpy().reshape(100, 200)
    dark = 0.3 / 1.3
    assert 1 - visible.mean() == pytest.approx(dark, rel=0.05)
    assert 1 - visible[:, 0].mean() == pytest.approx(dark, abs=0.15)
    to_dark = (~visible[:, 1:])[visible[:, :-1]].mean()
    assert to_dark == pytest.approx(dark * (1 - math.exp(-0.1 - 1 / 3)), rel=0.06)
    assert (truth["brightness"][~truth["visible"]] == 0).all()


def test_brightness_has_mean_and_spread() -> None:
    truth = table(SceneParameters(frames=1, particles=5000, brightness_cv=0.4))
    assert truth["brightness"].mean() == pytest.approx(50, rel=0.03)
    assert truth["brightness"].std() / truth["brightness"].mean() == pytest.approx(0.4, rel=0.08)


def test_splits_and_merges_are_balanced_in_the_truth() -> None:
    scene = SceneParameters(
        frames=40, particles=80, split_rate_hz=0.02, merge_rate_hz=0.2, merge_distance_um=0.5
    )
    truth = table(scene, side_um=6.0)
    lives = events(truth)
    positions = truth.set_index(["particle", "frame"])[POSITION]
    children, merged = lives[lives["parent"] >= 0], lives[lives["merged_into"] >= 0]
    assert len(children) > 20
    assert len(merged) > 20
    for _, child in children.iterrows():
        parent = lives.loc[child["parent"]]
        assert parent["first"] < child["first"] <= parent["last"]
    for particle, life in merged.iterrows():
        heir = lives.loc[life["merged_into"]]
        assert heir["first"] <= life["last"] < heir["last"]
        gap = positions.loc[(particle, life["last"])] - positions.loc[(life["merged_into"], life["last"])]
        assert np.linalg.norm(gap) <= 0.5
    assert len(lives) == 80 + len(children)
    assert truth.groupby("frame").size()[39] == 80 + len(children) - len(merged)
    total = truth.groupby("frame")["brightness"].sum()
    np.testing.assert_allclose(total, total[0])


def test_split_rate() -> None:
    scene = SceneParameters(frames=20, particles=500, split_rate_hz=0.01, interval_s=2.0)
    truth = table(scene)
    chances = (truth["frame"] < 19).sum()
    assert (events(truth)["parent"] >= 0).sum() / chances == pytest.approx(1 - math.exp(-0.02), rel=0.2)


def test_table_states_positions_twice_and_in_order() -> None:
    scene = SceneParameters(frames=4, particles=7, lifetime_s=5.0)
    truth = table(scene, side_um=3.0)
    assert list(truth.columns) == TRUTH_COLUMNS
    np.testing.assert_allclose(truth[["z", "y", "x"]] * [0.2, 0.1, 0.1], truth[POSITION])
    np.testing.assert_allclose(truth["time_s"], 2.0 * truth["frame"])
    pd.testing.assert_frame_equal(truth, truth.sort_values(["particle", "frame"], ignore_index=True))
    pd.testing.assert_frame_equal(truth, table(scene, side_um=3.0))


def test_empty_scene_has_an_empty_table() -> None:
    truth = table(SceneParameters(frames=3, particles=0, merge_rate_hz=1.0, split_rate_hz=1.0))
    assert len(truth) == 0
    assert list(truth.columns) == TRUTH_COLUMNS


def test_cell_confines_particles_between_outline_and_nucleus() -> None:
    volume = imaged_volume(AcquisitionParameters(), 0.5)
    cell = grow_cell(volume, 0.8, 0.3, np.random.default_rng(2))
    scene = SceneParameters(frames=20, particles=40, split_rate_hz=0.05, merge_rate_hz=0.2)
    frames, _ = live(scene, cell, 50.0, np.random.default_rng(0))
    positions = np.concatenate(frames)["position_um"]
    assert cell.contains(positions).all()
    assert volume.contains(positions).all()
    share = cell.contains(volume.draw(4000, np.random.default_rng(1))).mean()
    assert 0.25 < share < 0.55  # an ellipsoid fills π/6 of its box


def test_cell_background_has_mean_one_where_particles_live() -> None:
    cell = grow_cell(imaged_volume(AcquisitionParameters(), 0.5), 0.4, 0.3, np.random.default_rng(2))
    points = cell.draw(3000, np.random.default_rng(3))
    brightness = cell.brightness(points)
    assert brightness.mean() == pytest.approx(1, abs=0.15)
    assert brightness.std() == pytest.approx(0.3, abs=0.12)
    grid = Grid((3, 4, 5), 3.0, 1.0, 2.0)
    np.testing.assert_array_equal(cell_image(cell, grid)[2], cell.brightness(grid.plane_points(2)))


def test_texture_has_unit_variance_and_its_length() -> None:
    near, far, values = [], [], []
    for seed in range(60):
        field = wave_field(0.8, np.random.default_rng(seed))
        at = field(np.array([[0.0, 0, 0], [0.8, 0, 0], [0, 8.0, 0]]))
        values.append(at)
        near.append(at[0] * at[1])
        far.append(at[0] * at[2])
    assert np.var(values) == pytest.approx(1, abs=0.2)
    assert np.mean(near) == pytest.approx(math.exp(-0.5), abs=0.25)
    assert np.mean(far) == pytest.approx(0, abs=0.3)
