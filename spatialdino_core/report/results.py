"""What lies in the results folder of one movie, opened for the report. Voxels are read later, by frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import read_json
from spatialdino_core.movies.clock import Clock
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore

OBJECT_COLUMNS = ["frame", "label", "z", "y", "x", "intensity_mean", "snr"]
TRACK_COLUMNS = [
    *("track_id", "frame", "time_s", "label", "z", "y", "x", "z_um", "y_um", "x_um"),
    *("link_confidence", "gap"),
]
EVENT_COLUMNS = ["event", "frame", "track_id", "score"]


@dataclass(frozen=True, kw_only=True)
class MovieResults:
    """Results of one movie.

    Attributes
    ----------
    record
        What the register knows.
    frames
        Finished frames, ascending; at least one.
    skipped
        Left-out frames and why, over all stages.
    image, labels, foreground, components
        Stores: deskewed intensities, instance labels, activation and foreground probability, principal
        components; the latter two ``None`` where no features were computed.
    deskewed, features, segmented
        Completion records of the stages.
    looked_at
        What the preview noted.
    tracking
        What the tracker noted about itself.
    objects
        Table of the objects that tracking took for particles.
    candidates
        Number of the objects that it did not.
    tracks, events
        Tables.
    """

    record: MovieRecord
    frames: list[int]
    skipped: dict[int, str]
    image: FrameStore
    labels: FrameStore
    foreground: FrameStore | None
    components: FrameStore | None
    deskewed: StageRecord
    features: StageRecord
    segmented: StageRecord
    looked_at: dict[str, Any]
    tracking: dict[str, Any]
    objects: pd.DataFrame
    candidates: int
    tracks: pd.DataFrame
    events: pd.DataFrame

    @property
    def clock(self) -> Clock:
        """When its frames were recorded."""
        return Clock.of(self.record, self.frames)

    @property
    def shown(self) -> list[int]:
        """First, middle and last finished frame, each once."""
        return sorted({self.frames[0], self.middle, self.frames[-1]})

    @property
    def middle(self) -> int:
        """The finished frame in the middle."""
        return self.frames[len(self.frames) // 2]

    def time(self, frames: np.ndarray) -> np.ndarray:
        """When frames were recorded, s after frame 0."""
        return self.clock.times_s[np.asarray(frames, np.intp)]

    def when(self, frame: int) -> str:
        """A frame in words, e.g. ``frame 3 (6 s)``."""
        if self.record.frames == 1:
            return f"frame {frame}"
        return f"frame {frame} ({self.clock.times_s[frame]:.4g} s)"

    def objects_per_frame(self) -> np.ndarray:
        """Number of objects in each of ``frames``."""
        counts = self.objects["frame"].value_counts()
        return counts.reindex(self.frames, fill_value=0).to_numpy(dtype=np.int64)

    def tracks_count(self) -> int:
        """Number of tracks."""
        return int(self.tracks["track_id"].nunique())


def open_results(record: MovieRecord, folder: Path | str, preview: Path | str) -> MovieResults:
    """Open the results of one movie, and its preview.

    Raises
    ------
    BadInputError
        If the movie cannot be used or has no finished frame, a file is absent or a table lacks a column.
    """
    folder = Path(folder)
    record.usable()
    deskewed, features, segmented = (
        StageRecord.read(_present(folder / name))
        for name in ("deskewed.json", "features.json", "labels.json")
    )
    skipped = record.skipped | deskewed.skipped | features.skipped | segmented.skipped
    frames = [frame for frame in sorted(segmented.checksums) if frame not in skipped]
    if not frames:
        raise BadInputError(
            folder / "labels.json",
            found="no finished frame",
            expected="at least one",
            remedy="Reject the movie in qc/decisions.tsv.",
        )
    every = read_table(folder / "objects.parquet", OBJECT_COLUMNS)
    tracks = read_table(folder / "tracks.csv", TRACK_COLUMNS)
    objects = in_tracks(every, tracks)
    return MovieResults(
        record=record,
        frames=frames,
        skipped=dict(sorted(skipped.items())),
        image=FrameStore.recorded(folder, deskewed, 0),
        labels=FrameStore.recorded(folder, segmented, 0),
        foreground=FrameStore.recorded(folder, features, 1) if features.stores else None,
        components=FrameStore.recorded(folder, features, 0) if features.stores else None,
        deskewed=deskewed,
        features=features,
        segmented=segmented,
        looked_at=dict(read_json(_present(Path(preview)))),
        tracking=dict(read_json(_present(folder / "tracks.json"))),
        objects=objects,
        candidates=len(every) - len(objects),
        tracks=tracks,
        events=read_table(folder / "events.csv", EVENT_COLUMNS),
    )


def in_tracks(objects: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """The objects that a track holds: segmentation leaves dim candidates for tracking to decide."""
    held = tracks.loc[tracks["gap"] == 0, ["frame", "label"]]
    return objects.merge(held.astype(objects[["frame", "label"]].dtypes), on=["frame", "label"])


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a CSV or Parquet table of the workflow; its columns are numbers even where it has no row.

    Raises
    ------
    BadInputError
        If the file or one of ``columns`` is absent.
    """
    _present(path)
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    absent = [name for name in columns if name not in table]
    if absent:
        raise BadInputError(
            path,
            found=f"columns {', '.join(map(str, table.columns))}",
            expected=f"also {', '.join(absent)}",
            remedy="Remove the file and run the workflow again: it is written by another version.",
        )
    return table if len(table) else table.astype({name: float for name in table if name != "event"})


def _present(path: Path) -> Path:
    if not path.exists():
        raise BadInputError(
            path, found="no such file", expected="a result of the workflow", remedy="Run the workflow again."
        )
    return path
