"""Two particles in one detection: known pairs and singles, imaged as skewed stacks and deskewed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest

from spatialdino_core.geometry.deskew import Deskew
from spatialdino_core.geometry.grid import output_grid
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.segment.believe.calibration import Calibration, calibrate
from spatialdino_core.segment.detect.window import SegmentMovie
from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.frame import segment_frame
from spatialdino_core.segment.measure import boxes
from spatialdino_core.segment.measure.localise import fit_spots
from spatialdino_core.segment.measure.pairs import fit_pairs
from spatialdino_core.segment.measure.splitting import Singles, split_spots, typical_singles
from spatialdino_core.segment.optics import Optics
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.volume import Volume
from spatialdino_core.simulate.grid import imaged_volume, raw_grid
from spatialdino_core.simulate.parameters import AcquisitionParameters, CameraParameters
from spatialdino_core.simulate.render import add_particles, camera_counts, peak_photons

ACQUISITION = AcquisitionParameters(
    scan="stage", angle_deg=31.5, step_um=0.4, pixel_um=0.104, planes=35, rows=112, columns=112
)
GEOMETRY = ScanGeometry(scan="stage", angle_deg=31.5, step_um=0.4, pixel_um=0.104)
GRID = output_grid(GEOMETRY, (35, 112, 112))
WIDTHS = {"sigma_axial_um": 0.32, "sigma_lateral_um": 0.14}
PSF_UM = np.array([0.32, 0.14, 0.14])
BACKGROUND = 10.0
PARAMETERS = SegmentParameters(temporal_reach_frames=0)
BESIDE = np.array([0.0, 1.0, 1.0])
"""From one particle of a pair towards the middle, in voxels."""
PLAIN = Singles((1.0, 1.0, 1.0), 2.4, 1.0)
DIRECTIONS = {"lateral": np.array([0.0, 0.6, 0.8]), "axial": np.array([1.0, 0.0, 0.0])}


@dataclass(frozen=True)
class Blob:
    """A Gaussian image with peak 1, ``long`` times as long along ``direction`` (in units of ``sigma_um``)."""

    sigma_um: np.ndarray
    direction: np.ndarray
    long: float = 1.0

    @property
    def _covariance(self) -> np.ndarray:
        along = self.direction / np.linalg.norm(self.direction) * self.sigma_um
        return np.diag(self.sigma_um**2) + (self.long**2 - 1) * np.outer(along, along)

    @property
    def reach_um(self) -> tuple[float, float, float]:
        z, y, x = 4 * np.sqrt(np.diag(self._covariance))
        return float(z), float(y), float(x)

    def __call__(self, z_um: np.ndarray, y_um: np.ndarray, x_um: np.ndarray) -> np.ndarray:
        far = np.stack(np.broadcast_arrays(z_um, y_um, x_um), axis=-1)
        distance = np.einsum("...a,ab,...b->...", far, np.linalg.inv(self._covariance), far)
        return np.exp(-0.5 * distance).astype(np.float32)


def far_apart(rng: np.random.Generator, count: int = 35, apart: float = 9.0) -> np.ndarray:
    """Places (n, 3) in µm, further from one another than ``apart`` standard deviations."""
    volume, places = imaged_volume(ACQUISITION, 0.9), np.empty((0, 3))
    for place in volume.draw(4000, rng):
        if len(places) < count and (np.linalg.norm((places - place) / PSF_UM, axis=1) > apart).all():
            places = np.vstack([places, place])
    return places


def deskewed(
    places: np.ndarray, photons: np.ndarray, blobs: list[Blob], rng: np.random.Generator
) -> np.ndarray:
    """A deskewed frame of particles (n, 3) in µm with their peaks (n,)."""
    grid = raw_grid(ACQUISITION)
    stack = np.full(grid.shape, BACKGROUND, np.float32)
    for place, peak, blob in zip(places, photons, blobs, strict=True):
        add_particles(stack, grid, blob, place[None], np.array([peak]))
    return Deskew(grid=GRID, threads=1)(camera_counts(stack, CameraParameters(), rng)).voxels


def singles_movie(
    snr: float, *, frames: int = 2, wider: float = 1.0, long: float = 1.0, spread: float = 0.2, seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames of single particles of log-normal brightness, and where they are."""
    rng = np.random.default_rng([seed, int(10 * snr)])
    peak = peak_photons(snr, BACKGROUND, CameraParameters())
    images, truth = [], []
    for _ in range(frames):
        places = far_apart(rng)
        photons = peak * np.exp(rng.normal(0, spread, len(places)))
        blobs = [Blob(wider * PSF_UM, rng.normal(size=3), long) for _ in places]
        images.append(deskewed(places, photons, blobs, rng))
        truth.append(places)
    return images, truth


def pairs_frame(
    snr: float, distance: float, direction: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs ``distance`` standard deviations apart, one 0.6 to 1 times as bright; places (n, 2, 3)."""
    middle = far_apart(rng, apart=13.0)
    half = direction * PSF_UM * distance / 2
    places = np.stack([middle - half, middle + half], axis=1)
    peak = peak_photons(snr, BACKGROUND, CameraParameters())
    photons = np.stack([np.full(len(middle), peak), peak * rng.uniform(0.6, 1, len(middle))], axis=1)
    blobs = [Blob(PSF_UM, direction)] * (2 * len(middle))
    return deskewed(places.reshape(-1, 3), photons.reshape(-1), blobs, rng), places


def movie(images: list[np.ndarray]) -> SegmentMovie:
    frames = range(len(images))
    return SegmentMovie(lambda number: images[number], frames, GRID.voxel_um, valid=GRID.valid)


def calibrated(images: list[np.ndarray]) -> Calibration:
    return calibrate(movie(images), PARAMETERS)


def detected_um(image: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Positions (n, 3) in µm of what is detected, candidates left out."""
    _, table = segment_frame(movie([image]), 0, calibration, PARAMETERS)
    sure = table["detection_confidence"] >= calibration.evidence.threshold
    return table.loc[sure, ["z_um", "y_um", "x_um"]].to_numpy()


def share_split(images: list[np.ndarray], truth: list[np.ndarray], calibration: Calibration) -> float:
    """Share of true single particles that have two detections."""
    near = []
    for image, places in zip(images, truth, strict=True):
        found = detected_um(image, calibration)
        apart = np.linalg.norm((found[None] - places[:, None]) / PSF_UM, axis=2)
        near.append((apart < 3.5).sum(axis=1))
    counts = np.concatenate(near)
    assert (counts > 0).mean() > 0.9
    return float((counts > 1).mean())


@pytest.fixture(scope="module")
def calibrations() -> dict[float, Calibration]:
    return {snr: calibrated(singles_movie(snr)[0]) for snr in (4.0, 8.0)}


@pytest.mark.parametrize(
    ("snr", "way", "least"),
    [
        (4.0, "lateral", {2.0: 0.7, 2.5: 0.9, 3.0: 0.9}),
        (4.0, "axial", {2.5: 0.8, 3.0: 0.9}),
        (8.0, "lateral", {2.0: 0.85}),
    ],
)
def test_pairs_are_told_apart_where_noise_allows(
    calibrations: dict[float, Calibration], snr: float, way: str, least: dict[float, float]
) -> None:
    rng = np.random.default_rng(5)
    for distance, share in least.items():
        image, places = pairs_frame(snr, distance, DIRECTIONS[way], rng)
        found = detected_um(image, calibrations[snr])
        errors, lengths = [], []
        for pair in places:
            near = found[np.linalg.norm((found - pair.mean(axis=0)) / PSF_UM, axis=1) < 3.5]
            if len(near) == 2:
                orders = [(order - pair) / PSF_UM for order in (near, near[::-1])]
                errors.append(min(orders, key=lambda error: float(np.square(error).sum())))
                lengths.append(np.linalg.norm((near[0] - near[1]) / PSF_UM))
        assert len(errors) >= share * len(places), (distance, len(errors), len(places))
        assert np.abs(np.mean(errors, axis=0)).max() < 0.3
        assert np.median(np.linalg.norm(errors, axis=2)) < 0.6
        assert np.mean(lengths) == pytest.approx(distance, abs=0.3)


@pytest.mark.parametrize(
    "kind",
    [
        {"snr": 2.0},
        {"snr": 8.0, "wider": 1.2},
        {"snr": 20.0, "long": 1.2, "spread": 0.6},
    ],
    ids=str,
)
def test_single_particles_are_not_split(kind: dict[str, float]) -> None:
    images, truth = singles_movie(**kind, seed=3)
    calibration = calibrated(images)
    assert calibration.singles is not None
    assert share_split(images, truth, calibration) <= 0.015


def test_texture_is_not_split(scene, voxel_um) -> None:
    made = [scene(400 + s, cell=True, peak=60.0, shape=(40, 96, 120)) for s in range(2)]
    window = SegmentMovie(lambda number: made[number].frame, range(2), voxel_um)
    calibration = calibrate(window, PARAMETERS)
    whole = replace(PARAMETERS, split_false_rate=0.0)
    counts = [
        sum(len(segment_frame(window, f, calibration, some)[1]) for f in range(2))
        for some in (whole, PARAMETERS)
    ]
    # Of forty particles at random places a few are close pairs indeed.
    assert counts[0] <= counts[1] <= 1.05 * counts[0]


def test_width_of_single_particles_is_measured() -> None:
    images, truth = singles_movie(8.0, wider=1.2)
    optics = Optics.of(SegmentParameters(optics=OpticsParameters(**WIDTHS)), GRID.voxel_um)
    frames = movie(images)
    spots = {}
    for number, places in enumerate(truth):
        ones = np.ones(len(places))
        seeds = Detections.at(places / GRID.voxel_um, ones, ones)
        spots[number] = fit_spots(frames.frame(number), seeds, optics)
    singles = typical_singles(frames.frame, spots, optics)
    assert singles is not None
    # Cubic interpolation of sheared planes widens the image along z and x a little.
    assert singles.width == pytest.approx((1.2, 1.2, 1.2), rel=0.04)
    assert typical_singles(frames.frame, {0: spots[0].keep(np.arange(20))}, optics) is None


@pytest.mark.parametrize("step", [(0.0, 1.1, 1.1), (2.4, 0.0, 0.0), (1.0, -1.2, 1.6)])
def test_parts_of_a_noise_free_pair_are_recovered(spots, fitted, psf_voxels, voxel_um, step) -> None:
    truth = np.array([[15.2, 20.3, 20.4], [15.2, 20.3, 20.4] + psf_voxels * step])
    ramp = 0.3 * np.arange(44) + 0.2 * np.arange(40)[:, None]
    frame = 100 + ramp + spots((30, 40, 44), truth[:1], 60.0, psf_voxels)
    frame = frame + spots((30, 40, 44), truth[1:], 40.0, psf_voxels)
    seed = (0.6 * truth[0] + 0.4 * truth[1]).round()
    one = fitted(seed[None], psf_voxels, 60.0)
    pairs = fit_pairs(Volume(frame, voxel_um), one, np.array([0]), psf_voxels)
    for part, place, height in zip(pairs.parts, truth, (60, 40), strict=True):
        assert part.position[0] == pytest.approx(place, abs=0.05)
        assert part.amplitude[0] == pytest.approx(height, rel=0.05)
        assert part.background[0] == pytest.approx(100 + 0.3 * place[2] + 0.2 * place[1], rel=0.01)
    assert pairs.excess[0] > 20


def noisy_pair(spots, psf_voxels, at: np.ndarray, shape=(30, 40, 44)) -> np.ndarray:
    both = np.stack([at, at + psf_voxels * [0, 1.7, 1.7]])
    noise = np.random.default_rng(0).normal(0, 4, shape)
    return (100 + spots(shape, both, 60.0, psf_voxels) + noise).astype(np.float32)


@pytest.fixture
def split(fitted, psf_voxels, voxel_um, optics):
    """Parts of one spot at a place in a frame."""

    def parts(frame, at, valid=None, *, singles=PLAIN, tested=True, rate=0.01) -> Detections:
        spot, volume = fitted(at[None], psf_voxels, 60.0), Volume(frame, voxel_um, valid)
        return split_spots(volume, spot, np.array([tested]), singles, optics, rate)

    return parts


def test_a_pair_is_split_where_it_may_and_not_else(spots, split, psf_voxels) -> None:
    at = np.array([15.0, 18.0, 20.0])
    frame = noisy_pair(spots, psf_voxels, at)
    parts = split(frame, at + BESIDE)
    assert parts.z_score.tolist() == [0, 0]
    assert parts.amplitude[0] >= parts.amplitude[1]
    for refused in (
        split(frame, at + BESIDE, singles=None),
        split(frame, at + BESIDE, tested=False),
        split(frame, at + BESIDE, rate=0.0),
        split(frame, at + BESIDE, np.arange(44)[None, None] != round(float(parts.position[1, 2]))),
    ):
        assert refused.position.tolist() == [(at + BESIDE).tolist()]


def test_parts_that_noise_could_not_keep_apart_stay_one(spots, split, psf_voxels) -> None:
    at = np.array([15.0, 18.0, 20.0])
    for distance, parts in ((1.2, 1), (1.9, 2)):
        both = np.stack([at, at + psf_voxels * [0, 0, distance]])
        frame = 100 + spots((30, 40, 44), both, 60.0, psf_voxels)
        frame = frame + np.random.default_rng(0).normal(0, 0.5, frame.shape)
        assert len(split(frame, at)) == parts


def test_a_part_is_not_a_neighbour_that_was_found_already(
    spots, fitted, psf_voxels, voxel_um, optics
) -> None:
    at = np.array([15.0, 18.0, 20.0])
    volume = Volume(noisy_pair(spots, psf_voxels, at), voxel_um)
    both = np.stack([at, at + psf_voxels * [0, 1.7, 1.7]])
    two = fit_spots(volume, fitted(both, psf_voxels, 60.0), optics)
    assert fit_pairs(volume, two, np.array([0, 1]), psf_voxels).excess.max() < 5
    dark = replace(two, amplitude=two.amplitude * [1, 0])  # its light is left in the image
    assert fit_pairs(volume, dark, np.array([0]), psf_voxels).excess.max() > 10
    for found in (two, dark):
        parts = split_spots(volume, found, np.array([True, False]), PLAIN, optics, 0.01)
        assert parts.z_score.tolist() == [0, 1]


@pytest.mark.parametrize("at", [(0.0, 1.0, 2.0), (28.5, 36.0, 40.0), (15.0, 0.0, 42.0)])
def test_pairs_at_the_border_stay_in_the_frame(spots, split, psf_voxels, at) -> None:
    frame = noisy_pair(spots, psf_voxels, np.array(at))
    valid = np.ones(frame.shape, bool)
    valid[:, :2] = False
    frame[~valid] = np.nan
    parts = split(frame, np.array(at) + BESIDE, valid)
    assert all(np.isfinite(getattr(parts, field.name)).all() for field in fields(Detections))
    assert ((parts.position >= -0.5) & (parts.position <= np.array(frame.shape) - 0.5)).all()


def test_nothing_to_split_in_an_empty_frame(fitted, voxel_um, optics) -> None:
    volume = Volume(np.zeros((9, 9, 9)), voxel_um)
    nothing = fit_spots(volume, fitted(np.empty((0, 3)), 1.0, 1.0), optics)
    assert len(split_spots(volume, nothing, np.empty(0, bool), PLAIN, optics, 0.01)) == 0


def test_tiles_and_chunks_change_nothing(
    calibrations: dict[float, Calibration], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, places = pairs_frame(8.0, 2.5, DIRECTIONS["lateral"], np.random.default_rng(8))

    def segmented(**more):
        return segment_frame(movie([image]), 0, calibrations[8.0], PARAMETERS, **more)

    labels, table = segmented()
    assert len(table) > 1.5 * len(places)
    assert table["label"].tolist() == list(np.unique(labels))[1:]
    tiled = segmented(tile_voxels=700_000)
    monkeypatch.setattr(boxes, "CHUNK_VOXELS", 20_000)
    for other in (tiled, segmented()):
        assert np.array_equal(labels, other[0])
        assert table.equals(other[1])
