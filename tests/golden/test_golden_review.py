"""Golden values of the review: verdicts at their limits, tables, decisions, numbers of the contact sheet."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from golden import Stage
from PIL import Image
from raw_inputs import counts, outcome

from spatialdino_core.files import write_json
from spatialdino_core.quality.contact_sheet import LABELS, draw_contact_sheet, thumbnail
from spatialdino_core.quality.decisions import (
    add_new_movies,
    human_decisions,
    read_decisions,
    read_table,
    standings,
    write_table,
)
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.quality.review import review_movies
from spatialdino_core.quality.verdict import judge, judge_movie

MODULES = ["contact_sheet", "decisions", "parameters", "review", "verdict"]
STAGE = Stage("review", [f"quality/{name}.py" for name in MODULES])
LIMITS = dict(
    frames=5, reject_p_value=0.05, look_p_value=0.001, max_saturated_fraction=0.001, max_empty_planes=2,
    max_repeated_planes=3, max_repeated_frames=1, max_missing_fraction=0.25, min_focus=0.3,
    max_signal_loss=0.9, min_half_life_s=60.0, max_motion_um=1.0, max_drift_um=2.0,
)  # fmt: skip
PARAMETERS = QualityParameters(**LIMITS)
AT_LIMITS: dict[str, list[float]] = {
    "missing_fraction": [0.2499, 0.25, 0.2501],
    "noise_p_value": [0.0009, 0.001, 0.0011, 0.05, 0.0501],
    "saturated_fraction": [0.00099, 0.001, 0.00101],
    "empty_planes": [1, 2, 3],
    "repeated_planes": [2, 3, 4],
    "repeated_frames": [0, 1, 2],
    "focus": [0.299, 0.3, 0.301],
    "signal_change": [-0.899, -0.9, -0.901, 5.0],
    "half_life_s": [59.9, 60.0, 60.1],
    "motion_um": [0.999, 1.0, 1.001],
    "drift_um": [1.999, 2.0, 2.001],
    "noise": [0.0, 1e9],
}
GOOD: dict[str, Any] = {name: values[1] for name, values in AT_LIMITS.items() if name != "noise"}
BAD: dict[str, Any] = {
    "noise_p_value": 0.1234567, "mirrored_p_value": 1e-9, "focus": 0.1, "signal_change": -0.95,
    "half_life_s": 12.3456, "motion_um": 3.0,
    "drift_um": None, "saturated_fraction": 0.0123456, "empty_planes": 7, "background": 101.23456789,
}  # fmt: skip


@STAGE.scene
def verdicts(folder: Path) -> dict[str, Any]:
    """Each measure on both sides of its limit; channels together; limits that are off."""

    def decided(measures: dict[str, float | None], parameters: QualityParameters = PARAMETERS) -> list[Any]:
        verdict = judge(measures, parameters)
        return [verdict.word, len(verdict.reasons)]

    off = QualityParameters(**(LIMITS | dict(max_motion_um=None, max_drift_um=None)))
    whole = judge_movie(
        {"missing_fraction": 0.3}, {"a": {"noise_p_value": 0.01}, "b": GOOD, "c": BAD}, PARAMETERS
    )
    return {
        "at limits": {
            name: [decided({name: value}) for value in values] for name, values in AT_LIMITS.items()
        },
        "unknown": decided(dict.fromkeys(AT_LIMITS)),
        "nothing": decided({}),
        "all": [decided(GOOD), decided(BAD), decided(BAD, off)],
        "movie": [whole.word, len(whole.reasons)],
        "good movie": judge_movie({}, {"a": GOOD}, PARAMETERS),
    }


@STAGE.scene
def decisions_of_people(folder: Path) -> dict[str, Any]:
    """What a hand-made table says, how new movies join it, and who has the last word."""
    path = folder / "decisions.tsv"
    header = "movie\tdecision\twho\twhen\twhy"
    texts = {
        "good": f"{header}\na\taccept\tme\tnow\tfine\nb\treject\tyou\t\t\nc\tauto\t\t\t\n",
        "without an end": f"{header}\na\tReject \tme\tnow\tblurred",
        "short rows": f"{header}\na\treject\nb\taccept\tme\n",
        "other columns": "decision\tnote\tmovie\nreject\tx\t a \n",
        "quoted": f'{header}\na\treject\tme\t\t"so, ""so"""\n',
        "with a mark": f"\ufeff{header}\na\taccept\t\t\t\n",
        "of several rows the last": f"{header}\na\taccept\tme\t\t\na\treject\tyou\t\tlast\nd\taccept\t\t\t\n",
        "long": f"{header}\na\taccept\tme\tnow\tfine\tmore\n",
        "unknown": f"{header}\na\tmaybe\t\t\t\n",
        "no movie": f"{header}\n\taccept\t\t\t\n",
        "no decision": "movie\twho\na\tme\n",
        "empty": "",
        "odd quote": f'{header}\na\taccept\tme\t\t"x" y\n',
    }
    automatic = [
        ("a", "accept", ""),
        ("b", "accept", "r"),
        ("c", "reject", "dim"),
        ("d", "problem", "no file"),
    ]
    rows = [{"movie": m, "verdict": v, "reason": r, "judged": f"of {m}"} for m, v, r in automatic]
    write_table(folder / "metrics.tsv", ["movie", "verdict", "reason", "judged"], rows)

    def stand() -> dict[str, Any]:
        given = {"", "r", "dim", "no file", "fine", "blurred", "last", 'so, "so"', "x"}
        found = {}
        for movie, s in standings(folder).items():
            reason = s.reason if s.reason in given else "in words of ours"
            by = s.decided_by if s.decided_by in ("me", "you", "automatic") else "a table"
            found[movie] = [s.verdict, s.judged, reason, by, s.decided_when]
        return found

    found: dict[str, Any] = {"no file": [read_decisions(path), read_table(path), stand()]}
    digests = {}
    for name, text in texts.items():
        path.write_text(text, encoding="utf-8")
        found[name] = [outcome(read_decisions, path), outcome(stand)]
        digests[name] = outcome(human_decisions, path)
        added = outcome(add_new_movies, path, ["a", "z", "b"])
        found[f"{name} with new ones"] = "refused" if added else path.read_text(encoding="utf-8")
        found[f"{name} says the same"] = digests[name] == outcome(human_decisions, path)
    path.write_bytes(header.encode() + b"\n\xff\tauto\t\t\t\n")
    found["not UTF-8"] = outcome(read_decisions, path)
    path.unlink()
    add_new_movies(path, ["a", "b"])
    found["new"] = path.read_text()
    add_new_movies(path, ["b"])
    found["nothing new"] = path.read_text()
    found["distinct"] = len(set(digests.values()))
    table = [{"a": " x \t y\n", "b": 1.5}, {"b": None, "c": 3}]
    write_table(folder / "t.tsv", ["a", "b", "d"], table)
    found["table"] = [(folder / "t.tsv").read_text(), read_table(folder / "t.tsv")]
    return found


def page_numbers(page: str) -> dict[str, Any]:
    """What a contact sheet says in numbers: not its words."""
    page = page.replace("−", "-").replace("–", "")
    cards = re.findall(r'data-verdict="(.*?)".*?data-measures="(.*?)"', page)
    return {
        "cells": re.findall(r"<td>(.*?)</td>", page),
        "on cards": re.findall(r"<dd>([-\d.]*)", page),
        "warnings": len(re.findall(r"<li>", page)),
        "counts": re.findall(r'data-count="\w+">(\d+)<', page),
        "verdicts": [verdict for verdict, _ in cards],
        "sortable": [json.loads(measures.replace("&#34;", '"')) for _, measures in cards],
        "sorted by": len(re.findall(r'<option value="(\w+)">', page)),
        "pictures": len(re.findall("data:image/jpeg", page)),
        "panels": [
            len(json.loads(p.replace("&#34;", '"'))) for p in re.findall(r'data-panels="(.*?)"', page)
        ],
    }


@STAGE.scene
def sheets_of_movies(folder: Path) -> dict[str, Any]:
    """Numbers as the page writes them, and how much room pictures have."""
    values: Sequence[float | None] = [
        0,
        1,
        0.5,
        -0.25,
        12.345,
        123.456,
        1234.56,
        0.001234,
        -0.0004,
        99.95,
        None,
    ]
    values = [*values, float("nan"), float("inf"), 9.9996, 1e-5]
    entries = [
        {
            "movie": f"m{n}", "verdict": verdict, "reason": "why" * n, "judged": "d", "warnings": ["w"] * n,
            "whole": {"frames": 3 + n},
            "channels": {
                channel: {
                    name: values[(n + k + 3 * c) % len(values)] for k, name in enumerate(LABELS) if k > 8 * n
                }
                for c, channel in enumerate("ab"[: n + 1])
            },
            "panels": [], "picture": folder / "none.png",
        }
        for n, verdict in enumerate(["accept", "reject", "problem", "accept"])
    ]  # fmt: skip
    entries[3]["channels"] = {}
    rows = [{"movie": "m0", "decision": "accept", "note": "x"}]
    draw_contact_sheet(entries, rows, folder / "page.html", run="r", decided="d")
    draw_contact_sheet([], [], folder / "empty.html", run="r", decided="d")
    page = (folder / "page.html").read_text()
    memory = re.search(r'"columns": (\[.*?\]).*?"rows": (\[\[.*?\]\])', page)
    pictures = {}
    for name, shape in {"wide": (300, 1300), "tall": (900, 200), "small": (40, 100)}.items():
        noise = counts(len(name), shape, 0, 255).astype(np.uint8)
        noise[: shape[0] // 3, : shape[1] // 2] = 255
        Image.fromarray(noise).save(folder / f"{name}.png")
        for columns in (1, 2, 3):
            for budget in (10**7, 60_000, 10):
                uri = thumbnail(folder / f"{name}.png", columns, budget)
                pictures[f"{name} {columns} {budget}"] = image_size(uri)
    return {
        "page": page_numbers(page),
        "empty": page_numbers((folder / "empty.html").read_text()),
        "memory": [json.loads(part) for part in memory.groups()] if memory else None,
        "pictures": pictures,
    }


def image_size(uri: str) -> list[int]:
    import base64
    import io

    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    bright = np.asarray(image)[: image.height // 4, : image.width // 4].mean()
    return [*image.size, bool(bright > 200)]


@STAGE.scene
def reviews(folder: Path) -> dict[str, Any]:
    """Records and previews to tables; a second review with one more movie."""
    previews: dict[str, dict[str, Any]] = {
        "good": {
            "frames": 8,
            "missing_frames": 2,
            "channels": {"488nm": GOOD, "560nm": GOOD | {"snr": 9.87654321}},
        },
        "bad": {"frames": 7, "missing_frames": 2, "channels": {"488nm": GOOD, "560nm": BAD}},
        "skewed otherwise": {
            "frames": 2,
            "missing_frames": 0,
            "channels": {"488nm": GOOD | {"shift_y_pixels": 0.0, "shift_x_pixels": 2.51234}},
            "geometry": {"488nm": {"word": "contradiction", "fact": "declared, measured", "reason": "no"}},
        },
        "first bad": {"frames": 3, "missing_frames": 0, "channels": {"640nm": BAD}},
        "broken": {},
        "found broken": {"frames": 4, "missing_frames": 1, "channels": {"488nm": GOOD}},
    }
    problems = {"broken": "no\n file", "found broken": "a frame"}
    for name, preview in previews.items():
        content = {"movie": name, "state": f"of {name}", "problem": problems.get(name)}
        content |= {"warnings": [name], "reading": {}} | preview
        if preview:
            content["panels"] = ["first", "last", "middle"]
            Image.fromarray(counts(1, (30, 100), 0, 255).astype(np.uint8)).save(folder / f"{name}.png")
        write_json(folder / f"{name}.json", content)

    def review(names: Sequence[str]) -> dict[str, Any]:
        qc = folder / "qc"
        review_movies(
            [folder / f"{name}.json" for name in names],
            PARAMETERS,
            qc / "metrics.tsv",
            qc / "by_channel.tsv",
            qc / "sheet.html",
            version="1",
        )
        tables = {name: read_table(qc / f"{name}.tsv") for name in ("metrics", "by_channel", "decisions")}
        for row in tables["metrics"] + tables["by_channel"]:
            row["reason"] = str(len([part for part in row["reason"].split("; ") if part]))
        stands = {movie: [s.verdict, s.judged, s.decided_by] for movie, s in standings(qc).items()}
        return tables | {"page": page_numbers((qc / "sheet.html").read_text()), "standings": stands}

    first = review(list(previews)[:-1])
    decisions = folder / "qc" / "decisions.tsv"
    decisions.write_text(decisions.read_text().replace("bad\tauto", "bad\taccept", 1))
    return {"first": first, "with one more": review(list(previews))}


def test_results_of_the_review(tmp_path: Path, write_golden: bool) -> None:
    STAGE.check(tmp_path, write=write_golden)
