"""What the network sees: activation, foreground probability and features as colours, beside the image."""

from __future__ import annotations

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from spatialdino_core.movies.store import FrameStore
from spatialdino_core.report.figures import (
    FONT_PT,
    LIGHT,
    WIDTH_IN,
    Illustration,
    dark_figure,
    illustrate,
)
from spatialdino_core.report.pictures import TALLEST_IN, add_scale_bar, colour_bar, show_image
from spatialdino_core.report.projections import Projections, feature_colours, robust_limits
from spatialdino_core.report.results import MovieResults

COLOUR_PERCENTILES = (1, 99)
MOST_PATCHES = 20_000
TITLE_IN, BAR_IN, GAP_IN = 0.28, 0.34, 0.15


def without_features(results: MovieResults) -> str:
    """Why there are no features."""
    return f"Not computed: {results.features.about.get('unused', 'no reason is known')}."


def feature_pictures(results: MovieResults, image: Projections) -> list[Illustration]:
    """Middle frame: image, activation, foreground probability and features, at one scale, if there are any.

    The colours of activation and features are fixed by the first, middle and last frame together.
    """
    foreground, components = results.foreground, results.components
    if foreground is None or components is None:
        return []
    maps = {frame: foreground.read(frame, slice(None)).astype(np.float32) for frame in results.shown}
    colours = _colours(results, components, {frame: probability for frame, (_, probability) in maps.items()})
    activation, probability = maps[results.middle].max(axis=1)
    low, high = robust_limits([each[0].max(axis=0) for each in maps.values()])
    z, y, x = np.subtract(foreground.origin_um, results.image.origin_um).tolist()
    figure = draw_features(
        image,
        activation,
        probability,
        colours,
        (low, high),
        foreground.voxel_um,
        (z, y, x),
    )
    share = float((probability > 0.5).mean())
    picture = illustrate(
        figure,
        title=f"Features, {results.when(results.middle)}",
        caption="Activation: the sum of all features of a patch, turned to rise with brightness, in units "
        f"of the background's own spread. Foreground probability: {_rests_on(results)} Both as maxima along "
        "z. Features: the three strongest principal components as red, green and blue, of the patch along z "
        "that is most probably foreground, in colours that mean the same in all frames. Similar colours are "
        "similar structures.",
        alt=f"Four views of the middle frame; {share:.0%} of the patches seen from above are foreground.",
    )
    return [picture]


def _rests_on(results: MovieResults) -> str:
    """Where the foreground probability comes from, in words."""
    about = results.features.about.get("foreground", {})
    evidence = {name: f"{each['auroc']:.2f}" for name, each in about.get("evidence", {}).items()}
    if not evidence:
        return "0 everywhere, because the first frames show too little to learn it from."
    words = {"activation": "the activation", "density": "the densities of the principal components"}
    other = next(name for name in words if name != about["chosen"])
    return (
        f"from {words[about['chosen']]}, which told bright patches from dim ones with an area under the ROC "
        f"curve of {evidence[about['chosen']]} in blocks that it was not fitted to ({words[other]}: "
        f"{evidence[other]})."
    )


def draw_features(
    image: Projections,
    activation: np.ndarray,
    probability: np.ndarray,
    colours: np.ndarray,
    limits: tuple[float, float],
    patch_um: tuple[float, float, float],
    first_um: tuple[float, float, float],
) -> Figure:
    """Four panels at one physical scale.

    Parameters
    ----------
    image
        Projections of the frame.
    activation, probability, colours
        Seen from above: (gy, gx), (gy, gx) and (gy, gx, 3).
    limits
        Activations at both ends of the colours.
    patch_um, first_um
        Distance of patches, and centre of the first one from the centre of voxel 0; (z, y, x), µm.
    """
    _, y, x = image.extent_um
    boxes, total = _layout(x, y)
    figure = dark_figure(WIDTH_IN, total)
    panels = [
        ("image", image.xy, image.voxel_um, (0.0, 0.0), "gray", robust_limits([image.xy])),
        ("features", colours, patch_um, first_um[1:], "gray", None),
        ("activation", activation, patch_um, first_um[1:], "viridis", limits),
        ("foreground", probability, patch_um, first_um[1:], "cividis", (0.0, 1.0)),
    ]
    for box, (title, values, pixel_um, first, colour_map, ends) in zip(boxes, panels, strict=True):
        left, bottom, width, height = box[0] / WIDTH_IN, box[1] / total, box[2] / WIDTH_IN, box[3] / total
        axes = figure.add_axes((left, bottom, width, height))
        show_image(axes, values, pixel_um[1:], ends, first=first, colours=colour_map)
        axes.set_axis_off()
        # Patches at the border reach beyond the image.
        axes.set_xlim(-image.voxel_um[2] / 2, x - image.voxel_um[2] / 2)
        axes.set_ylim(y - image.voxel_um[1] / 2, -image.voxel_um[1] / 2)
        axes.set_title(title, color=LIGHT, fontsize=FONT_PT, pad=4)
        if ends and colour_map != "gray":
            place = figure.add_axes((left + 0.1 * width, bottom - 0.13 / total, 0.8 * width, 0.07 / total))
            colour_bar(figure, place, ScalarMappable(Normalize(*ends), colour_map), "")
    add_scale_bar(figure.axes[0], x)
    return figure


def _layout(x_um: float, y_um: float) -> tuple[list[tuple[float, float, float, float]], float]:
    """Boxes (left, bottom, width, height) of four panels and the height of the figure, in inches; the last
    two have room for colour bars below them."""
    columns = 1 if x_um > 3.5 * y_um else 2 if y_um < 1.6 * x_um else 4
    width = (WIDTH_IN - GAP_IN * (columns - 1)) / columns
    height = min(width * y_um / x_um, TALLEST_IN)
    rows = [range(start, start + columns) for start in range(0, 4, columns)]
    below = [BAR_IN if row[-1] > 1 else GAP_IN for row in rows]
    total = sum(TITLE_IN + height + room for room in below)
    boxes, bottom = [], total
    for row, room in zip(rows, below, strict=True):
        bottom -= TITLE_IN + height
        boxes += [(column * (width + GAP_IN), bottom, width, height) for column in range(len(row))]
        bottom -= room
    return boxes, total


def _colours(results: MovieResults, store: FrameStore, probabilities: dict[int, np.ndarray]) -> np.ndarray:
    """Features of the middle frame as RGB (gy, gx, 3)."""
    components = {frame: store.read(frame, slice(None)) for frame in probabilities}
    if results.features.about.get("parameters", {}).get("keep") == "all":
        components = _principal(components)
    frames = {frame: each[:3].astype(np.float32) for frame, each in components.items()}
    patches = np.concatenate([_valid_patches(each) for each in frames.values()])
    limits = np.tile([0.0, 1.0], (3, 1))
    if len(patches):
        limits[: patches.shape[1]] = np.percentile(patches, COLOUR_PERCENTILES, axis=0).T
    limits[:, 1] = np.maximum(limits[:, 1], limits[:, 0] + 1e-6)
    return feature_colours(frames[results.middle], probabilities[results.middle], limits)


def _principal(tokens: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Three principal components where whole tokens were stored; patches without data stay 0."""
    patches = np.concatenate([_valid_patches(each.astype(np.float32)) for each in tokens.values()])
    if len(patches) < 3:
        return tokens
    basis = PCA(3, svd_solver="covariance_eigh").fit(patches[:: -(-len(patches) // MOST_PATCHES)])
    found = {}
    for frame, each in tokens.items():
        flat = each.astype(np.float32).reshape(len(each), -1)
        projected = np.where((flat != 0).any(axis=0), basis.transform(flat.T).T, 0)
        found[frame] = projected.reshape(3, *each.shape[1:])
    return found


def _valid_patches(components: np.ndarray) -> np.ndarray:
    """(n, K): patches that saw data; the others are stored as 0."""
    flat = components.reshape(len(components), -1)
    return flat[:, (flat != 0).any(axis=0)].T
