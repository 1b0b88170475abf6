"""The contact sheet: all movies on one page, to be sorted, filtered, accepted and rejected.

The page works from disk without a server. It changes no file: it exports a ``decisions.tsv``, which the
user puts in place.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from PIL import Image

from spatialdino_core.page import write_page
from spatialdino_core.quality.decisions import DECISION_COLUMNS
from spatialdino_core.quality.pictures import GAP_PIXELS
from spatialdino_core.quality.verdict import Measures

TEMPLATE = Path(__file__).with_name("templates") / "contact_sheet.html"
VERDICTS = ("accept", "look", "reject", "problem")
PANELS_ON_CARD = 2  # the others are in the large view
THUMBNAIL_WIDTHS = (640, 560, 480, 400, 320, 240)
JPEG_QUALITY = 80
PICTURE_BYTES = 7_000_000  # of all thumbnails together, in base64


@dataclass(frozen=True)
class Label:
    """What the page calls a measure, its unit, its short name if it stands on the card, and whether it spans
    powers of ten."""

    name: str
    unit: str = ""
    short: str = ""
    powers: bool = False

    def full(self) -> str:
        """Name with unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


LABELS = {
    "snr": Label("SNR", short="SNR"),
    "focus": Label("focus score", short="focus"),
    "signal_change": Label("change of signal", "%", "signal"),
    "half_life_s": Label("half-life", "s", "half-life"),
    "motion_um": Label("motion to next frame", "µm", "motion"),
    "drift_um": Label("drift first to last", "µm", "drift"),
    "saturated_fraction": Label("saturated voxels", "%", "saturated"),
    "hot_pixels": Label("hot pixels"),
    "noise_p_value": Label("p-value of noise alone", short="p of noise", powers=True),
    "mirrored_p_value": Label("p-value of noise, scanned the other way", powers=True),
    "shift_y_pixels": Label("shift between planes along y", "pixels"),
    "shift_x_pixels": Label("shift between planes along x", "pixels"),
    "shift_error_pixels": Label("its standard error", "pixels"),
    "no_data_fraction": Label("borders without data", "%"),
    "missing_frames": Label("missing frames", short="missing"),
    "frames": Label("frames"),
    "missing_fraction": Label("missing frames", "%"),
    "background": Label("background", "counts"),
    "noise": Label("noise", "counts"),
    "signal": Label("signal", "counts"),
    "empty_planes": Label("empty planes"),
    "repeated_planes": Label("repeated planes"),
    "repeated_frames": Label("repeated frames"),
    "snr_last": Label("SNR, last frame"),
    "focus_last": Label("focus score, last frame"),
    "background_change": Label("change of background", "counts"),
    "signal_slope_per_frame": Label("slope of the log signal", "1/frame", powers=True),
    "motion_um_per_min": Label("motion to next frame", "µm/min"),
    "drift_um_per_min": Label("drift first to last", "µm/min"),
    "lowest": Label("lowest", "counts"),
    "highest": Label("highest", "counts"),
    "percentile_1": Label("1st percentile", "counts"),
    "percentile_50": Label("median", "counts"),
    "percentile_99": Label("99th percentile", "counts"),
}
"""The measures in the order of the page."""


def draw_contact_sheet(
    entries: Sequence[Mapping[str, Any]],
    decisions: Sequence[Mapping[str, str]],
    output: Path | str,
    *,
    run: str,
    decided: str,
) -> None:
    """Publish the contact sheet as one self-contained page.

    Parameters
    ----------
    entries
        One per movie, in the order of the sheet: ``movie``; ``verdict`` (accept, look, reject, problem) and
        its ``reason``; ``warnings``, one line each; ``reading``, what was read; ``geometry``,
        channel name to its declared and measured shift between planes; ``judged``, a digest of what
        the verdict rests on; ``whole``, measures of the movie; ``channels``, channel name to measures;
        ``panels``, titles of the columns of its ``picture`` (PNG).
    decisions
        Rows of ``decisions.tsv``, which the export gives back but for what is decided on the page.
    output
        Page to publish; pictures in full are looked for in ``previews/`` beside it.
    run
        Path of the folder, which tells runs apart in the browser's memory.
    decided
        Digest of what humans decided so far: what is kept in the browser counts from there.
    """
    budget = PICTURE_BYTES // max(len(entries), 1)
    columns = list(dict.fromkeys([*DECISION_COLUMNS, *(name for row in decisions for name in row)]))
    cards = [_card(entry, budget) for entry in entries]
    known = {name for card in cards for name in card["sortable"]}
    write_page(
        output,
        TEMPLATE,
        cards=cards,
        sortable=[(name, label.full()) for name, label in LABELS.items() if name in known],
        counts={verdict: sum(entry["verdict"] == verdict for entry in entries) for verdict in VERDICTS},
        run=run,
        memory={
            "folder": run,
            "key": f"{run} {decided}",
            "columns": columns,
            "rows": [[row.get(name, "") for name in columns] for row in decisions],
        },
    )


def _card(entry: Mapping[str, Any], budget: int) -> dict[str, Any]:
    channels: Mapping[str, Measures] = entry["channels"]
    first = entry["whole"] | next(iter(channels.values()), {})
    columns = [entry["whole"] | measures for measures in channels.values()]
    return {
        "movie": entry["movie"],
        "verdict": entry["verdict"],
        "reason": entry["reason"],
        "warnings": entry["warnings"],
        "reading": _reading(entry.get("reading", {})),
        "geometry": _geometry(entry.get("geometry", {}), len(channels)),
        "judged": entry["judged"],
        "panels": entry["panels"],
        "panels_on_card": entry["panels"][:PANELS_ON_CARD],
        "channels": list(channels),
        "picture": f"previews/{entry['movie']}.png",
        "thumbnail": thumbnail(entry["picture"], len(entry["panels"]), budget) if entry["panels"] else "",
        "sortable": {name: value for name, value in first.items() if _is_number(value)},
        "short": [
            (label.short, _with_unit(first.get(name), label)) for name, label in LABELS.items() if label.short
        ]
        if channels
        else [],
        "table": [
            (label.full(), [_text(column.get(name), label) for column in columns])
            for name, label in LABELS.items()
            if any(_is_number(column.get(name)) for column in columns)
        ],
    }


def _reading(reading: Mapping[str, str]) -> str:
    """Files, their order and the clock in one line; empty where nothing was read."""
    if not reading:
        return ""
    first, last = reading["first"], reading["last"]
    files = reading["files"] + (f" file, {first}" if first == last else f" files, {first} to {last}")
    unused = f"; {reading['unused']} others not used" if "unused" in reading else ""
    position = f"; position {reading['position']}" if "position" in reading else ""
    return f"{files}{unused}{position}; order: {reading['order']}; clock: {reading['clock']}"


def _geometry(facts: Mapping[str, str], channels: int) -> list[str]:
    """Declared and measured shift of each channel that has one, with its name if there are several."""
    return [f"{channel}: {fact}" if channels > 1 else fact for channel, fact in facts.items()]


def _is_number(value: float | None) -> TypeGuard[float]:
    """JSON, by which the page sorts, knows no NaN."""
    return value is not None and math.isfinite(value)


def _with_unit(value: float | None, label: Label) -> str:
    text = _text(value, label)
    return f"{text} {label.unit}" if label.unit and _is_number(value) else text


def _text(value: float | None, label: Label) -> str:
    """Three significant digits, no more than three decimals, in the unit of the label."""
    if not _is_number(value):
        return "–"
    shown = 100 * value if label.unit == "%" else value
    decimals = 0 if shown == 0 else max(0, min(3, 2 - math.floor(math.log10(abs(shown)))))
    if label.powers:
        return f"{shown:.3g}".replace("-", "−")
    text = f"{shown:.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def thumbnail(picture: Path | str, columns: int, budget: int) -> str:
    """The first two columns of a preview as a data URI of at most ``budget`` characters, or as small as is
    of use.

    JPEG: noise, which fills these pictures, takes a quarter of the room it takes in PNG.
    """
    uri = ""
    with Image.open(picture) as image:
        width = (image.width + GAP_PIXELS) // columns - GAP_PIXELS
        shown = min(columns, PANELS_ON_CARD)
        panels = image.convert("L").crop((0, 0, shown * (width + GAP_PIXELS) - GAP_PIXELS, image.height))
    for largest in THUMBNAIL_WIDTHS:
        small = panels.copy()
        small.thumbnail((largest, largest))
        packed = io.BytesIO()
        small.save(packed, format="jpeg", quality=JPEG_QUALITY, optimize=True)
        uri = "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
        if len(uri) <= budget:
            break
    return uri
