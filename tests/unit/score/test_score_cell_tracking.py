"""Measures of the Cell Tracking Challenge: formulas by hand, and the package's own reading of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.score.cell_tracking import MEASURES, challenge_tracks, score_cell_tracking

ctc = pytest.importorskip("ctc_metrics")
NO_DIVISIONS = pd.DataFrame({"track_id": [], "other_track_id": []})


def table(*tracks: tuple[int, list[int]]) -> pd.DataFrame:
    """Tracks with their frames; the label is the track's number."""
    rows = [(frame, track, track) for track, frames in tracks for frame in frames]
    return pd.DataFrame(rows, columns=["frame", "label", "track_id"])


def divisions(*pairs: tuple[int, int]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["track_id", "other_track_id"])


def movie(tracks: pd.DataFrame, frames: int, shift: int = 0) -> list[np.ndarray]:
    """Every label is a 2 x 2 x 4 block at a place of its own."""
    volumes = np.zeros((frames, 4, 4, 80), np.uint16)
    for row in tracks.itertuples():
        volumes[row.frame, 1:3, 1:3, 10 * row.label + shift :][..., :4] = row.label
    return list(volumes)


def score(found: pd.DataFrame, truth: pd.DataFrame, frames: int = 5, shift: int = 0) -> dict[str, float]:
    pairs = zip(movie(found, frames, shift), movie(truth, frames), strict=True)
    return vars(score_cell_tracking(pairs, found, truth, NO_DIVISIONS, NO_DIVISIONS))


TRUTH = table((1, [0, 1, 2, 3, 4]), (2, [0, 1, 2, 3, 4]), (3, [1, 2]))


def test_perfect() -> None:
    assert score(TRUTH, TRUTH) == pytest.approx(dict.fromkeys([name.lower() for name in MEASURES], 1.0))


def test_missing_instances_by_the_published_weights() -> None:
    # 12 vertices, 9 edges: two missed vertices cost 10 each, three missing edges 1.5 each.
    missed = TRUTH.query("not (track_id == 1 and frame == 2) and not (track_id == 3 and frame == 1)")
    found = score(missed, TRUTH)
    edges = 3
    assert found["det"] == pytest.approx(1 - 20 / 120)
    # Track 1 is found in two parts; the link over the gap is redundant (1).
    assert found["tra"] == pytest.approx(1 - (20 + 1.5 * edges + 1) / (120 + 1.5 * 9))
    assert found["lnk"] == pytest.approx(1 - (1.5 * edges + 1) / (1.5 * 9))


def test_spurious_instance_costs_a_tenth_of_a_missed_one() -> None:
    extra = pd.concat([TRUTH, table((5, [0]))])
    assert score(extra, TRUTH)["det"] == pytest.approx(1 - 1 / 120)


@pytest.mark.parametrize(("shift", "overlap"), [(1, 3 / 5), (2, 0), (3, 0)])
def test_more_than_half_of_an_instance_must_be_covered(shift: int, overlap: float) -> None:
    found = score(TRUTH, TRUTH, shift=shift)
    assert found["seg"] == pytest.approx(overlap)
    assert found["det"] == (1 if overlap else 0)


def test_labels_outside_tracks_are_ignored_and_numbers_of_tracks_do_not_matter() -> None:
    renamed = TRUTH.assign(track_id=TRUTH["track_id"] * 100)
    extra = pd.concat([TRUTH, table((5, [0]))])
    pairs = zip(movie(extra, 5), movie(TRUTH, 5), strict=True)
    assert score_cell_tracking(pairs, renamed, TRUTH, NO_DIVISIONS, NO_DIVISIONS).tra == 1


def test_an_instance_may_be_covered_by_a_much_larger_one() -> None:
    volumes = movie(TRUTH, 5)
    large = [
        np.repeat(volume.max(axis=(0, 1))[None, None], 4, axis=0).repeat(4, axis=1) for volume in volumes
    ]
    found = score_cell_tracking(zip(large, volumes, strict=True), TRUTH, TRUTH, NO_DIVISIONS, NO_DIVISIONS)
    assert (found.det, found.tra, found.seg) == (1, 1, pytest.approx(1 / 4))


def test_instance_outside_tracks_is_missed_even_where_it_fits() -> None:
    pairs = zip(movie(TRUTH, 5), movie(TRUTH, 5), strict=True)
    tracks = TRUTH.query("track_id != 3")
    found = score_cell_tracking(pairs, tracks, TRUTH, NO_DIVISIONS, NO_DIVISIONS)
    assert found.det == pytest.approx(1 - 2 / 12)


def test_particle_without_voxels_is_no_instance() -> None:
    hidden = pd.concat([TRUTH, table((4, [2, 3]))])
    pairs = zip(movie(TRUTH, 5), movie(TRUTH, 5), strict=True)
    assert score_cell_tracking(pairs, TRUTH, hidden, divisions((4, 1)), divisions((4, 1))).tra == 1


def test_gaps_and_divisions_end_a_track() -> None:
    tracks = table((7, [0, 1, 3, 4, 5]), (8, [4, 5]), (9, [2, 3]))
    positions, parts = challenge_tracks(tracks, divisions((8, 7)))
    # 7 in frames 0-1; after the gap in 3; after the division 4-5; the new half 4-5; 9 alone.
    assert parts.tolist() == [[1, 0, 1, 0], [2, 3, 3, 1], [3, 4, 5, 2], [4, 4, 5, 2], [5, 2, 3, 0]]
    assert positions["part"].tolist() == [1, 1, 2, 3, 3, 4, 4, 5, 5]


def test_division_from_a_track_that_is_not_there() -> None:
    assert challenge_tracks(table((2, [1, 2])), divisions((2, 1), (3, 2)))[1].tolist() == [[1, 1, 2, 0]]


def test_same_as_the_package_reads_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A movie with a division, a gap, a swap and spurious instances, written as the challenge wants it."""
    from ctc_metrics.scripts.evaluate import evaluate_sequence

    truth = table((1, [0, 1, 2, 3, 4]), (2, [2, 3, 4]), (3, [0, 1, 2, 3, 4]), (4, [0, 1, 3, 4]))
    found = table((1, [0, 1, 2, 3, 4]), (2, [2, 3, 4]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (6, [1, 2]))
    split = divisions((2, 1))
    for folder, tracks, name in [("gt/TRA", truth, "man_track"), ("res", found, "res_track")]:
        (tmp_path / folder).mkdir(parents=True)
        positions, parts = challenge_tracks(tracks, split)
        np.savetxt(tmp_path / folder / f"{name}.txt", parts, fmt="%d")
        for frame, volume in enumerate(movie(tracks, 5)):
            here = positions[positions["frame"] == frame]
            renamed = np.zeros_like(volume)
            for row in here.itertuples():
                renamed[volume == row.label] = row.part
            stem = name.replace("res_track", "mask")
            tifffile.imwrite(tmp_path / folder / f"{stem}{frame:03d}.tif", renamed, photometric="minisblack")
            if folder != "res":
                (tmp_path / "gt/SEG").mkdir(exist_ok=True)
                tifffile.imwrite(
                    tmp_path / "gt/SEG" / f"man_seg{frame:03d}.tif", renamed, photometric="minisblack"
                )
    expected = evaluate_sequence(str(tmp_path / "res"), str(tmp_path / "gt"), list(MEASURES), threads=1)
    pairs = zip(movie(found, 5), movie(truth, 5), strict=True)
    measured = vars(score_cell_tracking(pairs, found, truth, split, split))
    for name in MEASURES:
        assert measured[name.lower()] == pytest.approx(expected[name]), name
    assert 0 < measured["tra"] < measured["det"] < 1
    capsys.readouterr()


def test_nothing_found_and_nothing_true() -> None:
    assert set(score(TRUTH[:0], TRUTH).values()) == {0.0}
    with pytest.raises(BadInputError, match="no track"):
        score(TRUTH, TRUTH[:0])
