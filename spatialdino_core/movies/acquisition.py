"""The acquisition table: which planes of which file are which frame and channel of a movie.

``acquisition.tsv``: what the rows of the sample sheet mean is settled once, by `resolve`, and read from here
by everybody who reads voxels. One line for each file that a stack lies in; frames that are left out and files
that are not used have a line too, with the reason.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import write_text
from spatialdino_core.movies.formats.image import Piece
from spatialdino_core.movies.names import written_out

NAME = "acquisition.tsv"
COLUMNS = (
    "frame",
    "channel",
    "time_s",
    "clock",
    "position",
    "file",
    "where",
    "planes",
    "left_out",
)


@dataclass(frozen=True, kw_only=True)
class AcquisitionTable:
    """Where the stacks of a movie are.

    Attributes
    ----------
    channels
        Names, in the order of the sheet.
    frames
        Number of time points, those left out included.
    stacks
        Frame and channel number to the pieces of the stack, in order of z.
    left_out
        Frame and channel number to the reason why there is no such stack.
    announced
        What the files announce beyond the last frame, and never recorded: time point to reason.
    unused
        Files that the path matches and that are no part of the movie, with the reason.
    times_s
        Of each frame, s after frame 0; empty where nothing says.
    clock
        Where the times come from.
    position
        The position that was taken, where the files hold several or name it.
    """

    channels: tuple[str, ...]
    frames: int
    stacks: Mapping[tuple[int, int], tuple[Piece, ...]]
    left_out: Mapping[tuple[int, int], str] = field(default_factory=dict)
    announced: Mapping[int, str] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)
    times_s: Sequence[float] = ()
    clock: str = ""
    position: str = ""

    def write(self, path: Path | str, left_out: Mapping[int, str]) -> None:
        """Publish as tab-separated text.

        Parameters
        ----------
        left_out
            Frames that are left out as a whole, with the reason.
        """
        rows = []
        for frame in range(self.frames):
            for number, channel in enumerate(self.channels):
                pieces = self.stacks.get((frame, number), ())
                reason = self.left_out.get((frame, number)) or left_out.get(frame, "")
                about = [frame, channel, self._time(frame), self.clock, self.position]
                rows += [[*about, piece.file, piece.where, piece.planes, reason] for piece in pieces] or [
                    [*about, "", "", "", reason]
                ]
        rows += [["", "", "", "", self.position, "", "", "", why] for why in self.announced.values()]
        rows += [["", "", "", "", "", file, "", "", why] for file, why in self.unused.items()]
        lines = ["\t".join(COLUMNS)]
        lines += ["\t".join(_cell(cell) for cell in row) for row in rows]
        write_text(path, "\n".join(lines) + "\n")

    def _time(self, frame: int) -> str:
        return written_out(self.times_s[frame]) if frame < len(self.times_s) else ""

    @classmethod
    def read(cls, path: Path | str) -> AcquisitionTable:
        """Read what `write` wrote: what is needed to read voxels, and not the times.

        Raises
        ------
        BadInputError
            If it is no such table.
        """
        channels: dict[str, int] = {}
        stacks: dict[tuple[int, int], tuple[Piece, ...]] = {}
        left_out: dict[tuple[int, int], str] = {}
        frames = 0
        try:
            with Path(path).open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                    if row["frame"] == "":
                        continue
                    row = {name: _plain(cell) for name, cell in row.items()}
                    number = channels.setdefault(row["channel"], len(channels))
                    key = (int(row["frame"]), number)
                    frames = max(frames, key[0] + 1)
                    if row["left_out"]:
                        left_out[key] = row["left_out"]
                    if row["file"]:
                        piece = Piece(Path(row["file"]), row["where"], int(row["planes"]))
                        stacks[key] = (*stacks.get(key, ()), piece)
        except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
            raise BadInputError(
                path,
                found=f"a table that cannot be read ({type(error).__name__}: {error})",
                expected=f"tab-separated {', '.join(COLUMNS)}",
                remedy="Remove it: the next run writes it again.",
            ) from None
        return cls(channels=tuple(channels), frames=frames, stacks=stacks, left_out=left_out)


def _cell(value: object) -> str:
    """Text in one line: a tab or a line break in a file's name is written as an escape."""
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _plain(cell: str) -> str:
    escapes = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}
    text, place = "", 0
    while place < len(cell):
        pair = cell[place : place + 2]
        text += escapes.get(pair, cell[place])
        place += 2 if pair in escapes else 1
    return text
