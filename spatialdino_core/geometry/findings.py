"""What the preview found in the raw frames of a channel that deskewing must know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spatialdino_core.files import read_json


@dataclass(frozen=True)
class Findings:
    """Of one channel; the defaults are those of a flawless one.

    Attributes
    ----------
    hot_pixels
        Places (y, x) in the raw files.
    no_data
        Value that another program has put where there are no data; ``None`` if it did not.
    """

    hot_pixels: tuple[tuple[int, int], ...] = ()
    no_data: int | None = None

    @classmethod
    def of(cls, preview: Path | str | None, channel: str) -> Findings:
        """What the JSON file of a movie's preview says of a channel; without a file, nothing."""
        found = {} if preview is None else read_json(preview)
        hot = found.get("hot_pixels", {}).get(channel, [])
        return cls(tuple((y, x) for y, x in hot), found.get("no_data", {}).get(channel))
