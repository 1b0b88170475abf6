"""How figures look, and how they become pictures inside a page. Not what they show.

Figures are matplotlib's ``Figure`` objects drawn by Agg; nothing here touches pyplot or its global state.
Micrographs lie on a dark ground, curves on none, so that both read well on light and dark pages.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

DPI = 130
WIDTH_IN = 6.0
FONT_PT = 10.0

DARK = "#101214"
LIGHT = "#d6d9dd"
INK = "#767b82"  # has at least 4:1 contrast on white and on near-black

# Colours that people with any colour vision can tell apart (Okabe & Ito, 2008).
ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"

TIME_COLOURS = LinearSegmentedColormap.from_list(
    "viridis without its dark end", colormaps["viridis"](range(70, 256))
)
"""Colours of time over a dark micrograph."""


@dataclass(frozen=True, kw_only=True)
class Illustration:
    """A finished picture and its words.

    Attributes
    ----------
    title, caption
        What is seen, and how to read it.
    alt
        What a reader learns who cannot see it.
    png
        The picture.
    """

    title: str
    caption: str
    alt: str
    png: bytes

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def illustrate(figure: Figure, *, title: str, caption: str, alt: str) -> Illustration:
    """Render a figure; one on the dark ground becomes an opaque picture, any other a transparent one."""
    return Illustration(title=title, caption=caption, alt=alt, png=png(figure))


def png(figure: Figure) -> bytes:
    """A figure as PNG, in its own background colour."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    image = Image.open(drawn)
    # An opaque picture loses its alpha channel; noise does not compress, every byte of it counts.
    (image.convert("RGB") if _is_opaque(image) else image).save(packed, format="png", optimize=True)
    return packed.getvalue()


def _is_opaque(image: Image.Image) -> bool:
    return image.getchannel("A").getextrema() == (255, 255)


def dark_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure for micrographs, placed by hand (inches)."""
    return Figure(figsize=(width_in, height_in), facecolor=DARK)


def curve_axes(
    x_label: str, y_label: str, *, width_in: float = 4.4, height_in: float = 2.9
) -> tuple[Figure, Axes]:
    """A transparent figure with one pair of axes for curves and histograms."""
    figure = Figure(figsize=(width_in, height_in), facecolor="none", layout="constrained")
    axes = figure.add_subplot()
    style_axes(axes, x_label, y_label)
    return figure, axes


def style_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Label axes of curves and give them the ink that reads on any page."""
    axes.set_facecolor("none")
    axes.set_xlabel(x_label, color=INK, fontsize=FONT_PT)
    axes.set_ylabel(y_label, color=INK, fontsize=FONT_PT)
    axes.tick_params(which="both", colors=INK, labelsize=FONT_PT - 1)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)


def add_legend(axes: Axes) -> None:
    """A frameless legend where it hides least."""
    axes.legend(frameon=False, labelcolor=INK, fontsize=FONT_PT - 1, loc="best")
