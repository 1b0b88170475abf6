"""What `particles.py` measures of ours and of peers alike, and how close is close."""

from __future__ import annotations

import pandas as pd

from spatialdino_core.score.events import KINDS, EventScore, score_events, true_events
from spatialdino_core.score.run import score_movie

GATE_UM = 0.39
EVENT_GATE_UM = 0.75
EVENT_GATE_FRAMES = 2


def event_measures(scores: dict[str, EventScore]) -> dict[str, float]:
    """Precision, recall and F1 of splits with merges, and of all events, with how many there are."""
    row: dict[str, float] = {}
    for name, kinds in {"merging": KINDS[:2], "all": KINDS}.items():
        total = sum((scores[kind] for kind in kinds), EventScore(0, 0, 0))
        row |= {f"{name}_events": total.expected, f"{name}_precision": total.precision}
        row |= {f"{name}_recall": total.recall, f"{name}_f1": total.f1}
    return row


def measures(
    truth: pd.DataFrame, detections: pd.DataFrame, tracks: pd.DataFrame, events: pd.DataFrame
) -> dict[str, float]:
    """All scores of one method on one movie."""
    expected = true_events(truth, int(truth["frame"].max()) + 1)
    scores = score_events(events, expected, EVENT_GATE_UM, EVENT_GATE_FRAMES)
    return score_movie(truth, detections, tracks, GATE_UM) | event_measures(scores)
