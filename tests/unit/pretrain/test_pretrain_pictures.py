"""Curves and token pictures: the alarms' spans, and that pixels show what the tokens say."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from spatialdino_core.pretrain.examine import Examination
from spatialdino_core.pretrain.pictures import held_out_figure, save_figure, training_figure


def metrics(alarms):
    steps = 10 * np.arange(1, len(alarms) + 1)
    table = {name: np.linspace(5, 2, len(alarms)) for name in ("dino_loss", "ibot_loss", "koleo_loss")}
    rates = {"learning_rate": 1e-3, "weight_decay": 0.04, "ema_momentum": 0.99, "teacher_temperature": 0.04}
    figures = {
        f"{place}_{name}": 0.5
        for place in ("class", "patch")
        for name in ("cosine", "rank_share", "target_entropy", "target_perplexity", "dead_prototypes")
    }
    return pd.DataFrame(
        {"step": steps, **table, **rates, **figures, "uniform_loss": np.log(16), "crops_per_s": 70.0}
    ).assign(data_wait_percent=3.0, alarms=alarms)


def held_out(rows=3):
    figures = {"probe_auroc": 0.8, "intensity_auroc": 0.6, "voxels_auroc": 0.7}
    norms = {f"block_{block}_norm_{name}": 2.0 for block in range(3) for name in ("p50", "max")}
    return pd.DataFrame({"step": 20 * np.arange(1, rows + 1), **figures, **norms})


def test_curves_show_their_columns_and_the_alarms(tmp_path):
    figure = training_figure(metrics(["", "x:class", "x:class"]), held_out())
    losses, *_, strip = figure.axes
    lines = {line.get_label(): line.get_ydata() for line in losses.lines}
    assert list(lines["DINO"]) == [5, 3.5, 2]
    assert set(lines["ln K: nothing is known"]) == {np.log(16)}
    assert [text.get_text() for text in strip.texts] == ["x:class"]
    spans = [patch.get_x() for patch in losses.patches]
    assert spans == [20]
    save_figure(figure, tmp_path / "pretrain.png")
    assert Image.open(tmp_path / "pretrain.png").size[0] > 1000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (metrics([""]), held_out(1)),
        (metrics(["", ""]), pd.DataFrame({"step": []})),
        (metrics([]), held_out()),
    ],
)
def test_short_runs_and_missing_looks_are_drawn(one, other, tmp_path):
    save_figure(training_figure(one, other), tmp_path / "p.png")
    save_figure(training_figure(one.drop(columns="dino_loss"), other), tmp_path / "p.png")


@pytest.mark.parametrize("blocks", [1, 12])
def test_no_words_overlap_curves_or_leave_the_picture(blocks):
    table = held_out().filter(regex="step|auroc")
    for block in range(blocks):
        table[f"block_{block}_norm_p50"], table[f"block_{block}_norm_max"] = 1.0, 3.0
    figure = training_figure(metrics(["dimensional-collapse:patch", "uniform-collapse:class", ""]), table)
    figure.set_dpi(100)
    figure.canvas.draw()
    page = figure.bbox
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is not None:
            box = legend.get_window_extent()
            assert box.x1 <= page.x1
            assert box.y1 <= page.y1
            assert box.y0 >= axes.get_window_extent().y1 - 1  # above its panel


def examination(tokens):
    shown = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    return Examination({}, shown, tokens, (2, 2, 2))


def token_colours(figure, column=2):
    """(views, 2, 2, 3) colours of the pictures in a column."""
    return np.stack([axes.images[0].get_array() for axes in figure.axes[column::4]])


def test_patches_that_are_alike_get_one_colour_and_others_another(tmp_path):
    kinds = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    which = torch.tensor([[0, 1, 2, 0, 1, 1, 0, 2], [2, 2, 1, 0, 0, 1, 2, 1]])
    figure = held_out_figure(examination(kinds[which]))
    colours = token_colours(figure).reshape(2, 4, 3)
    shown = which[:, 4:]  # the layer z = 1 of a grid of 2 x 2 x 2
    palette = [colours[shown == kind] for kind in range(3)]
    for kind, found in enumerate(palette):
        assert np.ptp(found, axis=0).max() < 1e-6
        for other in palette[kind + 1 :]:
            assert np.abs(found[0] - other[0]).max() > 0.3
    save_figure(figure, tmp_path / "held_out.png")
    assert Image.open(io.BytesIO((tmp_path / "held_out.png").read_bytes())).format == "PNG"


def test_colours_do_not_turn_over_when_the_order_of_the_views_does():
    tokens = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(1))
    colours = token_colours(held_out_figure(examination(tokens)))
    swapped = token_colours(held_out_figure(examination(tokens.flip(0))))
    np.testing.assert_allclose(swapped[::-1], colours, atol=1e-6)


def test_collapsed_tokens_are_drawn_in_one_colour():
    figure = held_out_figure(examination(torch.ones(2, 8, 6)))
    assert np.ptp(token_colours(figure)) == 0
    assert np.ptp(token_colours(figure, 3)) == 0


def test_tokens_that_only_know_their_view_have_no_colour_of_their_own():
    own = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    views = torch.tensor([[[100.0]], [[-100.0]]])
    figure = held_out_figure(examination(own + views))
    plain, less = token_colours(figure), token_colours(figure, 3)
    assert np.abs(plain[0] - plain[1]).max() > 0.5
    np.testing.assert_allclose(less[0], less[1], atol=1e-3)
    assert np.ptp(less) > 0.5
