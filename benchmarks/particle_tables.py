"""Tables of `particles.py`: medians over seeds, ours beside the best peer.

The best peer of α, β, JSC, complete tracks and F1 is that with the highest. Precision, recall and error are
those of the peer with the highest F1, identity switches those of the one with the highest α, since who finds
little errs little.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

CHOSEN_BY = {
    **dict.fromkeys(["precision", "recall", "rmse_um"], "f1"),
    "id_switches": "alpha",
    **dict.fromkeys(["merging_precision", "merging_recall"], "merging_f1"),
    **dict.fromkeys(["all_precision", "all_recall"], "all_f1"),
}
TABLES = {
    "Detection": {"f1": "F1", "precision": "precision", "recall": "recall", "rmse_um": "error (µm)"},
    "Tracks": {
        "alpha": "α",
        "beta": "β",
        "jsc": "JSC",
        "id_switches": "identity switches",
        "complete": "complete tracks",
    },
    "Events": {
        "merging_events": "splits, merges",
        "all_events": "events",
        "merging_precision": "their precision",
        "merging_recall": "their recall",
        "all_precision": "all events: precision",
        "all_recall": "recall",
    },
}
DIGITS = {"id_switches": 0}
LETTERS = {
    "trackpy": "T",
    "blob_log + laptrack": "B",
    "otsu_voronoi + laptrack": "O",
    "greedy": "G",
    "laptrack with splits": "S",
}
"""How tables name peers, so that rows stay short."""


def markdown(report: dict[str, Any]) -> str:
    """All tables of a report."""
    rows = pd.DataFrame(report["rows"])
    middle = rows.groupby(["cell", "method"], sort=False).median(numeric_only=True)
    cells, methods = list(dict.fromkeys(rows["cell"])), list(dict.fromkeys(rows["method"]))
    peers = [name for name in methods if name not in {"ours", *report["variants"]}]
    seeds = rows.groupby("cell")["seed"].nunique()
    letters = ", ".join(f"{letter} {name}" for name, letter in LETTERS.items())
    parts = [
        f"Medians over {seeds.max()} seeds of {report['frames']} frames; gate {report['gate_um']} µm.\n"
        f"Each entry is ours / the best peer and its letter:\n{letters}.\n"
    ]
    for title, columns in TABLES.items():
        body = [[_name(cell), *(_entry(middle, cell, peers, column) for column in columns)] for cell in cells]
        parts.append(f"## {title}\n\n" + _table(["movie", *columns.values()], body))
    if report["variants"]:
        parts.append("## Ablation\n\n" + _ablation(middle, ["ours", *report["variants"]]))
    return "\n".join(parts)


def _entry(middle: pd.DataFrame, cell: str, peers: list[str], column: str) -> str:
    mine = middle.loc[(cell, "ours"), column]
    digits = DIGITS.get(column, 3)
    if column.endswith("_events"):
        return f"{mine:.0f}"
    if column.startswith("merging") and middle.loc[(cell, "ours"), "merging_events"] == 0:
        return "–"
    theirs = middle.loc[cell].reindex(peers)
    best = theirs[CHOSEN_BY.get(column, column)].idxmax()
    return f"{mine:.{digits}f} / {theirs.loc[best, column]:.{digits}f} {LETTERS[best]}"


def _name(cell: str) -> str:
    return cell.replace("_", " ").replace("snr", "SNR ")


def _ablation(middle: pd.DataFrame, variants: list[str]) -> str:
    columns = {"f1": "F1", "alpha": "α", "jsc": "JSC", "id_switches": "identity switches"}
    body = [
        [_name(cell), name, *(f"{middle.loc[(cell, name), key]:.{DIGITS.get(key, 3)}f}" for key in columns)]
        for cell in middle.index.get_level_values("cell").unique()
        for name in variants
    ]
    return _table(["movie", "variant", *columns.values()], body)


def _table(header: list[str], body: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
