"""Publish tables as CSV with fixed formats: equal tables give equal bytes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from spatialdino_core.files import write_text

DECIMALS = 5  # of a µm, a voxel, a second: far below what can be measured


def write_csv(path: Path | str, table: pd.DataFrame) -> None:
    """Publish a table; floats have five decimals, missing values are empty."""
    write_text(path, table.to_csv(index=False, float_format=f"%.{DECIMALS}f", lineterminator="\n"))
