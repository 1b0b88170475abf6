"""How projections are drawn, with outlines and tracks over them. Not which ones a report shows.

Everything is drawn in µm at one scale along all axes: xy above, xz below it on the same x axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from spatialdino_core.report.figures import DARK, DPI, FONT_PT, LIGHT, TIME_COLOURS, WIDTH_IN, dark_figure
from spatialdino_core.report.projections import Projections, shrink

TALLEST_IN = 7.5
GAP_IN = 0.06
BAR_IN = 0.55  # room for a colour bar and its label
LEAST_PANEL_IN = 0.02
LINE_PT = 0.7


@dataclass(frozen=True)
class Lines:
    """Line segments to draw over a projection.

    Attributes
    ----------
    xy, xz
        (n, 2, 2): two points (x, y) or (x, z) in µm; voxel 0 is centred at 0.
    colour
        One colour, or one number per segment of ``xy`` and ``xz``, which share their order.
    """

    xy: np.ndarray
    xz: np.ndarray
    colour: str | np.ndarray
    width_pt: float = LINE_PT


@dataclass(frozen=True)
class ColourBar:
    """What the numbers of coloured lines mean."""

    label: str
    low: float
    high: float


def draw_projections(
    projections: Projections,
    limits: tuple[float, float],
    lines: Sequence[Lines] = (),
    bar: ColourBar | None = None,
) -> Figure:
    """xy and xz maximum projections at one physical scale, with lines over them and a scale bar.

    Parameters
    ----------
    projections
        What to show; large ones are drawn from block maxima, xz only where it has several rows.
    limits
        Intensities shown as black and white.
    lines
        Drawn in this order.
    bar
        Meaning of numeric line colours.
    """
    z, y, x = projections.extent_um
    has_side = len(projections.xz) > 1
    gap, depth, below = (GAP_IN if has_side else 0.0), (z if has_side else 0.0), (BAR_IN if bar else 0.0)
    scale = min(WIDTH_IN / x, (TALLEST_IN - gap - below) / (y + depth))
    width, height = x * scale, (y + depth) * scale + gap + below
    figure = dark_figure(width, height)
    norm = Normalize(bar.low, bar.high) if bar else None
    top = _panel(figure, (0, height - y * scale, width, y * scale))
    _show_above(top, projections, limits, lines, norm)
    if has_side:
        side = _panel(figure, (0, below, width, max(depth * scale, LEAST_PANEL_IN)))
        pixel = (projections.voxel_um[0], projections.voxel_um[2])
        show_image(side, projections.xz, pixel, limits, first=(0.0, projections.first_um[1]))
        _draw_lines(side, [(line, line.xz) for line in lines], norm)
        _tag(top, "xy", y * scale)
        _tag(side, "xz", depth * scale)
    add_scale_bar(top, x)
    if bar:
        place = figure.add_axes((0.15, 0.36 / height, 0.7, 0.09 / height))
        colour_bar(figure, place, ScalarMappable(norm, TIME_COLOURS), bar.label)
    return figure


def draw_pair(projections: Projections, limits: tuple[float, float], lines: Sequence[Lines]) -> Figure:
    """The xy projection twice, beside each other: bare, and with lines."""
    _, y, x = projections.extent_um
    scale = (WIDTH_IN - GAP_IN) / 2 / max(x, y)
    width, height = x * scale, y * scale
    figure = dark_figure(2 * width + GAP_IN, height)
    bare = _panel(figure, (0, 0, width, height))
    _show_above(bare, projections, limits, (), None)
    add_scale_bar(bare, x)
    _show_above(_panel(figure, (width + GAP_IN, 0, width, height)), projections, limits, lines, None)
    return figure


def show_image(
    axes: Axes,
    image: np.ndarray,
    pixel_um: tuple[float, float],
    limits: tuple[float, float] | None,
    *,
    first: tuple[float, float] = (0.0, 0.0),
    colours: str = "gray",
) -> None:
    """Show an image, (rows, columns) or with RGB behind, over its extent in µm, without resampling more than
    the screen needs.

    Parameters
    ----------
    pixel_um
        Pixel size (row, column), µm.
    limits
        Values at both ends of the colours; none for RGB.
    first
        Position (row, column) of the centre of the first pixel, µm.
    """
    rows, columns = image.shape[:2]
    left, top = first[1] - pixel_um[1] / 2, first[0] - pixel_um[0] / 2
    extent = (left, left + columns * pixel_um[1], top + rows * pixel_um[0], top)
    small = shrink(image, round(WIDTH_IN * DPI)) if image.ndim == 2 else image
    low, high = limits or (None, None)
    axes.imshow(
        small, cmap=colours, vmin=low, vmax=high, extent=extent, aspect="equal", interpolation="nearest"
    )
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])


def add_scale_bar(axes: Axes, width_um: float) -> None:
    """A bar of a round length, about a fifth of the picture, at the lower right."""
    length = round_length(width_um / 5)
    right, bottom = 0.97, 0.05
    start = right - length / width_um
    outline = [withStroke(linewidth=4, foreground=DARK)]
    axes.plot(
        [start, right], [bottom] * 2, color="white", lw=2.5, transform=axes.transAxes, path_effects=outline
    )
    axes.annotate(
        f"{length:g} µm",
        (right, bottom),
        xytext=(0, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom",
        color="white",
        fontsize=FONT_PT,
        path_effects=outline,
    )


def round_length(length: float) -> float:
    """The nearest of 1, 2, 5 · 10ⁿ that is not longer."""
    decade = 10.0 ** np.floor(np.log10(length))
    return float(decade * max(step for step in (1, 2, 5) if step * decade <= length * (1 + 1e-9)))


def colour_bar(figure: Figure, place: Axes, values: ScalarMappable, label: str) -> None:
    """A horizontal colour bar in light ink."""
    drawn = figure.colorbar(values, cax=place, orientation="horizontal")
    drawn.set_label(label, color=LIGHT, fontsize=FONT_PT - 1, labelpad=1)
    place.tick_params(colors=LIGHT, labelsize=FONT_PT - 1, length=2, pad=1)
    drawn.outline.set_visible(False)


def _show_above(
    axes: Axes,
    projections: Projections,
    limits: tuple[float, float],
    lines: Sequence[Lines],
    norm: Normalize | None,
) -> None:
    show_image(axes, projections.xy, projections.voxel_um[1:], limits, first=projections.first_um)
    _draw_lines(axes, [(line, line.xy) for line in lines], norm)


def _panel(figure: Figure, box_in: tuple[float, float, float, float]) -> Axes:
    width, height = figure.get_size_inches()
    left, bottom, wide, high = box_in
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    axes.set_axis_off()
    return axes


def _tag(axes: Axes, text: str, height_in: float) -> None:
    if height_in > 0.25:
        axes.annotate(
            text,
            (0, 1),
            xytext=(5, -4),
            xycoords="axes fraction",
            textcoords="offset points",
            va="top",
            color="white",
            fontsize=FONT_PT,
            path_effects=[withStroke(linewidth=3, foreground=DARK)],
        )


def _draw_lines(axes: Axes, drawn: Sequence[tuple[Lines, np.ndarray]], norm: Normalize | None) -> None:
    for line, segments in drawn:
        numeric = isinstance(line.colour, np.ndarray)
        collection = LineCollection(
            list(segments),
            linewidths=line.width_pt,
            capstyle="round",
            **(
                {"array": line.colour, "cmap": TIME_COLOURS, "norm": norm}
                if numeric
                else {"colors": line.colour}
            ),
        )
        axes.add_collection(collection, autolim=False)
