"""Pictures of a training run: its curves, and what the teacher sees in the held-out views.

Drawn by Agg on white, so that they can be opened on their own as well as in the report.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from spatialdino_core.files import published
from spatialdino_core.pretrain.alarms import alarm_spans
from spatialdino_core.pretrain.examine import Examination

DPI = 110
# Colours that people with any colour vision can tell apart (Okabe & Ito, 2008).
BLUE, ORANGE, GREEN, PURPLE, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00"
GREY = "#767b82"


def save_figure(figure: Figure, path: Path) -> None:
    """Publish a figure as PNG."""
    with published(path) as beside:
        figure.savefig(beside, format="png", dpi=DPI)


def training_figure(metrics: pd.DataFrame, held_out: pd.DataFrame) -> Figure:
    """Curves of a run over its steps, with the spans in which alarms were up.

    Parameters
    ----------
    metrics
        ``metrics.csv``, one row every few steps.
    held_out
        ``held_out.csv``, one row per examination; may be empty.
    """
    spans = list(alarm_spans(metrics))
    names = sorted({span.alarm for span in spans})
    figure = Figure(figsize=(11, 13 + 0.35 * len(names)), layout="constrained")
    rows = figure.add_gridspec(5, 2, height_ratios=[1, 1, 1, 1, 0.05 + 0.15 * len(names)])
    drawn = (_losses, _likeness, _entropies, _prototypes, _probe, _norms, _schedules, _speed)
    last = max(int(metrics["step"].max()) if len(metrics) else 1, 1)
    for number, draw in enumerate(drawn):
        axes = figure.add_subplot(rows[number // 2, number % 2])
        draw(axes, held_out if draw in (_probe, _norms) else metrics)
        _finish(axes, last)
        for span in spans:
            axes.axvspan(span.first, span.last, color=GREY, alpha=0.1, lw=0)
    strip = figure.add_subplot(rows[4, :])
    _finish(strip, last)
    strip.set_xlabel("optimiser step; grey: an alarm was up" if names else "optimiser step; no alarm was up")
    strip.set_yticks([])
    strip.set_ylim(-0.4, max(len(names), 0.1))
    for row, name in enumerate(names):
        strip.text(0.004, row + 0.3, name, transform=strip.get_yaxis_transform(), fontsize=9)
    for span in spans:
        row = names.index(span.alarm)
        strip.plot([span.first, span.last], [row, row], color=RED, lw=6, solid_capstyle="projecting")
    return figure


def _finish(axes: Axes, last: int) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if axes.get_legend_handles_labels()[0]:
        # Above the panel, where it hides no curve.
        axes.legend(frameon=False, fontsize=8.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def held_out_figure(examination: Examination) -> Figure:
    """What the teacher sees: each view beside the first three principal components of its patch tokens.

    One row per view: its maximum projection along z; the maximum over the planes of the middle layer of
    patches; that layer, one colour per patch, components 1 to 3 as red, green and blue; and the same after
    the mean token of each view is taken away, which leaves what tells the patches of a view apart. Colours
    mean the same in all rows (one basis per column, fitted to the tokens shown, the largest loading of each
    component positive; 2nd to 98th percentile from dark to bright). Similar things in similar colours are
    what is hoped for; one colour everywhere is a collapse.
    """
    tokens = examination.patch_tokens.numpy()
    columns = [_component_colours(tokens), _component_colours(tokens - tokens.mean(1, keepdims=True))]
    views = examination.views.amax(1).numpy()
    count, depth = len(views), examination.grid[0]
    side = views.shape[1] // depth
    slab = slice(depth // 2 * side, (depth // 2 + 1) * side)
    figure = Figure(figsize=(8.8, 0.6 + 2.15 * count), layout="constrained")
    rows = figure.subplots(count, 4, squeeze=False)
    planes = f"planes {slab.start} to {slab.stop - 1}"
    titles = ("whole view (maximum)", f"{planes} (maximum)", "their patch tokens", "… less the view's mean")
    for axes, title in zip(rows[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    for number, (row, view) in enumerate(zip(rows, views, strict=True)):
        low, high = np.percentile(view, [1, 99.8])
        for axes, stack in zip(row, (view, view[slab]), strict=False):
            axes.imshow(stack.max(0), cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
        for axes, (colours, _) in zip(row[2:], columns, strict=True):
            layer = colours[number].reshape(*examination.grid, 3)[depth // 2]
            axes.imshow(layer, interpolation="nearest")
        row[0].set_ylabel(f"view {number + 1}", fontsize=9)
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
    rows[-1][0].set_xlabel(f"{views.shape[-1]} voxels wide", fontsize=9)
    for axes, (_, explained) in zip(rows[-1][2:], columns, strict=True):
        shares = " + ".join(f"{100 * share:.0f}" for share in explained)
        axes.set_xlabel(f"{shares} % of variance", fontsize=9)
    return figure


def _losses(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_ylabel("loss (nats)")
    _lines(axes, table, {"dino_loss": ("DINO", BLUE, "-"), "ibot_loss": ("iBOT", ORANGE, "-")})
    _lines(axes, table, {"koleo_loss": ("KoLeo", GREEN, "-")})
    _lines(axes, table, {"uniform_loss": ("ln K: nothing is known", GREY, "--")})


def _likeness(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_ylabel("likeness of teacher tokens")
    axes.set_ylim(-0.05, 1.05)
    for place, colour in (("class", BLUE), ("patch", ORANGE)):
        _lines(axes, table, {f"{place}_cosine": (f"{place}: mean cosine", colour, "-")})
        _lines(axes, table, {f"{place}_rank_share": (f"{place}: RankMe / largest", colour, ":")})


def _entropies(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_ylabel("entropy of targets (nats)")
    for place, colour in (("class", BLUE), ("patch", ORANGE)):
        _lines(axes, table, {f"{place}_target_entropy": (f"{place}: of each", colour, "-")})
        if f"{place}_target_perplexity" in table:
            marginal = np.log(table[f"{place}_target_perplexity"])
            axes.plot(table["step"], marginal, color=colour, ls=":", label=f"{place}: of their mean")
    _lines(axes, table, {"uniform_loss": ("ln K", GREY, "--")})


def _prototypes(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_ylabel("share of prototypes\n(in use: perplexity / K)")
    axes.set_ylim(-0.05, 1.05)
    for place, colour in (("class", BLUE), ("patch", ORANGE)):
        if {f"{place}_target_perplexity", "uniform_loss"} <= set(table):
            used = table[f"{place}_target_perplexity"] / np.exp(table["uniform_loss"])
            axes.plot(table["step"], used, color=colour, label=f"{place}: in use")
        _lines(axes, table, {f"{place}_dead_prototypes": (f"{place}: dead", colour, ":")})


def _probe(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_ylabel("probe of held-out patches: AUROC")
    _lines(axes, table, {"probe_auroc": ("patch tokens", BLUE, "-")}, marker=".")
    _lines(axes, table, {"intensity_auroc": ("mean, sd, max of intensity", ORANGE, "--")})
    _lines(axes, table, {"voxels_auroc": ("all voxels", GREEN, "--")})


def _norms(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_ylabel("largest / median token norm")
    blocks = [name.removesuffix("_norm_max") for name in map(str, table) if name.endswith("_norm_max")]
    for number, block in enumerate(blocks):
        ratio = table[f"{block}_norm_max"] / table[f"{block}_norm_p50"]
        shade = 0.25 + 0.7 * number / max(len(blocks) - 1, 1)
        ends = number in (0, len(blocks) - 1)
        label = block.replace("_", " ") if ends else None
        axes.plot(table["step"], ratio, color=BLUE, alpha=shade, marker=".", label=label)


def _schedules(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_ylabel("schedules, of their largest")
    axes.set_ylim(-0.05, 1.12)
    names = {
        "learning_rate": ("learning rate", BLUE, "-"),
        "weight_decay": ("weight decay", ORANGE, "-"),
        "ema_momentum": ("1 − teacher momentum", GREEN, "-"),
        "teacher_temperature": ("teacher temperature", PURPLE, "-"),
    }
    for name, (label, colour, style) in names.items():
        if name in table:
            values = 1 - table[name] if name == "ema_momentum" else table[name]
            most = values.max()
            label = f"{label} (≤ {most:.3g})"
            axes.plot(
                table["step"], values / most if most > 0 else values, color=colour, ls=style, label=label
            )


def _speed(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_ylabel("crops / s")
    _lines(axes, table, {"crops_per_s": ("crops / s", BLUE, "-")})
    axes.set_ylim(bottom=0)
    if "data_wait_percent" in table:
        share = axes.twinx()
        share.plot(table["step"], table["data_wait_percent"], color=ORANGE)
        share.set_ylim(0, 105)
        share.set_ylabel("waiting for data (%)", color=ORANGE)
        share.spines["top"].set_visible(False)
        axes.plot([], [], color=ORANGE, label="waiting for data")


def _lines(
    axes: Axes, table: pd.DataFrame, columns: dict[str, tuple[str, str, str]], marker: str | None = None
) -> None:
    """Draw the columns that the table has; each with label, colour and line style."""
    for name, (label, colour, style) in columns.items():
        if name in table:
            axes.plot(table["step"], table[name], color=colour, ls=style, marker=marker, label=label)


def _component_colours(tokens: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(s, N, D) to (s, N, 3) in [0, 1], and the shares of variance of the three components."""
    flat = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    _, values, axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    axes = axes[:3]
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    components = (flat - flat.mean(0)) @ axes.T
    low, high = np.percentile(components, [2, 98], axis=0)
    scaled = np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1)
    return scaled.reshape(*tokens.shape[:2], 3), values[:3] ** 2 / max((values**2).sum(), 1e-30)
