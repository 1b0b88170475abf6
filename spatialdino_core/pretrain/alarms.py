"""Alarms of the collapse monitor as others meet them: what each means, and when it was up.

Light on purpose: reports read it. When an alarm is raised is decided in ``monitor.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

MEANINGS = {
    "uniform-collapse": "Every view looks like every prototype, so this loss teaches nothing. Milder "
    "augmentation, a lower pretrain.teacher_temperature, fewer prototypes or a larger batch may help.",
    "point-collapse": "Every view gets the same few prototypes, so the targets say nothing about the view. A "
    "pretrain.ema_momentum nearer to 1, a pretrain.center_momentum below 1 or a larger pretrain.koleo_weight "
    "may help.",
    "dimensional-collapse": "Tokens all point the same way or fill few dimensions. A larger "
    "pretrain.koleo_weight, a pretrain.ema_momentum nearer to 1, a lower pretrain.learning_rate or crops "
    "that differ more may help.",
    "too-few-samples": "Sinkhorn-Knopp shares so few samples among so many prototypes that much of its "
    "targets is arbitrary. Fewer prototypes, a larger batch, or pretrain.targets: centering may help.",
}
"""What each alarm means and what to do about it."""


@dataclass(frozen=True)
class AlarmSpan:
    """One time that an alarm was up, from the first to the last row of the table that has it."""

    alarm: str
    first: int
    last: int


def alarm_spans(table: pd.DataFrame) -> Iterator[AlarmSpan]:
    """Each time that an alarm was up, from a table with ``step`` and ``alarms`` (joined by semicolons)."""
    up: dict[str, int] = {}
    before = 0
    for step, text in zip(table["step"].astype(int), table["alarms"].astype(object).fillna(""), strict=True):
        now = set(filter(None, text.split(";")))
        for name in sorted(set(up) - now):
            yield AlarmSpan(name, up.pop(name), before)
        up |= dict.fromkeys(now - set(up), step)
        before = step
    for name, first in sorted(up.items()):
        yield AlarmSpan(name, first, before)
