"""Whether tracks of noise are told from tracks of particles, against truth that is drawn here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spatialdino_core.track.link import link_objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import Region

FRAMES, EDGE_UM = 15, 12.0
PARTICLES, FALSE = 30, 60


@pytest.fixture(scope="module")
def noisy() -> pd.DataFrame:
    """Slow particles, each seen with probability 0.8 and confidence about 0.6, among twice as many false ones."""
    rng = np.random.default_rng(5)
    at = rng.uniform(1, EDGE_UM - 1, (PARTICLES, 3))
    parts = []
    for frame in range(FRAMES):
        at = at + rng.normal(0, 0.08, at.shape)
        seen = rng.random(PARTICLES) < 0.8
        false = rng.uniform(0, EDGE_UM, (rng.poisson(FALSE), 3))
        position = np.concatenate([at[seen], false])
        real = np.arange(len(position)) < seen.sum()
        table = pd.DataFrame(position, columns=["z_um", "y_um", "x_um"])
        table[["z", "y", "x"]] = position / 0.1
        # Confidences that are true on average: of those with confidence p, a share p is real.
        table["detection_confidence"] = np.where(real, rng.beta(3, 3, len(real)), rng.beta(2, 4, len(real)))
        table["frame"], table["real"] = frame, real
        table["label"] = np.arange(1, len(table) + 1)
        parts.append(table)
    joined = pd.concat(parts, ignore_index=True)
    return joined.assign(volume_um3=0.1, intensity_mean=10.0, intensity_sum=100.0, snr=3.0)


def link(table: pd.DataFrame, **settings: float) -> pd.DataFrame:
    region = Region.box((EDGE_UM,) * 3) if hasattr(Region, "box") else _region()
    return link_objects(table, FRAMES, 1.0, region, TrackParameters(**settings))[0]


def _region() -> Region:
    raise NotImplementedError
