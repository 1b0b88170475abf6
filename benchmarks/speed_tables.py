"""Tables of `speed.py`: medians and ranges over rounds, ratios, exponents, goals. No measurement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

YARDSTICK = "scipy DoG + peak_local_max"
CHAIN = ("deskew stage", "segment stage", "link")
MOVIE_FRAMES = 100
"""Over which the chain spreads what is done once for a movie."""
Table = pd.DataFrame


def markdown(rows: list[dict[str, Any]]) -> str:
    """All tables of a run."""
    table = pd.DataFrame(rows)
    for name in ("size", "missing", "growth", "frames", "cpu_s", "peak_mb", "found"):
        if name not in table:
            table[name] = np.nan
    single, growing = table[table["growth"].isna()], table[table["growth"].notna()]
    parts = [_compiled(single), _beside(single), _chain(single), _growth(growing), _goals(single)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _values(table: Table, what: str, size: str, column: str = "cpu_s") -> Table:
    """All rounds of a case; of one frame where it took several."""
    here = table[(table["what"] == what) & (table["size"] == size)]
    return here[column] / here["frames"].fillna(1) if column == "cpu_s" else here[column]


def _compiled(table: Table) -> str:
    seconds = _compilation(table)
    if np.isnan(seconds):
        return ""
    found = _values(table, "compile", "cold", "found").median()
    return f"Compiling everything, {found:.0f} variants of functions: {seconds:.1f} processor seconds."


def _compilation(table: Table) -> float:
    cold, warm = (_values(table, "compile", size).median() for size in ("cold", "warm"))
    return float(cold - warm)


def _beside(table: Table) -> str:
    """What a frame of each size costs, in the yardstick's seconds, too."""
    lines = ["| frame | what | CPU s per frame | of DoG's | peak MB | found |", "|---|---|--:|--:|--:|--:|"]
    for size in dict.fromkeys(table["size"]):
        yardstick = _values(table, YARDSTICK, size).median()
        for what in dict.fromkeys(table.loc[table["size"] == size, "what"]):
            if what == "compile":
                continue
            here = table[(table["what"] == what) & (table["size"] == size)]
            if here["missing"].notna().any():
                lines.append(f"| {size} | {what} | not run: {here['missing'].iloc[0]} | | | |")
                continue
            seconds = _values(table, what, size)
            ratio, peak = seconds.median() / yardstick, here["peak_mb"].median()
            found = "" if here["found"].isna().all() or what in UNCOUNTED else f"{here['found'].median():.0f}"
            lines.append(f"| {size} | {what} | {_spread(seconds)} | {ratio:.2f} | {peak:.0f} | {found} |")
    return "\n".join(lines) if len(lines) > 2 else ""


UNCOUNTED = ("calibrate", "features")


def _spread(values: Any) -> str:
    middle = f"{values.median():.3g}"
    return middle if len(values) < 2 else f"{middle} ({values.min():.3g}–{values.max():.3g})"


def _chain_seconds(table: Table) -> float:
    """Of one large frame, from the raw file to tracks; NaN where it was not measured."""
    once = _values(table, "calibrate", "large").median() / MOVIE_FRAMES
    return float(sum(_values(table, what, "large").median() for what in CHAIN) + once)


def _chain(table: Table) -> str:
    seconds = _chain_seconds(table)
    parts = ", ".join(f"{what} {_values(table, what, 'large').median():.2f}" for what in CHAIN)
    return (
        "" if np.isnan(seconds) else f"Whole chain, large frame: {seconds:.1f} processor seconds ({parts})."
    )


def _growth(table: Table) -> str:
    """Seconds and memory of each doubling, with the slope of log seconds over log amount."""
    lines: list[str] = []
    for kind, rows in table.groupby("growth", sort=False):
        amounts = sorted(rows["amount"].unique())
        heads = " | ".join(f"{amount:,.0f}" for amount in amounts)
        lines += [
            "",
            f"| {kind}: CPU s; peak MB | {heads} | exponent |",
            "|---|" + "--:|" * (len(amounts) + 1),
        ]
        for what, here in rows.groupby("what", sort=False):
            median = here.groupby("amount")[["cpu_s", "peak_mb"]].median()
            if len(median) < max(2, len(amounts)):
                continue  # a run that was ended
            slope = np.polyfit(np.log(median.index.to_numpy(float)), np.log(median["cpu_s"]), 1)[0]
            cells = " | ".join(f"{s:.3g}; {m:.0f}" for s, m in median.to_numpy())
            lines.append(f"| {what} | {cells} | {slope:.2f} |")
    return "\n".join(lines).strip()


def _goals(table: Table) -> str:
    lines = ["| goal | bound | measured | reached |", "|---|--:|--:|---|"]
    for text, bound, measured in _measured_goals(table):
        if not np.isnan(measured):
            answer = "yes" if measured <= bound else "no"
            lines.append(f"| {text} | {bound:g} | {measured:.3g} | {answer} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _measured_goals(table: Table) -> Iterator[tuple[str, float, float]]:
    for size in ("small", "small textured", "large", "large textured"):
        frame = _values(table, "segment_frame", size).median()
        yardstick = _values(table, YARDSTICK, size).median()
        yield f"{size}: segment_frame, of scipy's DoG + peak_local_max", 1.0, frame / yardstick
        once = _values(table, "calibrate", size).median()
        yield f"{size}: calibration, of segment_frame", 1.5, once / frame
    for size in ("large", "large textured"):
        peak = _values(table, "segment_frame", size, "peak_mb").max()
        yield f"{size}: peak memory of segment_frame (MB)", 1500, peak
    yield "whole chain of a large frame without features (CPU s)", 20, _chain_seconds(table)
    yield "compiling everything (CPU s)", 25, _compilation(table)
