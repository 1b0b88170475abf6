"""The contact sheet: every movie with picture, verdict, reason and measures; safe text; sortable data."""

from __future__ import annotations

import base64
import io
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave
from PIL import Image

from spatialdino_core.quality.contact_sheet import THUMBNAIL_PIXELS, draw_contact_sheet


@pytest.fixture
def page(tmp_path: Path) -> ET.Element:
    noise = np.random.default_rng(0).integers(0, 255, (300, 900)).astype(np.uint8)
    imsave(tmp_path / "a.png", noise, cmap="gray")
    imsave(tmp_path / "b.png", np.zeros((64, 64)), cmap="gray")
    entries = [
        {
            "movie": "good",
            "verdict": "accept",
            "reason": "",
            "measures": {"snr": 4.25, "focus": math.nan},
            "picture": str(tmp_path / "a.png"),
        },
        {
            "movie": "bad",
            "verdict": "problem",
            "reason": "a.tif: found <0 bytes> & \"nothing\"; expected 'planes'",
            "measures": {},
            "picture": str(tmp_path / "b.png"),
        },
    ]
    draw_contact_sheet(entries, tmp_path / "sheet.html")
    return ET.fromstring((tmp_path / "sheet.html").read_text(encoding="utf-8"))


def test_every_movie_is_there_with_its_verdict_and_reason(page: ET.Element) -> None:
    cards = list(page.iter("li"))
    assert [card.find("div/h2").text for card in cards] == ["good", "bad"]  # type: ignore[union-attr]
    assert [card.attrib["data-verdict"] for card in cards] == ["accept", "problem"]
    assert "found <0 bytes> & \"nothing\"; expected 'planes'" in "".join(cards[1].itertext())
    assert "4.25" in "".join(cards[0].itertext())
    text = " ".join("".join(page.itertext()).split())
    assert "1 accepted, 0 rejected, 1 with a problem" in text
    assert "qc/decisions.tsv" in text


def test_pictures_are_small_and_inside(page: ET.Element) -> None:
    sizes = []
    for picture in page.iter("img"):
        kind, content = picture.attrib["src"].split(",", 1)
        assert kind == "data:image/jpeg;base64"
        sizes.append(Image.open(io.BytesIO(base64.b64decode(content))).size)
    assert sizes == [(THUMBNAIL_PIXELS, round(THUMBNAIL_PIXELS / 3)), (64, 64)]
    assert not [e for e in page.iter() if e.tag in ("link", "iframe") or "http" in e.attrib.get("src", "")]


def test_the_page_can_sort_what_is_a_number(page: ET.Element) -> None:
    cards = list(page.iter("li"))
    assert [json.loads(card.attrib["data-measures"]) for card in cards] == [{"snr": 4.25}, {}]
    assert [option.attrib["value"] for option in page.iter("option")] == ["", "verdict", "snr", "focus"]
    script = "".join(page.find("body/script").itertext())  # type: ignore[union-attr]
    assert "addEventListener" in script
