"""Particles told from noise by what goes on from plane to plane: scenes by formula, noise of any law."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.quality import coherence
from spatialdino_core.quality.coherence import SpotMaxima, noise_p_value, spot_maxima

SHAPE = (40, 64, 96)
STEP_UM, PIXEL_UM, ANGLE_DEG = 0.4, 0.104, 31.5
OPTICS = OpticsParameters()
SURE, UNLIKELY = 0.001, 0.05


def particles(number: int, peak: float, seed: int = 0) -> np.ndarray:
    """Expected photons of a stage scan without background: points in space, sampled as the planes lie."""
    spacing = STEP_UM * np.sin(np.radians(ANGLE_DEG)) / OPTICS.sigma_axial_um
    shear, sigma = STEP_UM * np.cos(np.radians(ANGLE_DEG)) / PIXEL_UM, OPTICS.sigma_lateral_um / PIXEL_UM
    light, rng = np.zeros(SHAPE), np.random.default_rng(seed)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for a, b, c in rng.uniform([2, 4, 4], [s - 4 for s in SHAPE], (number, 3)):
        along = x - c + shear * (z - a)  # a plane further up shows the point further down the tilted axis
        square = (spacing * (z - a)) ** 2 + ((y - b) / sigma) ** 2 + (along / sigma) ** 2
        light += peak * np.exp(-square / 2)
    return light


def photographed(light: np.ndarray, background: float = 10.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (100 + 2 * rng.poisson(light + background)).astype(np.uint16)


def scan(kind: str = "stage", **changes: Any) -> ScanGeometry:
    return ScanGeometry(
        **(dict(scan=kind, angle_deg=ANGLE_DEG, step_um=STEP_UM, pixel_um=PIXEL_UM) | changes)
    )


def p_values(stack: np.ndarray, geometry: ScanGeometry) -> tuple[float, float]:
    spots = spot_maxima(0, stack, geometry, OPTICS)
    assert spots is not None
    return noise_p_value([spots]), noise_p_value([spots], mirrored=True)


def as_z_stage(stack: np.ndarray) -> np.ndarray:
    """A stage scan seen in the mirror, and from its other end: that of a z-stage, whose planes come down."""
    return stack[::-1, :, ::-1]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize(("kind", "arranged"), [("stage", None), ("z-stage", as_z_stage)])
def test_every_way_to_scan(
    kind: str,
    arranged: Callable[[np.ndarray], np.ndarray] | None,
    axis: Literal["x", "y"],
    sign: Literal[1, -1],
) -> None:
    """Also that planes which fit together the other way are seen to."""
    stack = photographed(particles(30, 10))
    stack = stack if arranged is None else arranged(stack)
    stack = stack[::sign]
    stack = stack.swapaxes(1, 2) if axis == "y" else stack
    angle = ANGLE_DEG if kind == "stage" else 90 - ANGLE_DEG
    right, mirrored = p_values(stack, scan(kind, skew_axis=axis, scan_sign=sign, angle_deg=angle))
    assert right < SURE
    assert mirrored > UNLIKELY
    right, mirrored = p_values(stack, scan(kind, skew_axis=axis, scan_sign=-sign, angle_deg=angle))
    assert right > UNLIKELY
    assert mirrored < SURE


@pytest.mark.parametrize(
    ("number", "peak"), [(1, 40), (1, 4000), (3, 4000), (20, 400), (200, 5), (500, 4000)]
)
def test_few_or_many_dim_or_bright(number: int, peak: float) -> None:
    """Peaks of 5 photons over 10 have a signal-to-noise ratio of 1.3."""
    frames = [
        photographed(particles(number, peak, seed), seed=seed) for seed in range(4 if number == 1 else 1)
    ]
    spots = [spot_maxima(t, frame, scan(), OPTICS) for t, frame in enumerate(frames)]
    assert noise_p_value([one for one in spots if one is not None]) < SURE


def camera(law: str, rng: np.random.Generator) -> np.ndarray:
    """Noise alone, with what cameras add to it."""
    stack = rng.poisson({"dark": 0.2, "dim": 3}.get(law, 50), SHAPE).astype(float)
    if law == "fixed pattern":
        stack += rng.gamma(2, 4, SHAPE[1:]) + rng.normal(0, 1, SHAPE) * rng.lognormal(0, 1, SHAPE[1:])
    if law == "hot pixels":
        stack[:, rng.integers(0, SHAPE[1], 30), rng.integers(0, SHAPE[2], 30)] += 4000
    if law == "lamp":
        stack += rng.poisson(np.broadcast_to(np.linspace(0, 200, SHAPE[2]), SHAPE))
    return np.rint(100 + stack).astype(np.uint16)


@pytest.mark.parametrize("law", ["dark", "dim", "bright", "fixed pattern", "hot pixels", "lamp"])
def test_noise_of_any_law_is_noise(law: str) -> None:
    values = [p_values(camera(law, np.random.default_rng(seed)), scan())[0] for seed in range(20)]
    assert np.count_nonzero(np.array(values) < UNLIKELY) <= 2
    assert min(values) > SURE


def test_frames_add_up() -> None:
    """What one frame leaves in doubt several decide."""
    frames = [photographed(particles(8, 4.5, seed), seed=seed) for seed in range(6)]
    spots = [spot_maxima(t, frame, scan(), OPTICS) for t, frame in enumerate(frames)]
    known = [one for one in spots if one is not None]
    assert noise_p_value(known) < SURE < min(noise_p_value([one]) for one in known)


def test_borders_without_data_make_no_spots() -> None:
    """A fill value far from the background ends in edges that go on from plane to plane."""
    stack = camera("bright", np.random.default_rng(0))
    no_data = np.zeros(SHAPE, bool)
    for z in range(SHAPE[0]):
        no_data[z, :, : max(0, 90 - round(3.28 * z))] = True
    stack[no_data] = 400
    spots = spot_maxima(0, stack, scan(), OPTICS, no_data)
    assert spots is not None
    assert noise_p_value([spots]) > UNLIKELY
    spots = spot_maxima(0, stack, scan(), OPTICS)
    assert spots is not None
    assert noise_p_value([spots]) < SURE


def test_too_few_planes_do_not_tell() -> None:
    stack = photographed(particles(30, 10))
    assert spot_maxima(0, stack[:14], scan(), OPTICS) is None
    assert isinstance(spot_maxima(0, stack[:15], scan(), OPTICS), SpotMaxima)
    assert p_values(np.full(SHAPE, 100, np.uint16), scan())[0] == 1.0


@pytest.mark.parametrize("step_um", [0.5, 0.7, 1.5])
def test_planes_too_far_apart_to_share_a_particle_do_not_tell(step_um: float) -> None:
    stack = photographed(particles(30, 10))
    spots = spot_maxima(0, stack, scan("objective", angle_deg=None, step_um=step_um), OPTICS)
    assert (spots is None) == (step_um > 1.5 * OPTICS.sigma_axial_um)


@pytest.mark.parametrize("kind", ["bleaching", "haze", "two levels"])
def test_light_that_changes_from_plane_to_plane_is_no_particle(kind: str) -> None:
    depth = np.arange(SHAPE[0])[:, None, None]
    light = {
        "bleaching": 80 * 0.25 ** (depth / SHAPE[0]),
        "haze": 5 + 200 * np.exp(-((depth - 20) ** 2) / 50),
        "two levels": np.where(depth < 20, 10, 50),
    }[kind]
    values = [p_values(photographed(light + np.zeros(SHAPE), 0.0, seed), scan())[0] for seed in range(12)]
    assert np.count_nonzero(np.array(values) < UNLIKELY) <= 1
    assert min(values) > SURE


def test_of_large_frames_bands_are_looked_at_elsewhere_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coherence, "LOOK_VOXELS", SHAPE[0] * SHAPE[2] * 48)
    rows = [coherence._rows_to_look_at(frame, SHAPE, 2) for frame in range(8)]
    assert all(len(one) == 48 and one[-1] < SHAPE[1] for one in rows)
    assert len(np.unique(np.concatenate(rows))) > 0.9 * SHAPE[1]
    assert p_values(photographed(particles(200, 10)), scan())[0] < SURE
