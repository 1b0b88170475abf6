"""Tables and labels in few numbers, for golden values that stay small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

DIGITS = 7


def brief(table: pd.DataFrame) -> dict[str, Any]:
    """Per column: mean, root mean square, a mean that tells rows apart, and how many are missing if any."""
    return {"rows": len(table)} | {str(name): _column(table[name]) for name in table}


def voxels(labels: np.ndarray) -> dict[str, Any]:
    """Labelled voxels and their owners: one voxel more or less tells."""
    table = pd.DataFrame(np.argwhere(labels), columns=[f"axis {a}" for a in range(labels.ndim)])
    return brief(table.assign(owner=labels[labels > 0]))


def short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _column(column: pd.Series) -> Any:
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().all() and column.notna().any():
        return column.value_counts().sort_index().to_dict()
    known = numbers.to_numpy(np.float64, na_value=np.nan)
    missing = int(np.isnan(known).sum())
    known = np.nan_to_num(known)
    weights = np.modf(np.arange(1, len(known) + 1) * 0.6180339887498949)[0]
    found = [short(np.sum(part) / max(len(known), 1)) for part in (known, known**2, known * weights)]
    found[1] = short(found[1] ** 0.5)
    return [*found, missing] if missing else found
