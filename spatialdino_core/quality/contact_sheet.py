"""The contact sheet: first frames of all movies on one page, with verdicts and measures.

It shows and explains; decisions are made in ``qc/decisions.tsv``.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from spatialdino_core.files import write_text

TEMPLATES = Path(__file__).with_name("templates")
VERDICTS = ("accept", "reject", "problem")
THUMBNAIL_PIXELS = 400
JPEG_QUALITY = 82  # a sheet of 300 movies stays near 10 MB


def draw_contact_sheet(entries: list[dict[str, Any]], output: Path) -> None:
    """Publish the contact sheet as one self-contained page.

    Parameters
    ----------
    entries
        One per movie, in the order of the sheet: ``movie``; ``verdict`` (accept, reject or problem);
        ``reason``; ``measures``, names to numbers; ``picture``, path of a maximum projection (PNG).
    output
        Page to publish.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cards = [
        entry | {"thumbnail": thumbnail(entry["picture"]), "sortable": _finite(entry["measures"])}
        for entry in entries
    ]
    measures = list(dict.fromkeys(name for entry in entries for name in entry["measures"]))
    counts = {verdict: sum(entry["verdict"] == verdict for entry in entries) for verdict in VERDICTS}
    template = environment.get_template("contact_sheet.html")
    write_text(output, template.render(cards=cards, measures=measures, counts=counts))


def _finite(measures: Mapping[str, float]) -> dict[str, float]:
    """JSON, by which the page sorts, knows no NaN."""
    return {name: float(value) for name, value in measures.items() if math.isfinite(value)}


def thumbnail(picture: Path | str) -> str:
    """A picture, at most 400 pixels wide or high, as a data URI.

    JPEG: noise, which fills these pictures, takes a quarter of the room it takes in PNG.
    """
    packed = io.BytesIO()
    with Image.open(picture) as image:
        small = image.convert("L")
        small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        small.save(packed, format="jpeg", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
