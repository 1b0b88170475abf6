"""Real nuclei with known identities: every link right, divisions ranked before all else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from spatialdino_core.movies.clock import Clock
from spatialdino_core.score.links import score_links
from spatialdino_core.track.link import link_objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import Region

REACH = 6.0
"""Voxels; their size is not known, so one counts as 1 µm along each axis."""


def nuclei(folder: Path) -> pd.DataFrame:
    data = np.load(folder / "nuclei_tracks" / "nuclei_3dt.npz")
    rows = []
    for frame, (image, labels) in enumerate(zip(data["images"], data["labels"], strict=True)):
        names = np.unique(labels[labels > 0])
        above = image - np.median(image[labels == 0])
        centres = ndimage.center_of_mass(labels > 0, labels, names)
        light, size = ndimage.sum(above, labels, names), ndimage.sum(labels > 0, labels, names)
        for name, centre, total, volume in zip(names, centres, light, size, strict=True):
            rows.append((frame, name, *centre, *centre, total, total / volume, volume, 5.0, name))
    names = ["frame", "track_id", "z", "y", "x", "z_um", "y_um", "x_um", "intensity_sum", "intensity_mean"]
    return pd.DataFrame(rows, columns=[*names, "volume_um3", "snr", "label"])


def test_nuclei_keep_their_identity_and_divide_where_they_do(real_data: Path) -> None:
    """One of the eight divisions is a close call: its score is 0.47, so by default it is not listed."""
    truth, region = nuclei(real_data), Region((11.0, 43.0, 79.0))
    spans = truth.groupby("track_id")["frame"].agg(["min", "max"])
    divisions = sorted(spans.loc[spans["max"] < 74, "max"] + 1)
    assert len(divisions) == 8
    listed = {}
    for least in (0.5, 0.1):
        parameters = TrackParameters(max_displacement_um=REACH, min_event_score=least)
        tracks, events, _ = link_objects(truth, Clock.even(75), region, parameters)
        listed[least] = sorted(events.loc[events["event"] == "fission", "frame"])
        assert not (events["event"] == "fusion").any()
    assert set(listed[0.5]) <= set(divisions)
    assert len(listed[0.5]) >= 7
    assert listed[0.1] == divisions
    links = score_links(tracks[tracks["gap"] == 0], truth, 0.5)
    assert links.id_switches == 0
    assert links.link_recall == 1
    # The truth names both daughters anew; ours lets one go on as the mother: a link more per division.
    assert links.links_found - links.links_correct <= len(divisions)
