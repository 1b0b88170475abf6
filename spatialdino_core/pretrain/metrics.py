"""The table of a training run, one row every few steps: a CSV file, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import io
from importlib.util import find_spec
from pathlib import Path

from spatialdino_core.files import write_text

HAS_TENSORBOARD = find_spec("tensorboard") is not None


class MetricsTable:
    """CSV file that can be followed while it grows and set back to an earlier state.

    With TensorBoard (``pip install spatialdino-workflow[tensorboard]``), the numbers also go to
    ``tensorboard/{name of the file}`` beside it: ``tensorboard --logdir`` shows them while training runs.

    Parameters
    ----------
    path
        The file. It is started anew with ``text``, all rows up to the checkpoint from which a run
        resumes, so that no row appears twice.
    text
        What the table began with: ``text`` of the table that the checkpoint has kept.
    """

    def __init__(self, path: Path, text: str = "") -> None:
        self.path = path
        self.text = text
        write_text(path, text)
        self._board = _Board(path, _last_step(text) + 1) if HAS_TENSORBOARD else None

    def append(self, row: dict[str, float | int | str]) -> None:
        """Add a row, which has a ``step``; the first one decides the columns. NaN becomes an empty cell."""
        lines = io.StringIO()
        writer = csv.DictWriter(lines, list(row), lineterminator="\n")
        if not self.text:
            writer.writeheader()
        writer.writerow({name: _cell(value) for name, value in row.items()})
        self.text += lines.getvalue()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(lines.getvalue())
        if self._board is not None:
            self._board.append(row)


class _Board:
    """The event file of one table; what an interrupted run wrote from ``first_step`` on is hidden."""

    def __init__(self, table: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = table.parent / "tensorboard" / table.stem
        self.writer = SummaryWriter(str(folder), purge_step=first_step)

    def append(self, row: dict[str, float | int | str]) -> None:
        for name, value in row.items():
            if name != "step" and not isinstance(value, str):
                self.writer.add_scalar(name, value, int(row["step"]))
        self.writer.flush()


def _cell(value: float | int | str) -> float | int | str:
    if not isinstance(value, float):
        return value
    return "" if value != value else f"{value:.6g}"


def _last_step(text: str) -> int:
    rows = list(csv.DictReader(io.StringIO(text)))
    return int(rows[-1]["step"]) if rows else -1
