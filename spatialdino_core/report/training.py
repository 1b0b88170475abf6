"""How the model was trained, for the summary: alarms, the last figures, where it comes from, pictures.

Reads what lies beside the weights; nothing is computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from spatialdino_core.encoder.header import read_header
from spatialdino_core.pretrain.alarms import MEANINGS, AlarmSpan, alarm_spans
from spatialdino_core.report.facts import Fact, count, text
from spatialdino_core.report.figures import Illustration

TOKENS = {"class": "class tokens", "patch": "patch tokens"}
LAST_FIGURES = {
    "dino_loss": "DINO loss (nats)",
    "uniform_loss": "… of a student that knows nothing (ln K, nats)",
    "ibot_loss": "iBOT loss (nats)",
    "class_cosine": "mean cosine between class tokens",
    "patch_cosine": "mean cosine between patch tokens",
    "class_target_information": "what a class target tells about its view (nats)",
}
LAST_PROBES = {
    "probe_auroc": "patch tokens",
    "intensity_auroc": "mean, standard deviation and maximum of intensity",
    "voxels_auroc": "all voxels",
}
PICTURES = {
    "pretrain.png": (
        "Curves of the training",
        "Over the optimiser steps. Grey: an alarm was up.",
        "Losses, likeness of tokens, entropies, prototypes in use, probe, norms, schedules and speed.",
    ),
    "held_out.png": (
        "What the encoder sees",
        "One row per view; in the last two columns each patch has the colour of its token (principal "
        "components 1 to 3 as red, green and blue, the same in all rows), in the last one without the mean "
        "of its view. Similar structures should have similar colours; one colour everywhere is a collapse.",
        "Views beside the principal components of their patch tokens.",
    ),
}


@dataclass(frozen=True)
class Alarm:
    """An alarm that was up in the course of the training: of which tokens, when, and what it means."""

    name: str
    place: str
    when: str
    meaning: str


@dataclass(frozen=True)
class Training:
    """What the summary says about the training."""

    alarms: list[Alarm]
    facts: dict[str, list[Fact]]
    pictures: list[Illustration]


def read_training(metrics: Path) -> Training:
    """Read ``metrics.csv`` and, where they lie beside it, the other parts of its log.

    Parameters
    ----------
    metrics
        The table. Optional beside it: ``held_out.csv``, ``pretrained.safetensors``, ``pretrain.png`` and
        ``held_out.png``.
    """
    table = _table(metrics)
    held_out = _table(metrics.with_name("held_out.csv"))
    weights = metrics.with_name("pretrained.safetensors")
    facts = {
        "At the end of the training": list(_last(table, LAST_FIGURES)),
        "Linear probe for foreground in the watched views (AUROC)": list(_last(held_out, LAST_PROBES)),
        "Provenance": list(_provenance(weights)) if weights.exists() else [],
    }
    return Training(list(_alarms(table)), facts, list(_pictures(metrics.parent)))


def _table(path: Path) -> pd.DataFrame:
    """A table of the training; without rows where there is none, or none yet."""
    if not path.exists() or not path.stat().st_size:
        return pd.DataFrame({"step": [], "alarms": []})
    return pd.read_csv(path)


def _alarms(table: pd.DataFrame) -> Iterator[Alarm]:
    """Each alarm once, with all the times that it was up."""
    last = table["step"].max()
    spans = sorted(alarm_spans(table), key=lambda span: (span.alarm, span.first))
    for alarm, times in groupby(spans, key=lambda span: span.alarm):
        name, place = alarm.split(":")
        when = " and ".join(_when(span, last) for span in times)
        yield Alarm(name, TOKENS[place], when, MEANINGS[name])


def _when(span: AlarmSpan, last: int) -> str:
    return f"from step {span.first} to the end" if span.last == last else f"steps {span.first} to {span.last}"


def _last(table: pd.DataFrame, names: Mapping[str, str]) -> Iterator[Fact]:
    """The last value of each column that the table has."""
    for column, name in names.items():
        values = table[column].dropna().tolist() if column in table else []
        if values:
            yield Fact(name, text(float(values[-1])))


def _provenance(weights: Path) -> Iterator[Fact]:
    header = read_header(weights)
    encoder, origin = header.architecture, header.provenance
    trained: Mapping[str, Any] = origin.get("pretrain", {})
    yield Fact(
        "encoder",
        f"{count(encoder.depth, 'block')}, {encoder.embed_dim} features, {count(encoder.heads, 'head')}, "
        f"patches of {encoder.patch_voxels} voxels",
    )
    yield Fact("voxel size (µm)", text(header.voxel_um[0]))
    if "movies" in origin:
        names = [movie["movie"] if isinstance(movie, dict) else str(movie) for movie in origin["movies"]]
        yield Fact(f"trained on {count(len(names), 'movie')}", ", ".join(names))
    if origin.get("held_out_movies"):
        yield Fact("only looked at", ", ".join(origin["held_out_movies"]))
    if trained:
        recipe = trained["recipe"]
        yield Fact("crops", str(trained["crops"]))
        yield Fact("steps", f"{recipe['steps']} of {count(recipe['batch_size'], 'crop')}")
        yield Fact("seed", str(trained["seed"]))
    for name in ("software", "version", "commit"):
        if name in origin:
            yield Fact(name, str(origin[name]))


def _pictures(folder: Path) -> Iterator[Illustration]:
    for name, (title, caption, alt) in PICTURES.items():
        if (folder / name).exists():
            yield Illustration(title=title, caption=caption, alt=alt, png=(folder / name).read_bytes())
