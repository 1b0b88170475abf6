"""Deskewing against analytic beads and against an independent program on real data."""

import numpy as np
import pytest
import tifffile
from geometry_scenes import OFFSET, PIXEL, Beads, spacing

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.camera import Camera
from spatialdino_core.geometry.deskew import Deskew
from spatialdino_core.geometry.grid import output_grid
from spatialdino_core.geometry.scan import ScanGeometry

SCANS = [(scan, sign) for scan in ("stage", "z-stage", "objective") for sign in (1, -1)]
ANGLES_AND_STEPS = [
    (30, 0.1),
    (30, 0.5),
    (31.5, 0.3),
    (31.5, 0.5),
    (37, 0.4),
    (45, 0.2),
    (52, 0.3),
    (60, 0.1),
]
ANGLES_AND_STEPS += [(45, 0.5), (60, 0.5)]
FINEST = 0.2613  # plane spacing of 31.5° and 0.5 µm, µm: the coarsest for which the bounds are asked


def scanned(scan="stage", sign=1, angle=31.5, step=0.5, **changes):
    values = {"scan": scan, "scan_sign": sign, "angle_deg": angle, "step_um": step, "pixel_um": PIXEL}
    return ScanGeometry(**(values | changes))


def resampled(beads, interpolation, frame="deskewed", **options):
    """Counts above the offset, the grid, and the truth in its voxels."""
    geometry = scanned(beads.scan, beads.sign, beads.angle, beads.step)
    grid = output_grid(geometry, beads.shape, frame=frame, **options)
    done = Deskew(grid=grid, interpolation=interpolation, fill=OFFSET)(beads.raw())
    return (
        done.voxels.astype(float) - OFFSET,
        grid,
        beads.truth(grid.to_raw_voxels(), grid.shape, grid.valid),
    )


def relative_error(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize(("angle", "step"), ANGLES_AND_STEPS)
@pytest.mark.parametrize(("scan", "sign"), SCANS)
def test_beads_in_the_sheared_frame(scan, sign, angle, step):
    beads = Beads(scan, sign, angle, step)
    for interpolation, bound in (("linear", 0.065), ("cubic", 0.02), ("fft", 0.001)):
        found, _, truth = resampled(beads, interpolation)
        assert relative_error(found, truth) <= bound
        assert found.sum() / truth.sum() == pytest.approx(1, abs=5e-4)


@pytest.mark.parametrize(("angle", "step"), ANGLES_AND_STEPS)
@pytest.mark.parametrize(("scan", "sign"), SCANS)
def test_beads_in_the_coverslip_frame(scan, sign, angle, step):
    """Where planes lie further apart than the axial resolution asks for, no interpolation helps: cubic is
    then only asked to be better than linear, whose error is known to grow with the square of the distance."""
    beads = Beads(scan, sign, angle, step)
    errors = {}
    for interpolation in ("linear", "cubic"):
        found, _, truth = resampled(beads, interpolation, frame="coverslip")
        errors[interpolation] = relative_error(found, truth)
        if spacing(scan, angle, step) <= FINEST:
            assert errors[interpolation] <= {"linear": 0.09, "cubic": 0.03}[interpolation]
            assert found.sum() / truth.sum() == pytest.approx(1, abs=5e-4)
    assert errors["cubic"] < 0.75 * errors["linear"]
    coarseness = max(1, spacing(scan, angle, step) / FINEST)
    assert errors["linear"] <= 0.09 * coarseness**2


def test_interpolation_in_raw_index_space_fails_these_bounds():
    """What the bounds are for: neighbouring planes read at the same pixel."""
    from scipy.ndimage import affine_transform

    beads = Beads()
    _, grid, truth = resampled(beads, "linear", frame="coverslip")
    matrix = grid.to_raw_voxels()
    raw = beads.raw().astype(float) - OFFSET
    found = affine_transform(raw, matrix[:3, :3], matrix[:3, 3], grid.shape, order=1)
    assert relative_error(found * grid.valid, truth) > 0.4


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("frame", ["deskewed", "coverslip"])
@pytest.mark.parametrize(("scan", "sign"), SCANS)
def test_centroids_are_where_the_declared_affine_says(scan, sign, frame, interpolation):
    """Bias at most 1e-3 voxel, and a scatter (rms over beads and axes) of no more."""
    deviations = []
    for seed in range(10):
        beads = Beads(scan, sign, step=0.5 if scan == "stage" else 0.25, count=1, seed=seed, peak=60000.0)
        found, grid, _ = resampled(beads, interpolation, frame=frame)
        axes = np.indices(found.shape)
        centroid = np.array([(found * axis).sum() / found.sum() for axis in axes])
        declared = np.linalg.inv(grid.to_raw_voxels()) @ [*beads.raw_centres[0], 1]
        deviations.append(centroid - declared[:3])
    assert np.abs(np.mean(deviations, 0)).max() <= 1e-3
    # Linear interpolation leaves replicas of the raw grid that beat with the turned one.
    limit = 1.5e-3 if (frame, interpolation) == ("coverslip", "linear") else 1e-3
    assert np.sqrt(np.mean(np.square(deviations))) <= limit


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_isotropic_voxels_of_the_sheared_frame(interpolation):
    found, grid, truth = resampled(Beads(), interpolation, isotropic=True)
    assert grid.voxel_um == (PIXEL,) * 3
    assert relative_error(found, truth) <= {"linear": 0.09, "cubic": 0.03}[interpolation]


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "fft"])
@pytest.mark.parametrize("frame", ["deskewed", "coverslip"])
def test_forward_and_reversed_scans_give_the_same_picture(frame, interpolation):
    if (frame, interpolation) == ("coverslip", "fft"):
        return
    raw = Beads().raw()
    for axis in "xy":
        stack = raw if axis == "x" else raw.swapaxes(1, 2)
        pictures = [
            Deskew(
                grid=output_grid(scanned(sign=sign, skew_axis=axis), stack.shape, frame=frame),
                interpolation=interpolation,
            )(stack[::sign]).voxels
            for sign in (1, -1)
        ]
        assert np.array_equal(*pictures)
        if axis == "x":
            along_x = pictures[0]
    assert np.array_equal(along_x, pictures[0].swapaxes(1, 2))


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "fft"])
def test_projections_are_those_of_the_voxels(interpolation):
    for axis in "xy":
        raw = Beads().raw() if axis == "x" else Beads().raw().swapaxes(1, 2)
        grid = output_grid(scanned(skew_axis=axis), raw.shape)
        done = Deskew(grid=grid, interpolation=interpolation, fill=50)(raw)
        for number, name in enumerate("zyx"):
            found = getattr(done, f"along_{name}")
            assert np.array_equal(found, np.maximum(done.voxels.max(number), 50)), name


def test_fill_is_the_background_of_the_frame_and_knows_nothing_of_the_border():
    random = np.random.default_rng(1)
    raw = np.rint(random.normal(143, 4, (30, 40, 50))).astype(np.uint16)
    grid = output_grid(scanned(), raw.shape)
    done = Deskew(grid=grid, fill="background")(raw)
    outside = ~np.broadcast_to(grid.valid, grid.shape)
    assert done.fill == pytest.approx(143, abs=1)
    assert (done.voxels[outside] == done.fill).all()
    assert (Deskew(grid=grid, fill=7)(raw).voxels[outside] == 7).all()


@pytest.mark.parametrize("flip", ["", "x", "y", "xy"])
@pytest.mark.parametrize("frame", ["deskewed", "coverslip"])
def test_a_region_reads_its_block_alone_and_gives_the_same_bits(frame, flip):
    for axis in "xy":
        raw = Beads().raw() if axis == "x" else Beads().raw().swapaxes(1, 2)
        seen = np.flip(raw, [n for n, name in ((1, "y"), (2, "x")) if name in flip])
        geometry = scanned(skew_axis=axis, sign=-1)
        camera = Camera(flip=flip)
        whole = Deskew(grid=output_grid(geometry, raw.shape, frame=frame), fill=9)(raw).voxels
        grid = output_grid(geometry, raw.shape, frame=frame, roi_um=((2, 2.6), (0.5, 1.5), (1, 1.8)))
        channel = Deskew(grid=grid, fill=9, camera=camera)
        assert np.prod([s.stop - s.start for s in channel.region]) < raw.size / 3
        first = [round(o / v) for o, v in zip(grid.origin_um, grid.voxel_um, strict=True)]
        cut = tuple(slice(f, f + n) for f, n in zip(first, grid.shape, strict=True))
        assert np.array_equal(channel(seen[channel.region]).voxels, whole[cut])


@pytest.mark.parametrize("flip", ["x", "y"])
def test_flipped_planes_are_sheared_by_fft_as_they_are_seen(flip):
    raw = Beads().raw()
    grid = output_grid(scanned(), raw.shape)
    seen = np.flip(raw, {"y": 1, "x": 2}[flip])
    whole = Deskew(grid=grid, interpolation="fft", fill=9)(raw).voxels
    flipped = Deskew(grid=grid, interpolation="fft", fill=9, camera=Camera(flip=flip))(seen).voxels
    assert np.array_equal(flipped, whole)


def test_input_that_is_no_stack_is_refused():
    deskew = Deskew(grid=output_grid(scanned(), (9, 6, 21)))
    with pytest.raises(BadInputError, match="float32"):
        deskew(np.ones((9, 6, 21), np.float32))
    with pytest.raises(BadInputError, match="shape"):
        deskew(np.ones((9, 6, 20), np.uint16))


REAL = {"angle": 31.5, "step": 0.3, "pixel_um": 0.1}


def agreement(real_data, offset_um=0.00468, **changes):
    """Share of voxels within one count of cudaDecon, which samples at r = i - m k + 0.0468 pixel and
    truncates; its box is two columns longer."""
    raw = tifffile.imread(real_data / "llsm_cell" / "raw_skewed.tif")
    reference = tifffile.imread(real_data / "llsm_cell" / "reference_deskewed.tif")
    grid = output_grid(scanned(**(REAL | changes)), raw.shape, grid_offset_um=offset_um)
    found = Deskew(grid=grid, interpolation="linear")(raw).voxels
    width = min(found.shape[2], 479)
    valid = np.broadcast_to(grid.valid, found.shape)[..., :width]
    difference = np.abs(found[..., :width].astype(int) - reference[..., :width])
    return (difference[valid] <= 1).mean()


def test_real_stack_agrees_with_cudadecon(real_data):
    assert agreement(real_data) >= 0.999


@pytest.mark.parametrize(
    "wrong", [{"sign": -1}, {"offset_um": 0.05}, {"pixel_um": 0.104}, {"pixel_um": 0.096}, {"angle": 32.45}]
)
def test_a_wrong_geometry_does_not(real_data, wrong):
    """The wrong sign, the wrong centre (half a pixel), and a pixel size that is 4 % off."""
    assert agreement(real_data, **wrong) < 0.9
