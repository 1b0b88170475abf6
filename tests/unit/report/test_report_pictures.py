"""Pictures measured in their own pixels: one scale along all axes, true scale bars, lines in place."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from spatialdino_core.report.feature_pictures import draw_features
from spatialdino_core.report.figures import DPI, WIDTH_IN, png
from spatialdino_core.report.overlays import object_outlines, track_paths, track_tails
from spatialdino_core.report.pictures import ColourBar, Lines, draw_pair, draw_projections, round_length
from spatialdino_core.report.projections import Projections

VOXEL_UM = (0.25, 0.1, 0.15)


def ball(shape: tuple[int, int, int], centre_um: tuple[float, float, float], radius_um: float) -> np.ndarray:
    axes = [np.arange(n) * v - c for n, v, c in zip(shape, VOXEL_UM, centre_um, strict=True)]
    return axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2 <= radius_um**2


def projected(volume: np.ndarray) -> Projections:
    return Projections(volume.max(axis=0), volume.max(axis=1), VOXEL_UM)


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB")).astype(int)


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left, right."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


@pytest.mark.parametrize("shape", [(60, 200, 160), (60, 400, 120), (60, 120, 600)])
def test_a_ball_is_round_in_both_projections(shape: tuple[int, int, int]) -> None:
    """Voxels are of three different sizes; a picture with a wrong aspect shows an ellipse."""
    centre = (8.0, 5.0, 6.0)
    image = pixels(draw_projections(projected(ball(shape, centre, 2.5)), (0.0, 4.0)))
    grey = (np.ptp(image, axis=2) == 0) & (np.abs(image[..., 0] - 64) <= 2)
    z, y, x = (n * v for n, v in zip(shape, VOXEL_UM, strict=True))
    split = round(image.shape[0] * y / (y + z))
    scale = image.shape[1] / x
    top, bottom, left, right = box(grey[: split - 5])
    below = box(grey[split + 8 :])
    diameter = 5.0 * scale
    tolerance = 0.3 * scale + 2
    assert bottom - top == pytest.approx(diameter, abs=tolerance)
    assert right - left == pytest.approx(diameter, abs=tolerance)
    assert below[1] - below[0] == pytest.approx(diameter, abs=tolerance)
    assert (below[2], below[3]) == pytest.approx((left, right), abs=2), "xz shares the x axis of xy"
    assert (left + right) / 2 == pytest.approx((centre[2] + VOXEL_UM[2] / 2) * scale, abs=3)
    assert (top + bottom) / 2 == pytest.approx((centre[1] + VOXEL_UM[1] / 2) * scale, abs=3)


def test_the_scale_bar_has_the_length_that_it_names() -> None:
    shape = (1, 200, 160)
    image = pixels(draw_projections(projected(np.zeros(shape, np.uint8)), (0.0, 1.0)))
    white = image.min(axis=2) > 250
    longest = max(np.diff(box(row[None])[2:])[0] for row in white if row.any())
    width_um = shape[2] * VOXEL_UM[2]
    assert longest / image.shape[1] == pytest.approx(round_length(width_um / 5) / width_um, rel=0.05)


@pytest.mark.parametrize(
    ("length", "expected"), [(4.8, 2), (5, 5), (0.19, 0.1), (20, 20), (999, 500), (1, 1), (0.2, 0.2)]
)
def test_bars_are_round(length: float, expected: float) -> None:
    assert round_length(length) == pytest.approx(expected)


def test_outlines_and_tracks_lie_on_their_object() -> None:
    shape = (40, 120, 100)
    centre = np.array([5.0, 7.0, 9.0])
    labels = ball(shape, tuple(centre), 1.0).astype(np.uint32) * 7
    lines = object_outlines(projected(labels))
    assert lines.xy.mean(axis=(0, 1)) == pytest.approx((9.0, 7.0), abs=0.1)
    assert lines.xz.mean(axis=(0, 1)) == pytest.approx((9.0, 5.0), abs=0.1)
    assert np.ptp(lines.xz[..., 1]) == pytest.approx(2.0, abs=0.3)
    voxel = centre / VOXEL_UM
    steps = pd.DataFrame({"track_id": 3, "frame": [0, 1], "z": voxel[0], "y": voxel[1], "x": voxel[2]})
    path = track_paths(steps, VOXEL_UM, None)
    np.testing.assert_allclose(path.xy, [[[9, 7], [9, 7]]])
    np.testing.assert_allclose(path.xz, [[[9, 5], [9, 5]]])


def test_paths_join_successive_positions_of_one_track_only() -> None:
    tracks = pd.DataFrame(
        {
            "track_id": [2, 1, 1, 2, 1],
            "frame": [5, 4, 0, 6, 2],
            "z": 0.0,
            "y": 0.0,
            "x": [50.0, 4.0, 0.0, 60.0, 2.0],
        }
    )
    path = track_paths(tracks, (1.0, 1.0, 1.0), tracks["frame"].to_numpy())
    assert path.xy[:, :, 0].tolist() == [[0, 2], [2, 4], [50, 60]]
    np.testing.assert_array_equal(path.colour, [2, 4, 6])


def test_tails_belong_to_tracks_that_are_there() -> None:
    rows = [(1, frame, frame) for frame in range(30)] + [(2, frame, 100 + frame) for frame in range(10)]
    tracks = pd.DataFrame(rows, columns=["track_id", "frame", "x"]).assign(z=0.0, y=0.0)
    x = track_tails(tracks, 12, (1.0, 1.0, 1.0)).xy[..., 0]
    assert x.max() == 12, "nothing of the future, nothing of a track that has ended"
    assert x.min() == 5
    assert len(track_tails(tracks, 29, (1.0, 1.0, 1.0)).xy) == 7
    assert len(track_tails(tracks, 0, (1.0, 1.0, 1.0)).xy) == 0


def test_lines_are_drawn_where_they_are() -> None:
    shape = (1, 100, 100)
    path = np.array([[[3.0, 2.0], [12.0, 2.0]]])
    image = pixels(
        draw_projections(
            projected(np.zeros(shape, np.uint8)), (0.0, 1.0), [Lines(path, path, "#E69F00", 2.0)]
        )
    )
    orange = (image[..., 0] > 150) & (image[..., 2] < 80)
    top, bottom, left, right = box(orange)
    scale = image.shape[1] / 15.0
    assert left == pytest.approx((3 + 0.075) * scale, abs=5)
    assert right == pytest.approx((12 + 0.075) * scale, abs=5)
    assert (top + bottom) / 2 == pytest.approx((2 + 0.05) * scale, abs=3)


def test_a_part_shows_its_own_lines() -> None:
    """Of two lines, the one outside the enlarged part is not seen."""
    whole = projected(np.zeros((1, 400, 400), np.uint8))
    part = whole.part((20.0, 30.0), 4.0)
    inside, outside = np.array([[[29.0, 20.0], [31.0, 20.0]]]), np.array([[[3.0, 3.0], [9.0, 3.0]]])
    image = pixels(
        draw_pair(part, (0, 1), [Lines(np.concatenate([inside, outside]), inside, "#E69F00", 2.0)])
    )
    orange = (image[..., 0] > 150) & (image[..., 2] < 80)
    top, bottom, left, right = box(orange)
    half = image.shape[1] / 2
    assert left > half, "the left copy is bare"
    assert right - left == pytest.approx(half / 2, rel=0.1)
    assert (top + bottom) / 2 == pytest.approx(image.shape[0] / 2, rel=0.1)


def test_large_frames_become_small_pictures() -> None:
    noise = np.random.default_rng(0).integers(100, 200, (2, 3000, 3000)).astype(np.uint16)
    figure = draw_projections(projected(noise), (100.0, 200.0), bar=ColourBar("time (s)", 0, 9))
    content = png(figure)
    assert len(content) < 1_000_000
    assert max(Image.open(io.BytesIO(content)).size) <= 8 * DPI
    assert Image.open(io.BytesIO(content)).mode == "RGB"


@pytest.mark.parametrize("shape", [(8, 64, 64), (8, 32, 240), (8, 240, 32)])
def test_patches_lie_over_what_they_describe(shape: tuple[int, int, int]) -> None:
    """The brightest patch of the activation covers the bright block of the image, in any layout."""
    image = np.full(shape, 10, np.uint16)
    image[:, 8:16, 8:16] = 200
    grid = (1, shape[1] // 8, shape[2] // 8)
    activation = np.zeros(grid[1:], np.float32)
    activation[1, 1] = 5.0
    figure = draw_features(
        projected(image),
        activation,
        activation / 5,
        np.zeros((*grid[1:], 3)),
        (0.0, 5.0),
        tuple(8 * v for v in VOXEL_UM),  # type: ignore[arg-type]
        tuple(3.5 * v for v in VOXEL_UM),  # type: ignore[arg-type]
    )
    figure.draw_without_rendering()
    shown = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert set(shown) == {"image", "features", "activation", "foreground"}
    drawn = pixels(figure)
    boxes = {}
    for name, colour in (("image", (255, 255, 255)), ("activation", (253, 231, 36))):
        window = shown[name].get_window_extent()
        scale = DPI / figure.dpi
        rows = slice(*(int(drawn.shape[0] - v * scale) for v in (window.y1, window.y0)))
        columns = slice(int(window.x0 * scale), int(window.x1 * scale))
        # The scale bar, white too, lies at the lower right of the image.
        part = drawn[rows, columns]
        part = part[: round(0.8 * part.shape[0]), : round(0.8 * part.shape[1])]
        boxes[name] = box(np.abs(part - colour).max(axis=2) < 12)
    assert boxes["image"] == pytest.approx(boxes["activation"], abs=2)
    assert figure.get_size_inches()[0] == pytest.approx(WIDTH_IN)
