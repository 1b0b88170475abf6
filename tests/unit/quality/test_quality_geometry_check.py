"""Declared against measured geometry: every way to scan, what would agree, what is not told; a real cell."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile

from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.plant.raw import particle_light
from spatialdino_core.plant.spread import gaussian_spread
from spatialdino_core.quality.geometry_check import (
    Comparison,
    as_recorded,
    compare,
    image_shift,
    of_one_movie,
    shift_measures,
)
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.quality.plane_correlation import added, plane_correlations
from spatialdino_core.quality.plane_shift import PlaneShift, plane_shift
from spatialdino_core.quality.verdict import judge, judge_movie

OPTICS = OpticsParameters()
STAGE = ScanGeometry(scan="stage", angle_deg=40, step_um=0.4, pixel_um=0.1)
MOVED = 0.4 * np.cos(np.radians(40)) / 0.1


def found(y: float, x: float, error: float = 0.02, spread: float = 0.0, prominence: float = 30) -> PlaneShift:
    return PlaneShift(np.array([y, x]), np.full(2, error), np.full(2, spread), prominence, 12)


def scanned(geometry: ScanGeometry, seed: int = 0) -> PlaneShift | None:
    """Measured on points of light that are planted as the geometry says."""
    rng, shape = np.random.default_rng(seed), (40, 80, 80)
    places, peaks = rng.uniform(0, shape, (60, 3)), np.full(60, 30.0)
    spread = gaussian_spread((OPTICS.sigma_axial_um, OPTICS.sigma_lateral_um, OPTICS.sigma_lateral_um))
    light = particle_light(shape, places, peaks, spread, geometry)
    stack = (100 + rng.poisson(light + 10)).astype(np.uint16)
    return measured([stack], geometry)


def measured(stacks: Sequence[np.ndarray], geometry: ScanGeometry) -> PlaneShift | None:
    looks = [plane_correlations(frame, stack, geometry, OPTICS) for frame, stack in enumerate(stacks)]
    together = functools.reduce(added, looks)
    return None if together is None else plane_shift(together)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("kind", ["stage", "z-stage", "objective", "none"])
def test_every_way_to_scan_agrees_with_itself_alone(
    kind: Literal["stage", "z-stage", "objective", "none"], axis: Literal["x", "y"], sign: Literal[1, -1]
) -> None:
    skewed = kind in ("stage", "z-stage")
    step = 0.3 if skewed else 0.2
    geometry = ScanGeometry(
        scan=kind, angle_deg=45, step_um=step, pixel_um=0.104, skew_axis=axis, scan_sign=sign
    )
    shift = scanned(geometry)
    assert compare(shift, geometry).word == "same"
    if not skewed:
        return
    other = compare(shift, replace(geometry, scan_sign=-sign))
    assert other.word == "contradiction"
    assert f"scan_sign {sign:+d} would agree" in other.reason
    turned = compare(shift, replace(geometry, skew_axis="y" if axis == "x" else "x"))
    assert turned.word == "contradiction"
    assert f"skew_axis {axis} with scan_sign {sign:+d} would agree" in turned.reason
    for wrong in (dict(angle_deg=56), dict(angle_deg=34), dict(step_um=0.36), dict(step_um=0.24)):
        assert compare(shift, replace(geometry, **wrong)).word == "contradiction"


def test_direction_of_a_stage_scan() -> None:
    """As docs/sample_sheet.md has it: with scan_sign +1, at a smaller x in the next plane."""
    assert np.allclose(image_shift(STAGE), (0, -MOVED))
    assert np.allclose(image_shift(replace(STAGE, scan_sign=-1)), (0, MOVED))
    assert np.allclose(image_shift(replace(STAGE, skew_axis="y")), (-MOVED, 0))
    assert np.allclose(image_shift(STAGE, "x"), (0, MOVED))
    assert np.allclose(image_shift(STAGE, "y"), (0, -MOVED))
    assert as_recorded(STAGE, "y") == STAGE


def test_a_mirrored_camera_agrees_as_it_records() -> None:
    assert compare(found(0, MOVED), STAGE, "x").word == "same"
    other = compare(found(0, -MOVED), STAGE, "x")
    assert "scan_sign -1 would agree" in other.reason


def numbers(text: str, name: str) -> tuple[float, float]:
    value = re.search(rf"{name} ([\d.]+) ± ([\d.]+)", text)
    assert value is not None, text
    return float(value[1]), float(value[2])


@pytest.mark.parametrize("kind", ["stage", "z-stage"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_angle_and_the_step_that_would_agree(kind: Literal["stage", "z-stage"], sign: int) -> None:
    true = replace(STAGE, scan=kind, angle_deg=50, scan_sign=sign)
    shift = found(*image_shift(true), error=0.03)
    said = compare(shift, replace(true, angle_deg=40)).reason
    angle, error = numbers(said, "angle_deg")
    assert angle == pytest.approx(50, abs=0.1)
    for share, word in ((0.8, "same"), (-0.8, "same"), (1.3, "contradiction"), (-1.3, "contradiction")):
        assert compare(shift, replace(true, angle_deg=angle + share * error)).word == word
    step, error = numbers(said, "step_um")
    for share, word in ((0.8, "same"), (-0.8, "same"), (1.3, "contradiction"), (-1.3, "contradiction")):
        within = replace(true, angle_deg=40, step_um=step + share * error)
        assert compare(shift, within).word == word
    function = np.cos if kind == "stage" else np.sin
    assert step == pytest.approx(0.4 * function(np.radians(50)) / function(np.radians(40)), rel=0.01)
    assert "cannot tell an angle from a step" in said
    assert compare(shift, replace(true, angle_deg=angle)).word == "same"
    assert compare(shift, replace(true, angle_deg=40, step_um=step)).word == "same"


def test_where_no_angle_would_agree_only_the_step_is_named() -> None:
    said = compare(found(0, -5), STAGE).reason
    assert "no angle does" in said
    assert compare(found(0, -5), replace(STAGE, step_um=numbers(said, "step_um")[0])).word == "same"


def test_both_values_are_said() -> None:
    said = compare(found(0.01, 3.06, 0.02), STAGE).reason
    assert "(0.01 ± 0.02, 3.06 ± 0.02)" in said
    assert "(0.00, −3.06)" in said


@pytest.mark.parametrize(
    ("shift", "geometry", "words"),
    [
        (found(0, 0), STAGE, "without skew"),
        (found(0, -2.5), ScanGeometry(scan="none", step_um=0.2, pixel_um=0.1), "skewed along x by 0.25 µm"),
        (found(2, -2), STAGE, "No setting would agree"),
        (found(2, 0), STAGE, "skew_axis y with scan_sign -1 would agree in direction"),
    ],
)
def test_what_else_would_agree(shift: PlaneShift, geometry: ScanGeometry, words: str) -> None:
    said = compare(shift, geometry)
    assert said.word == "contradiction"
    assert words in said.reason


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (dict(prominence=5.9), "cannot tell"),
        (dict(error=0.5), "cannot tell"),
        (dict(spread=0.9), "cannot tell"),
        (dict(error=0.05), "contradiction"),
    ],
)
def test_what_is_uncertain_is_not_held_against_a_movie(changes: dict[str, Any], word: str) -> None:
    assert compare(found(0, -MOVED + 0.6, **changes), STAGE).word == word
    assert compare(found(0, -MOVED, **changes), STAGE).word != "contradiction"
    assert compare(None, STAGE) == Comparison("cannot tell")


def test_a_degree_of_the_camera_and_a_percent_of_the_magnification_are_the_same() -> None:
    turned = MOVED * np.sin(np.radians(2))
    assert compare(found(turned, -1.03 * MOVED, 0.001), STAGE).word == "same"


def test_channels_share_one_scan() -> None:
    wrong, right = compare(found(0, 3), STAGE), compare(found(0, -MOVED), STAGE)
    both = of_one_movie({"a": wrong, "b": right})
    assert [one.word for one in both.values()] == ["cannot tell", "same"]
    assert both["a"].reason == ""
    assert of_one_movie({"a": wrong, "b": Comparison("cannot tell")})["a"] == wrong


def test_measures_are_given_where_something_stands_out() -> None:
    assert shift_measures(found(0.1, -3, 0.03, 0.04)) == {
        "shift_y_pixels": 0.1, "shift_x_pixels": -3, "shift_error_pixels": pytest.approx(0.05)
    }  # fmt: skip
    assert set(shift_measures(None).values()) == {None}
    assert set(shift_measures(found(0, 0, prominence=3)).values()) == {None}


@pytest.mark.parametrize(("setting", "word"), [("refuse", "reject"), ("warn", "look"), ("off", "accept")])
def test_the_setting_decides(setting: Literal["refuse", "warn", "off"], word: str) -> None:
    parameters = QualityParameters(geometry_check=setting)
    verdict = judge({"noise_p_value": 0.5}, parameters, "it contradicts")
    assert verdict.word == word
    assert ("it contradicts" in verdict.reasons) == (setting != "off")
    assert not any("noise" in reason for reason in verdict.reasons)
    other_way = judge({"noise_p_value": 1.0, "mirrored_p_value": 1e-20}, parameters)
    assert other_way.word == word
    named = judge_movie({}, {"a": {}, "b": {}}, parameters, {"b": "it contradicts"})
    assert named.reasons == (() if setting == "off" else ("b: it contradicts",))


def test_a_real_cell(real_data: Path) -> None:
    """Scanned by its stage; every setting wrong in turn."""
    stack = tifffile.imread(real_data / "llsm_cell" / "raw_skewed.tif")
    true = ScanGeometry(scan="stage", angle_deg=31.5, step_um=0.3, pixel_um=0.1)
    shift = measured([stack], true)
    assert compare(shift, true).word == "same"
    for wrong in (replace(true, scan_sign=-1), replace(true, skew_axis="y")):
        assert compare(shift, wrong).word == "contradiction"
    for change in (dict(angle_deg=41.5), dict(angle_deg=21.5), dict(step_um=0.36), dict(step_um=0.24)):
        wrong = replace(true, **change)
        assert compare(measured([stack], wrong), wrong).word == "contradiction", change


def test_real_mitochondria_of_an_upright_stack_are_not_refused(real_data: Path) -> None:
    yeast = tifffile.imread(real_data / "yeast_mitochondria" / "yeast_3d_mitochondria.ome.tif")
    upright = ScanGeometry(scan="none", step_um=0.25, pixel_um=0.0655)
    for first in range(6):
        assert compare(measured(list(yeast[first::6]), upright), upright).word != "contradiction"
