"""Confidence is a probability; equal tables give equal bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from track_scenes import REGION, as_objects, link, movie

from spatialdino_core.movies.clock import Clock
from spatialdino_core.track.exports import write_csv
from spatialdino_core.track.link import link_objects
from spatialdino_core.track.parameters import TrackParameters


def judged(truth: pd.DataFrame) -> pd.DataFrame:
    """Links with their confidence and whether they join positions of one particle."""
    tracks = link(truth, intensity_weight=0.0)[0]
    named = tracks.merge(truth[["frame", "x_um", "particle"]], on=["frame", "x_um"])
    named = named.sort_values(["track_id", "frame"], ignore_index=True)
    named["right"] = named["particle"] == named["particle"].shift()
    return named[named["link_confidence"].notna()]


def test_confidence_is_the_share_of_right_links() -> None:
    """Crowded particles of fast and mixed motion; eight movies, so that each bin has enough links."""
    kinds = [(250, 0.25, 0.0), (250, 0.15, 0.3), (350, 0.2, 0.0), (200, 0.3, 0.0)]
    parts = [
        judged(movie(seed=seed, particles=particles, step=step, drift=drift))
        for seed in range(2)
        for particles, step, drift in kinds
    ]
    links = pd.concat(parts)
    for low, high in [(0.5, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.97), (0.97, 0.999), (0.999, 1.01)]:
        among = links[(links["link_confidence"] >= low) & (links["link_confidence"] < high)]
        assert len(among) >= 60
        assert abs(among["right"].mean() - among["link_confidence"].mean()) < 0.1


def test_equal_tables_give_equal_bytes_whatever_the_order_of_rows(tmp_path: Path) -> None:
    truth = movie(particles=150, step=0.2)
    truth = truth[np.random.default_rng(0).random(len(truth)) > 0.1]
    shuffled = as_objects(truth.reset_index(drop=True)).sample(frac=1, random_state=1)
    for name in ("one.csv", "two.csv"):
        write_csv(tmp_path / name, link(truth.reset_index(drop=True))[0])
    write_csv(
        tmp_path / "three.csv", link_objects(shuffled, Clock.even(12, 2.0), REGION, TrackParameters())[0]
    )
    one, two, three = ((tmp_path / f"{name}.csv").read_bytes() for name in ("one", "two", "three"))
    assert one == two == three
