"""The summary of all movies: page and table agree, links lead to reports, reasons are told."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.report.movie import report_movie
from spatialdino_core.report.summary import HEADINGS, summarise

Make = Callable[..., tuple[MovieRecord, Path]]
STANDINGS = {
    "cell_1": ["accept", "", "automatic"],
    "blurred": ["reject", "focus 0.01 is below 0.03 & <dim>\n", "automatic"],
    "one": ["accept", "the only\tone", "anna"],
    "none": ["accept", "", "automatic"],
    "broken": ["problem", "frame 2 is truncated", "automatic"],
}


@pytest.fixture
def run(results_folder: Make) -> Path:
    """A results folder with three analysed movies and the summary of five."""
    _, root = results_folder(skipped={3: "empty"})
    record, _ = results_folder(movie="one", frames=1, interval_s=None)
    report_movie(record, root / "previews" / "one.json", root / "benchmarks", root / "one" / "report.html")
    results_folder(movie="none", particles=0, frames=2)
    (root / "repair.json").write_text(
        json.dumps({"diagnosed": True, "decision": "no singular defect", "before": [{"block": 0}]})
    )
    tracks = [root / movie / "tracks.csv" for movie in ("cell_1", "one", "none")]
    summarise(STANDINGS, tracks, root / "repair.json", root / "summary.html", root / "summary.tsv")
    return root


def test_the_table_has_every_movie_and_its_numbers(run: Path) -> None:
    table = pd.read_csv(run / "summary.tsv", sep="\t").set_index("movie")
    assert list(table.index) == list(STANDINGS)
    assert table.loc["blurred", "reason"] == "focus 0.01 is below 0.03 & <dim>"
    assert table.loc["one", "decided_by"] == "anna"
    numbers = table[list(HEADINGS)]
    assert numbers.loc["cell_1", ["frames", "skipped_frames", "particles_per_frame", "tracks"]].tolist() == [
        *(7, 1, 6, 6)
    ]
    tracks = pd.read_csv(run / "cell_1" / "tracks.csv")
    steps = tracks.groupby("track_id")[["frame", "z_um", "y_um", "x_um"]].diff().dropna()
    lengths = (steps.loc[steps["frame"] == 1, ["z_um", "y_um", "x_um"]] ** 2).sum(axis=1) ** 0.5
    assert numbers.loc["cell_1", "median_step_um"] == pytest.approx(lengths.median(), rel=1e-3)
    assert numbers.loc["cell_1", "median_snr"] == pytest.approx(tracks["snr"].median(), rel=1e-3)
    assert numbers.loc["cell_1", "median_track_length_frames"] == 8
    assert numbers.loc["none", ["particles_per_frame", "tracks"]].tolist() == [0, 0]
    assert numbers.loc["none", ["median_snr", "median_step_um"]].isna().all()
    assert numbers.loc[["blurred", "broken"]].isna().all(axis=None)


def test_the_page_shows_the_same_and_links_to_reports(run: Path) -> None:
    page = ET.fromstring((run / "summary.html").read_text(encoding="utf-8"))
    sections = {section.attrib["id"]: section for section in page.iter("section") if "id" in section.attrib}
    rows = list(sections["analysed"].iter("tr"))
    assert ["".join(cell.itertext()) for cell in rows[0]][2:] == list(HEADINGS.values())
    cells = {row[0][0].text: ["".join(cell.itertext()) for cell in row] for row in rows[1:]}
    assert list(cells) == ["cell_1", "one", "none"]
    table = pd.read_csv(run / "summary.tsv", sep="\t", dtype=str).set_index("movie")
    for movie, row in cells.items():
        assert row[2:] == table.loc[movie, list(HEADINGS)].fillna("–").tolist()
    links = {link.attrib["href"] for link in sections["analysed"].iter("a")}
    assert links == {"cell_1/report.html", "one/report.html", "none/report.html"}
    assert (run / "one/report.html").exists()
    left = " ".join("".join(sections["left-out"].itertext()).split())
    assert "focus 0.01 is below 0.03 & <dim>" in left
    assert "frame 2 is truncated" in left
    assert len(list(sections["pictures"].iter("img"))) == 3
    assert "no singular defect" in "".join(sections["model"].itertext())


def test_no_movie_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "repair.json").write_text("{}")
    summarise(
        {"a": ["reject", "dark", "automatic"]},
        [],
        tmp_path / "repair.json",
        tmp_path / "summary.html",
        tmp_path / "summary.tsv",
    )
    page = ET.fromstring((tmp_path / "summary.html").read_text(encoding="utf-8"))
    assert "0 analysed, 1 left out" in " ".join("".join(page.itertext()).split())
    assert len(pd.read_csv(tmp_path / "summary.tsv", sep="\t")) == 1


def test_candidates_in_no_track_do_not_count(run: Path) -> None:
    path = run / "cell_1" / "tracks.csv"
    tracks = pd.read_csv(path)
    kept = tracks[tracks["label"] <= 2]
    kept.to_csv(path, index=False)
    summarise({"cell_1": STANDINGS["one"]}, [path], None, run / "summary.html", run / "summary.tsv")
    numbers = pd.read_csv(run / "summary.tsv", sep="\t").iloc[0]
    assert numbers["particles_per_frame"] == 2
    assert numbers["median_snr"] == pytest.approx(kept["snr"].median(), rel=1e-3)
