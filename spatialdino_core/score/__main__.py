"""Scores of a run, on the command line.

python -m spatialdino_core.score --truth TRUTH --results RESULTS [--gate-um X | --gate-voxels 3] [--labels]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from spatialdino_core.errors import BadInputError
from spatialdino_core.score.run import GATE_VOXELS, score_run, score_run_events, score_run_labels

HEADINGS = {
    "particles_per_frame": "per_frame",
    "alpha": "α",
    "beta": "β",
    "jsc": "JSC",
    "jsc_theta": "JSCθ",
    "f1": "F1",
    "link_f1": "link_F1",
    **{name: name.upper() for name in ("det", "seg", "tra", "lnk", "hota")},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print tables of scores; returns 1 after a message where the input cannot be scored."""
    parser = argparse.ArgumentParser(
        prog="spatialdino_core.score", description="Score a run against truth tables."
    )
    parser.add_argument("--truth", type=Path, required=True, help="folder of {movie}.csv")
    parser.add_argument("--results", type=Path, required=True, help="results folder of the workflow")
    gate = parser.add_mutually_exclusive_group()
    gate.add_argument("--gate-um", type=float, help="how close a position must be to count (µm)")
    gate.add_argument("--gate-voxels", type=float, default=GATE_VOXELS, help="the same in lateral pixels")
    parser.add_argument("--labels", action="store_true", help="score labels, too; needs py-ctcmetrics")
    options = parser.parse_args(arguments)
    try:
        scores = score_run(
            options.truth, options.results, gate_um=options.gate_um, gate_voxels=options.gate_voxels
        )
        tables = [scores, score_run_events(options.truth, options.results)]
        tables += [score_run_labels(options.truth, options.results)] if options.labels else []
    except BadInputError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n\n".join(format_table(table) for table in tables if len(table)))
    return 0


def format_table(table: pd.DataFrame) -> str:
    """The table as aligned text, with ``-`` for what is unknown."""
    text = pd.DataFrame({name: [_cell(str(name), value) for value in table[name]] for name in table})
    return text.rename(columns=HEADINGS).to_string(index=False)


def _cell(column: str, value: object) -> str:
    if value is pd.NA or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}" if column in ("particles_per_frame", "minutes") else f"{value:.3f}"
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
