"""The two stores of a movie's features, written frame by frame. What others read in them is in
``movies/features.py``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.features.encoding import MovieEncoder
from spatialdino_core.movies.features import FEATURES, FOREGROUND, MAPS
from spatialdino_core.movies.part import WHOLE, Part
from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.parameters import digest


@dataclass(frozen=True)
class FeatureStores:
    """Where the results of a movie are written, frame by frame.

    Attributes
    ----------
    features
        Components, or all features, (t, K, gz, gy, gx) float16; beside them, as array ``class_tokens`` of the
        same group, the class token of each frame (t, D) float32.
    foreground
        Activation and foreground probability, (t, 2, gz, gy, gx) float16.
    """

    features: FrameStore
    foreground: FrameStore

    @classmethod
    def prepare(
        cls, folder: Path, encoder: MovieEncoder, about: dict[str, Any], part: Part = WHOLE
    ) -> FeatureStores:
        """Open both for writing what belongs to a part; ``about`` is kept in their attributes."""
        movie, model = encoder.movie, encoder.model
        everything = model.parameters.keep == "all"
        width = model.header.architecture.embed_dim
        stored = width if everything else model.components
        prefix = "token" if everything else "component"
        names = tuple(f"{prefix}_{number}" for number in range(stored))
        z, y, x = (a + b for a, b in zip(movie.store.origin_um, model.origin_um, strict=True))

        def layout(channels: tuple[str, ...], kind: str) -> StoreLayout:
            return StoreLayout(
                shape_czyx=(len(channels), *encoder.valid.shape),
                dtype="float16",
                voxel_um=model.spacing_um,
                origin_um=(z, y, x),
                interval_s=movie.interval_s,
                channels=channels,
                kind=kind,
            )

        features = FrameStore.prepare(folder / FEATURES, layout(names, "features"), movie.frames, about, part)
        return cls(
            features.with_class_tokens(width, part),
            FrameStore.prepare(folder / FOREGROUND, layout(MAPS, "map"), movie.frames, about, part),
        )

    @classmethod
    def open(cls, folder: Path) -> FeatureStores:
        """Open both for writing by another process than the one that prepared them."""
        return cls(FrameStore(folder / FEATURES, "r+"), FrameStore(folder / FOREGROUND, "r+"))

    def write(
        self,
        frame: int,
        features: NDArray[np.float16],
        maps: NDArray[np.float16],
        class_token: NDArray[np.float32],
    ) -> str:
        """Write a frame; the digest of all that was written."""
        token = self.features.write_class_token(frame, class_token)
        sums = [self.features.write(frame, features), self.foreground.write(frame, maps)]
        return digest(sums, token)
