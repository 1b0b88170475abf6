"""The contact sheet as a file: every movie with picture, verdict, reason and measures; safe text; small.

What it does in a browser is tested in ``tests/browser``.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spatialdino_core.quality.contact_sheet import LABELS, PICTURE_BYTES, draw_contact_sheet, thumbnail

HOSTILE = "</script><script>alert(1)</script> <b>\"bold\" & 'sly'"


def entry(folder: Path, movie: str, **changes: Any) -> dict[str, Any]:
    noise = np.random.default_rng(0).integers(0, 255, (200, 3 * 400 + 12)).astype(np.uint8)
    path = folder / f"{movie}.png"
    Image.fromarray(noise).save(path)
    measures = {"snr": 4.256, "signal_change": -0.1234, "half_life_s": None, "motion_um": 0.00568}
    return {
        "movie": movie,
        "verdict": "accept",
        "reason": "",
        "warnings": [],
        "judged": "1f",
        "whole": {"frames": 9, "missing_frames": 0},
        "channels": {"488nm": measures},
        "panels": ["frame 0", "frame 8", "middle plane of frame 0"],
        "picture": path,
    } | changes


def draw(folder: Path, entries: list[dict[str, Any]], decisions: list[dict[str, str]]) -> str:
    draw_contact_sheet(entries, decisions, folder / "sheet.html", run="/data/qc", decided="77")
    return (folder / "sheet.html").read_text(encoding="utf-8")


def cards(page: str) -> list[str]:
    return page.split('<li class="card"')[1:]


def attribute(card: str, name: str) -> str:
    found = re.search(f'{name}="([^"]*)"', card)
    assert found
    return html.unescape(found[1])


def test_warnings_stand_on_the_card_as_text(tmp_path: Path) -> None:
    odd = ["all counts are multiples of 16", HOSTILE]
    quiet, loud = cards(draw(tmp_path, [entry(tmp_path, "a"), entry(tmp_path, "b", warnings=odd)], []))
    assert "warnings" not in quiet
    assert [html.unescape(line) for line in re.findall("<li>(.*?)</li>", loud)] == odd


def test_every_movie_has_its_verdict_reason_and_measures(tmp_path: Path) -> None:
    bad = {"verdict": "problem", "reason": HOSTILE, "channels": {}, "whole": {}, "panels": []}
    page = draw(tmp_path, [entry(tmp_path, "good"), entry(tmp_path, "bad", **bad)], [])
    good, poor = cards(page)
    assert (attribute(good, "data-movie"), attribute(good, "data-verdict")) == ("good", "accept")
    assert "4.26" in good
    assert "−12.3 %" in good
    assert "0.006 µm" in good
    measures = json.loads(attribute(good, "data-measures"))
    assert measures == {
        "frames": 9,
        "missing_frames": 0,
        "snr": 4.256,
        "signal_change": -0.1234,
        "motion_um": 0.00568,
    }
    assert html.escape(HOSTILE, quote=False).replace('"', "&#34;").replace("'", "&#39;") in poor
    assert "no picture" in poor
    assert HOSTILE not in page


def test_what_was_read_stands_on_the_card(tmp_path: Path) -> None:
    read = {"files": "12", "order": "the number after 't'", "first": "t1/img.tif", "last": "t12/img.tif"}
    read |= {"clock": "sample sheet", "position": "A/1", "unused": "3"}
    nothing, some = cards(draw(tmp_path, [entry(tmp_path, "a"), entry(tmp_path, "b", reading=read)], []))
    assert "12 files, t1/img.tif to t12/img.tif; 3 others not used; position A/1; order: the number" in some
    assert "order:" not in nothing


def test_decisions_are_carried_whole(tmp_path: Path) -> None:
    rows = [
        {"movie": "gone", "decision": "reject", "who": "Kim", "when": "", "why": HOSTILE, "notes": "x"},
        {"movie": "good", "decision": "auto", "who": "", "when": "", "why": "", "notes": ""},
    ]
    page = draw(tmp_path, [entry(tmp_path, "good")], rows)
    found = re.search(r'<script type="application/json" id="memory">(.*?)</script>', page, re.DOTALL)
    assert found
    memory = json.loads(found[1])
    assert [dict(zip(memory["columns"], row, strict=True)) for row in memory["rows"]] == rows
    assert "77" in memory["key"]


def test_all_channels_are_in_the_table(tmp_path: Path) -> None:
    two = {"488nm": {"snr": 7.0}, "560nm": {"snr": 3.5, "focus": 0.25}}
    (card,) = cards(draw(tmp_path, [entry(tmp_path, "m", channels=two)], []))
    row = re.search(r'<th scope="row">SNR</th>(.*?)</tr>', card)
    assert row
    assert re.findall("<td>(.*?)</td>", row[1]) == ["7", "3.5"]
    assert attribute(card, "data-channels") == "488nm, 560nm"


def test_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    page = draw(tmp_path, [entry(tmp_path, "m")], [])
    assert not re.search(r"https?://|<link|<iframe|@import|url\(", page)


@pytest.mark.parametrize("budget", [200_000, 40_000, 20_000])
def test_a_thumbnail_shows_two_panels_within_its_budget(tmp_path: Path, budget: int) -> None:
    """The third panel is white, and must not be seen."""
    panels = np.random.default_rng(0).integers(0, 120, (200, 3 * 400 + 12)).astype(np.uint8)
    panels[:, 2 * 406 :] = 255
    Image.fromarray(panels).save(tmp_path / "p.png")
    uri = thumbnail(tmp_path / "p.png", 3, budget)
    assert len(uri) <= budget
    kind, content = uri.split(",", 1)
    assert kind == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.width / image.height == pytest.approx(806 / 200, rel=0.05)
    assert np.asarray(image).max() < 200


def test_three_hundred_movies_stay_light(tmp_path: Path) -> None:
    one = entry(tmp_path, "m")
    full = dict.fromkeys(LABELS, 123.456)
    two = {"488nm": full, "560nm": full}
    page = draw(tmp_path, [one | {"movie": f"movie_{n}", "channels": two} for n in range(300)], [])
    assert len(cards(page)) == 300
    assert len(page.encode()) < PICTURE_BYTES + 3_000_000
