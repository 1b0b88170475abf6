"""What the network sees: activation, foreground probability and features as colours, beside the image."""

from __future__ import annotations

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from spatialdino_core.report.figures import FONT_PT, LIGHT, WIDTH_IN, Illustration, dark_figure, illustrate
from spatialdino_core.report.pictures import add_scale_bar, colour_bar, show_image
from spatialdino_core.report.projections import Projections, feature_colours, robust_limits
from spatialdino_core.report.results import MovieResults

COLOUR_PERCENTILES = (1, 99)
MOST_PATCHES = 20_000
TITLE_IN, BAR_IN, GAP_IN = 0.28, 0.34, 0.15


def feature_picture(results: MovieResults, image: Projections) -> Illustration:
    """Middle frame: image, activation, foreground probability and features, at one scale.

    The colours of activation and features are fixed by the first, middle and last frame together.
    """
    maps = {frame: results.foreground.read(frame, slice(None)).astype(np.float32) for frame in results.shown}
    colours = _colours(results, {frame: activation for frame, (activation, _) in maps.items()})
    activation, probability = maps[results.middle].max(axis=1)
    low, high = robust_limits([each[0].max(axis=0) for each in maps.values()])
    figure = draw_features(
        image, activation, probability, colours, (low, high), results.foreground.voxel_um, results.foreground.origin_um
    )
    share = float((probability > 0.5).mean())
    return illustrate(
        figure,
        title=f"Features, {results.when(results.middle)}",
        caption="Activation: how unusual a patch is for the background, in units of the background's own spread; "
        "foreground probability: what follows from it; both as maxima along z. Features: the three strongest "
        "principal components as red, green and blue, of the most active patch along z, in colours that are the "
        "same for all frames. Similar colours are similar structures.",
        alt=f"Four views of the middle frame; {share:.0%} of the patches seen from above are foreground.",
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
    columns = 2 if x < 2.5 * y else 1
    width = (WIDTH_IN - GAP_IN * (columns - 1)) / columns
    high = width * y / x
    cell = TITLE_IN + high + BAR_IN
    figure = dark_figure(WIDTH_IN, cell * 4 / columns)
    panels = [
        ("image, xy projection", image.xy, "gray", robust_limits([image.xy])),
        ("features as colours", colours, "", None),
        ("activation", activation, "viridis", limits),
        ("foreground probability", probability, "cividis", (0.0, 1.0)),
    ]
    for number, (title, values, colour_map, ends) in enumerate(panels):
        row, column = divmod(number, columns)
        total = cell * 4 / columns
        left, bottom = column * (width + GAP_IN), total - row * cell - TITLE_IN - high
        axes = figure.add_axes((left / WIDTH_IN, bottom / total, width / WIDTH_IN, high / total))
        axes.set_axis_off()
        if number == 0:
            show_image(axes, values, image.voxel_um[1:], ends)
            add_scale_bar(axes, x)
            frame_extent = (axes.get_xlim(), axes.get_ylim())
        else:
            show_image(axes, values, patch_um[1:], ends, first=first_um[1:], colours=colour_map or "gray")
            axes.set_xlim(frame_extent[0])
            axes.set_ylim(frame_extent[1])
        axes.set_title(title, color=LIGHT, fontsize=FONT_PT, pad=4)
        if number > 1 and ends:
            place = figure.add_axes(
                ((left + 0.1 * width) / WIDTH_IN, (bottom - 0.13) / total, 0.8 * width / WIDTH_IN, 0.07 / total)
            )
            colour_bar(figure, place, ScalarMappable(Normalize(*ends), colour_map), "")
    return figure


def _colours(results: MovieResults, activations: dict[int, np.ndarray]) -> np.ndarray:
    """Features of the middle frame as RGB (gy, gx, 3)."""
    components = {frame: results.components.read(frame, slice(None)) for frame in activations}
    if results.features.about.get("parameters", {}).get("keep") == "all":
        components = _principal(components)
    frames = {frame: each[:3].astype(np.float32) for frame, each in components.items()}
    patches = np.concatenate([_valid_patches(each) for each in frames.values()])
    limits = np.tile([0.0, 1.0], (3, 1))
    if len(patches):
        limits[: patches.shape[1]] = np.percentile(patches, COLOUR_PERCENTILES, axis=0).T
    limits[:, 1] = np.maximum(limits[:, 1], limits[:, 0] + 1e-6)
    return feature_colours(frames[results.middle], activations[results.middle], limits)


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
