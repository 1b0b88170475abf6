"""When alarms were up, from the table of a training."""

import numpy as np
import pandas as pd

from spatialdino_core.pretrain.alarms import AlarmSpan, alarm_spans


def test_spans_of_alarms_last_from_their_first_to_their_last_row():
    alarms = ["", "a:class", "a:class;b:patch", "b:patch", "", "a:class"]
    table = pd.DataFrame({"step": range(10, 70, 10), "alarms": alarms})
    assert sorted(alarm_spans(table), key=lambda span: (span.alarm, span.first)) == [
        AlarmSpan("a:class", 20, 30),
        AlarmSpan("a:class", 60, 60),
        AlarmSpan("b:patch", 30, 40),
    ]
    table["alarms"] = np.nan  # what pandas reads from a column of empty cells
    assert list(alarm_spans(table)) == []
