"""The table of a training run, ``metrics.csv``: one row every few steps, appended as it happens."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from spatialdino_core.files import write_text


class MetricsTable:
    """CSV file that can be followed while it grows and set back to an earlier state.

    Parameters
    ----------
    path
        The file. It is started anew with ``text``, all rows up to the checkpoint from which a run
        resumes, so that no row appears twice.
    """

    def __init__(self, path: Path, text: str = "") -> None:
        self.path = path
        self.text = text
        write_text(path, text)

    def append(self, row: dict[str, float | int | str]) -> None:
        """Add a row; the first one decides the columns."""
        lines = io.StringIO()
        writer = csv.DictWriter(lines, list(row), lineterminator="\n")
        if not self.text:
            writer.writeheader()
        writer.writerow(
            {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
        )
        self.text += lines.getvalue()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(lines.getvalue())
