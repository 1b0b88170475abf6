"""A part of a movie: the frames that one of several jobs of a stage computes, and what it may write.

Jobs of a movie that run at once write disjoint frames of the same stores. Each keeps a ledger of its own,
because appending to one file from several machines is not safe on network file systems; `collected` brings
them together. What is done once for a movie, opening stores and calibrating, is done before by a part
without frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spatialdino_core.movies.ledger import FrameLedger


@dataclass(frozen=True)
class Part:
    """Frames from ``first`` up to, not including, ``end``; ``None``: to the end of the movie.

    Examples
    --------
    >>> Part.parse("2-4").of(range(6))
    [2, 3]
    >>> Part.parse("all").completes, Part.parse("2-4").completes
    (True, False)
    """

    first: int = 0
    end: int | None = None

    @classmethod
    def parse(cls, text: str) -> Part:
        """``0-50``: the first 50 frames; ``0-0``: what comes before all frames; ``all``: the whole movie."""
        return WHOLE if text == "all" else cls(*(int(number) for number in text.split("-")))

    def __str__(self) -> str:
        return "" if self.completes else f", part {self.first}-{self.end}"

    @property
    def completes(self) -> bool:
        """Whether the movie is finished when this is done; other parts are done then."""
        return self.end is None

    @property
    def prepares(self) -> bool:
        """Whether this runs alone: it may create stores and write what belongs to no frame."""
        return self.end is None or self.end == self.first

    def of(self, frames: Iterable[int]) -> list[int]:
        """Those of these frames that belong to it."""
        return [f for f in frames if f >= self.first and (self.end is None or f < self.end)]

    def ledger(self, path: Path) -> FrameLedger:
        """The ledger at ``path`` for a part that runs alone; for others one of their own beside it."""
        common = FrameLedger(path)
        return common if self.prepares else beside(common, f".{self.first}-{self.end}")


WHOLE = Part()


def beside(ledger: FrameLedger, name: str) -> FrameLedger:
    """A ledger of its own for one of several writers, who also knows what the common one knows."""
    path = ledger.path
    return FrameLedger(path.with_name(f"{path.stem}{name}{path.suffix}"), known=ledger.entries)


def collected(ledger: FrameLedger) -> FrameLedger:
    """The ledger, with what those beside it hold, and none of them left; also after a kill.

    Nobody may be writing to them.
    """
    path = ledger.path
    parts = path.parent.glob(f"{path.stem}[-.]*{path.suffix}")
    # The processes of a part have written after the part itself.
    for part in sorted(parts, key=lambda part: part.stem):
        for frame, entry in FrameLedger(part).entries.items():
            if ledger.entries.get(frame) != entry:
                ledger.add(entry)
        part.unlink()
    return ledger
