"""The report of a movie as a reader gets it: whole, well-formed, self-contained, for odd movies too."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import read_json, write_json
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.report.facts import flatten, warnings
from spatialdino_core.report.gallery import _lines
from spatialdino_core.report.movie import report_movie
from spatialdino_core.report.projections import outlines, project
from spatialdino_core.report.results import open_results
from spatialdino_core.report.timings import timings

Make = Callable[..., tuple[MovieRecord, Path]]
PICTURE = "data:image/png;base64,"


def preview(record: MovieRecord, root: Path) -> Path:
    return root / "previews" / f"{record.movie}.json"


def report(record: MovieRecord, root: Path) -> ET.Element:
    page = root / record.movie / "report.html"
    report_movie(record, preview(record, root), root / "benchmarks", page)
    return ET.fromstring(page.read_text(encoding="utf-8"))


def captions(page: ET.Element) -> list[str]:
    return ["".join(caption.itertext()).split(".")[0] for caption in page.iter("figcaption")]


def words(page: ET.Element) -> str:
    return " ".join(" ".join(page.itertext()).split())


def test_an_ordinary_movie_has_all_parts(results_folder: Make) -> None:
    record, root = results_folder()
    page = report(record, root)
    assert captions(page) == [
        "Frame 0 (0 s)",
        "Frame 4 (8 s)",
        "Frame 7 (14 s)",
        "Closer look, frame 4 (8 s)",
        "Tracks over time",
        "Features, frame 4 (8 s)",
        "Particles per frame",
        "Intensity over time",
        "Signal-to-noise ratio",
        "Candidate events",
        "Track length",
        "Step displacement",
        "Mean squared displacement",
        "Link confidence",
    ]
    headings = [heading.text for heading in page.iter("h2")]
    assert headings == [
        *("Particles", "Tracks", "Features", "Particles in numbers", "Tracks in numbers"),
        *("Facts", "Time taken"),
    ]
    text = words(page)
    assert "8 frames, 6 particles per frame, 6 tracks with a median length of 8 frames." in text
    assert "pixel size (µm) 0.12 (sample sheet)" in text
    assert "0.3 × 0.1 × 0.12 µm" in text
    assert "up to 8 before and 8 after it; on its own, with an expected F1 score of 0.62" in text
    assert "expected precision 94% of the detections are real" in text
    assert "expected recall 88% of the visible particles are found" in text
    assert "expected F1 score 0.91 (1 is best)" in text
    assert "least confidence of a detection 46%" in text
    assert "calibration · covariance 1 values" in text
    assert "weights 0123456789abcdef intensity bounds (counts) 100, 400" in text
    assert "separation of foreground and background 3.2" in text
    assert "foreground · separation 3.2" in text
    assert "deskew 1 min 15 s – 512 MB – – – – – –" in text
    assert "features 1 h 7 min" in text
    assert "track 0.5 s –" in text
    assert "pretrain" not in text


def test_single_frames_and_noise_are_named_as_such(results_folder: Make) -> None:
    text = words(report(*results_folder(reach=0, expected_f1=0.0)))
    assert "frames that help to detect in a frame only itself, with an expected F1 score of 0.62" in text
    assert "no particles told from noise when calibrating" in text
    assert "Particles hardly stand out from noise (expected F1 score 0.00)" in text
    assert "expected precision" not in text.split("as the stages noted them")[0]


def test_pictures_are_inside_the_page_with_words_for_who_cannot_see_them(results_folder: Make) -> None:
    page = report(*results_folder())
    pictures = list(page.iter("img"))
    assert len(pictures) == 14
    for picture in pictures:
        assert len(picture.attrib["alt"]) > 20
        assert picture.attrib["src"].startswith(PICTURE)
        content = base64.b64decode(picture.attrib["src"][len(PICTURE) :])
        image = Image.open(io.BytesIO(content)).convert("RGBA")
        assert min(image.size) > 100
        drawn = np.ascontiguousarray(image).view(np.uint32)
        assert len(np.unique(drawn)) > 20, picture.attrib["alt"]
    links = [element.attrib["href"] for element in page.iter("a")]
    assert links == ["../summary.html"]
    assert not list(page.iter("link"))
    assert not list(page.iter("script"))


def test_the_same_results_give_the_same_bytes(results_folder: Make) -> None:
    record, root = results_folder(frames=3)
    report(record, root)
    first = (root / record.movie / "report.html").read_bytes()
    report(record, root)
    assert (root / record.movie / "report.html").read_bytes() == first


def test_pictures_are_named_by_the_time_of_their_frames(results_folder: Make) -> None:
    record, root = results_folder(frames=6, times_s=(0.0, 2.0, 4.0, 64.0, 66.0, 68.0))
    page = report(record, root)
    assert "Frame 3 (64 s)" in captions(page)


def test_a_single_frame_needs_no_time(results_folder: Make) -> None:
    record, root = results_folder(frames=1, interval_s=None, particles=3)
    page = report(record, root)
    assert captions(page) == ["Frame 0", "Closer look, frame 0", "Features, frame 0", "Signal-to-noise ratio"]
    text = words(page)
    assert "1 frame, 3 particles per frame." in text
    assert "A single frame: there is nothing to track" in text
    assert "There is no track to measure." in text
    assert "tracks over the last" not in text


def test_a_movie_without_particles_says_so(results_folder: Make) -> None:
    record, root = results_folder(particles=0, separation=1.25)
    page = report(record, root)
    assert captions(page) == [
        *("Frame 0 (0 s)", "Frame 4 (8 s)", "Frame 7 (14 s)", "Features, frame 4 (8 s)"),
        "Particles per frame",
    ]
    text = words(page)
    assert "8 frames, no particle found." in text
    assert "not bimodal (separation 1.25, below 2)" in text
    assert "There is no track of two or more positions." in text


def test_skipped_frames_are_shown_with_their_reason(results_folder: Make) -> None:
    record, root = results_folder(skipped={0: "plane 3 is <empty>", 5: "truncated"})
    page = report(record, root)
    text = words(page)
    assert "2 frames left out (0, 5)" in text
    assert "frame 0 left out plane 3 is <empty>" in text
    assert "frames 6 of 8" in text
    assert captions(page)[:3] == ["Frame 1 (2 s)", "Frame 4 (8 s)", "Frame 7 (14 s)"]


def test_further_channels_and_full_features_are_shown(results_folder: Make) -> None:
    record, root = results_folder(channels=("488nm", "560nm"), keep="all", frames=2)
    shown = captions(report(record, root))
    assert "Channel 560nm, frame 1 (2 s)" in shown
    assert "Features, frame 1 (2 s)" in shown


def test_a_movie_without_features_says_why(results_folder: Make) -> None:
    record, root = results_folder(frames=2)
    path = next(root.rglob("features.json"))
    about = {"unused": "detection is expected to reach an F1 score of 0.991 without them"}
    replace(StageRecord.read(path), stores=[], about=about).write(path)
    page = report(record, root)
    assert not any(caption.startswith("Features") for caption in captions(page))
    assert "Not computed: detection is expected to reach an F1 score of 0.991" in words(page)
    assert "features left out: detection is expected" in words(page)


def test_a_single_plane_is_measured_in_two_dimensions(results_folder: Make) -> None:
    record, root = results_folder(shape=(1, 80, 90), frames=12)
    text = words(report(record, root))
    assert "Fit of 4 D t + offset" in text


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"bleaching": 0.8}, "bleaching"),
        ({"separation": 1.99}, "not bimodal"),
        ({"separation": 2.0}, None),
        ({"diffusion_um2_per_s": 0.15, "shape": (20, 60, 60), "particles": 20}, "many links are ambiguous"),
        ({}, None),
    ],
)
def test_warnings_come_when_they_should(
    results_folder: Make, change: dict[str, float], warning: str | None
) -> None:
    record, root = results_folder(**change)
    found = warnings(open_results(record, root / record.movie, preview(record, root)))
    assert [warning in line for line in found] == [True] if warning else found == []


def test_what_preview_and_deskewing_found_odd_is_told(results_folder: Make) -> None:
    record, root = results_folder(
        frames=2, looked_at=["multiples of 16"], noted=["frame 4: no signal (dark)"]
    )
    shown = words(report(record, root))
    assert "multiples of 16" in shown
    assert "frame 4: no signal (dark)" in shown.split("Facts")[0]


def test_unlinked_and_doubtful_tracks_are_warned_of(results_folder: Make) -> None:
    record, root = results_folder()
    path = root / record.movie / "tracks.csv"
    tracks = pd.read_csv(path)
    tracks.assign(link_confidence=0.3).to_csv(path, index=False)
    assert "100% of the links" in warnings(open_results(record, path.parent, preview(record, root)))[0]
    tracks.assign(track_id=range(len(tracks))).to_csv(path, index=False)
    assert "No particle was linked" in warnings(open_results(record, path.parent, preview(record, root)))[0]
    assert "Step displacement" not in captions(report(record, root))


def test_what_is_missing_is_named(results_folder: Make) -> None:
    record, root = results_folder(frames=2)
    folder = root / record.movie
    tracks = pd.read_csv(folder / "tracks.csv")
    tracks.drop(columns="gap").to_csv(folder / "tracks.csv", index=False)
    with pytest.raises(BadInputError, match=r"tracks\.csv.*also gap"):
        open_results(record, folder, preview(record, root))
    (folder / "tracks.csv").unlink()
    with pytest.raises(BadInputError, match=r"tracks\.csv.*no such file"):
        open_results(record, folder, preview(record, root))
    content = read_json(folder / "labels.json")
    write_json(folder / "labels.json", content | {"checksums": {}})
    with pytest.raises(BadInputError, match="no finished frame"):
        open_results(record, folder, preview(record, root))


def test_a_failed_report_leaves_the_old_one(results_folder: Make) -> None:
    record, root = results_folder(frames=2)
    report(record, root)
    page = root / record.movie / "report.html"
    before = page.read_bytes()
    (page.parent / "events.csv").unlink()
    with pytest.raises(BadInputError):
        report_movie(record, preview(record, root), root / "benchmarks", page)
    assert page.read_bytes() == before


def test_nested_facts_become_lines() -> None:
    content = {
        "a": {"b": 1.23456789, "c": {"d": None}},
        "e": True,
        "f": list(range(40)),
        "g": [1, 2.5],
        "h": {},
    }
    found = {fact.name: fact.value for fact in flatten(content)}
    assert found == {
        "a · b": "1.235",
        "a · c · d": "–",
        "e": "yes",
        "f": "40 values",
        "g": "1, 2.5",
        "h": "–",
    }


def test_timings_are_of_the_last_run_and_in_order(tmp_path: Path) -> None:
    for name, lines in {
        "track/m.tsv": "s\tmax_rss\n3.5\t10\n8.25\t20\n",
        "deskew/m.tsv": "s\tmax_rss\n33\t-\n",
        "track/other.tsv": "s\tmax_rss\n99\t1\n",
        "repair.tsv": "s\tmax_rss\n16.5\t7.5\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(lines)
    found = timings(tmp_path, "m", tmp_path / "m")
    assert [(t.stage, t.seconds, t.memory_mb, t.shared) for t in found] == [
        ("deskew", 33.0, None, False),
        ("track", 8.25, 20.0, False),
        ("repair", 16.5, 7.5, True),
    ]
    assert [t.share for t in found] == pytest.approx([1.0, 0.25, 0.5])
    assert timings(tmp_path / "absent", "m", tmp_path) == []


def test_timings_of_a_movie_in_parts_are_those_of_all_its_jobs(tmp_path: Path) -> None:
    (tmp_path / "deskew").mkdir()
    for name, seconds, memory in (
        ("m", 2.0, 50.0),
        ("m.0-25", 30.0, 90.0),
        ("m.25-50", 40.0, 80.0),
        ("n", 9.0, 99.0),
    ):
        table = pd.DataFrame({"s": [seconds], "max_rss": [memory]})
        table.to_csv(tmp_path / "deskew" / f"{name}.tsv", sep="\t", index=False)
    (found,) = timings(tmp_path, "m", tmp_path / "m")
    assert (found.seconds, found.memory_mb) == (72.0, 90.0)


def test_candidates_that_no_track_holds_are_not_shown_as_particles(results_folder: Make) -> None:
    """One in every frame, one in the middle frame only as the guess across a gap."""
    record, root = results_folder()
    path = root / record.movie / "tracks.csv"
    table = pd.read_csv(path)
    table = table[table["label"] != 6]
    gap = (table["label"] == 5) & (table["frame"] == 4)
    table.loc[gap, ["label", "gap"]] = 0, 1
    table.to_csv(path, index=False)
    results = open_results(record, root / record.movie, preview(record, root))
    assert results.candidates == 8 + 1
    assert results.objects_per_frame().tolist() == [5, 5, 5, 5, 4, 5, 5, 5]
    text = words(report(record, root))
    assert "8 frames, 4.88 particles per frame, 5 tracks" in text
    assert "detections in tracks 39 candidates in no track 9" in text
    assert "Blue: outlines of 4 particles." in text
    (borders, _) = _lines(results, 4)
    every = project(results.labels, 4)
    shown = np.where(np.isin(every.xy, [1, 2, 3, 4]), every.xy, 0)
    assert 0 < len(borders.xy) == len(outlines(shown, (1, 1)))
    assert len(borders.xy) < len(outlines(every.xy, (1, 1)))


def test_replaced_pixels_and_filled_borders_are_told(results_folder: Make) -> None:
    record, root = results_folder(frames=2, channels=("488nm", "560nm"))
    path = root / record.movie / "deskewed.json"
    content = read_json(path)
    content["about"]["bad_pixels"] = {"488nm": 12, "560nm": 0}
    content["about"]["no_data"] = {"values": {"488nm": None, "560nm": 0}}
    write_json(path, content)
    found = warnings(open_results(record, path.parent, root / "previews" / f"{record.movie}.json"))
    assert [line for line in found if "pixel" in line] == [
        "Channel 488nm: 12 hot or bad pixels of the camera replaced."
    ]
    assert [line.split(":")[0] for line in found if "filled borders with 0" in line] == ["Channel 560nm"]
