"""One channel of a movie, as its row of the sheet was opened, and whether its names fit the sheet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import Image
from spatialdino_core.movies.names import VISIBLE_NM, mentions, normalised, words, written_out
from spatialdino_core.movies.opened import Opened, below_common_folder
from spatialdino_core.movies.sheet import SheetRow

NO_NAME = re.compile(
    r"(?:default|channel|ch|c|camera|cam|image|unnamed|untitled|none)?[ :_#-]*[\d:]*", re.IGNORECASE
)
"""What programs call a channel of which they know no name."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One row's channel: its stacks by the number of their time point."""

    row: SheetRow
    opened: Opened
    image: Image
    number: int

    @property
    def points(self) -> tuple[int, ...]:
        return self.opened.points[: self.image.times]

    @property
    def clock(self) -> dict[int, float]:
        """Time point to time, s: of the file's own clock, else of the names, if it runs."""
        own = self._own_clock
        names = dict(zip(self.points, self.opened.name_clock_s, strict=False))
        return own if runs(own) else names

    @property
    def clock_source(self) -> str:
        if runs(self._own_clock):
            return self.image.metadata.origin
        return "clock in the file names" if self.opened.name_clock_s else ""

    @property
    def odd_clock(self) -> str:
        """Why the file's own clock is not taken; empty where it runs, or where there is none."""
        steps = list(pairwise(sorted(self._own_clock.items())))
        wrong = next((pair for pair in steps if pair[1][1] <= pair[0][1]), None)
        if wrong is None:
            return ""
        (point, before), (later, after) = wrong
        if self.has_constant_clock:
            how = f"every time point has the time {written_out(before)} s"
        elif after < before:
            how = (
                f"it goes back, from {written_out(before)} s of time point {point} to {written_out(after)} s "
            )
            how += f"of time point {later}"
        else:
            how = f"time points {point} and {later} have the same time, {written_out(after)} s"
        return f"the clock of the {self.image.metadata.origin} is not taken: {how}"

    @property
    def has_constant_clock(self) -> bool:
        """Whether all times of the file are the same: what programs write that do not know them."""
        return len(set(self._own_clock.values())) == 1

    @property
    def _own_clock(self) -> dict[int, float]:
        """Time point to time, s, by the file."""
        return {
            self.points[t]: seconds
            for (t, c), seconds in sorted(self.image.clock_s.items())
            if c == self.number and t < len(self.points)
        }


def runs(clock: Mapping[int, float]) -> bool:
    """Whether every time is later than the one before."""
    times = [seconds for _, seconds in sorted(clock.items())]
    return len(times) > 1 and all(b > a for a, b in pairwise(times))


def refuse_one_channel_twice(channels: Sequence[Channel]) -> None:
    """Refuse two rows that are the same planes of the same files, however their paths are spelled."""
    taken: dict[tuple[object, str], str] = {}
    known: dict[Path, object] = {}
    for channel in channels:
        stacks = channel.image.stacks.items()
        pieces = [piece for (_, c), own in stacks if c == channel.number for piece in own]
        for where in {(_identity(piece.file, known), piece.where) for piece in pieces}:
            other = taken.setdefault(where, channel.row.channel)
            if other != channel.row.channel:
                count = channel.image.channels
                raise BadInputError(
                    f"movie '{channel.row.movie}' ({channel.row.path})",
                    found=f"{count} channel{'s' if count > 1 else ''} in the file, and the same one for the "
                    f"rows '{other}' and '{channel.row.channel}'",
                    expected="another channel for each row",
                    remedy="Correct 'path' or 'file_channel'; where channels lie between each other plane by "
                    "plane, say so in the column 'axes', e.g. z24c2yx.",
                )


def _identity(path: Path, known: dict[Path, object]) -> object:
    """What two paths of one file have in common."""
    if path not in known:
        status = path.stat()
        known[path] = (status.st_dev, status.st_ino)
    return known[path]


def refuse_names_of_other_rows(channels: Sequence[Channel]) -> None:
    """Refuse files whose names all say the channel of another row, and not that of their own."""
    every = list(dict.fromkeys(file for channel in channels for file in channel.opened.files))
    names = dict(zip(every, below_common_folder(every), strict=True))
    for channel in channels:
        row = channel.row
        own = [names[file] for file in channel.opened.files]
        single = channel.image.channels == 1 and row.file_channel is None
        if not single or any(_says(name, row.channel) for name in own):
            continue
        others = [o for o in channels if o is not channel and _tells(o, names)]
        said = next((o.row.channel for o in others if all(_says(n, o.row.channel) for n in own)), None)
        if said is not None:
            raise BadInputError(
                f"movie '{row.movie}', channel '{row.channel}' ({row.path})",
                found=f"files whose names say '{said}', which is another row: {own[0]}",
                expected=f"names that say '{row.channel}', or no channel",
                remedy="Exchange the paths, or the names of the channels; if the names of the files are "
                f"wrong, write '{_word(own[0], said)}' into the column 'file_channel'.",
            )


def _says(name: str, channel: str) -> bool:
    """Whether a file's name holds a channel's as a word, or at the end of one: ``w1488``, ``EGFP``."""
    plain = normalised(channel)
    ends = len(plain) >= 3 and any(normalised(word).endswith(plain) for word in words(name))
    return ends or mentions(name, channel)


def _word(name: str, channel: str) -> str:
    """The word of a file's name that says a channel."""
    if mentions(name, channel):
        return channel
    return next(word for word in words(name) if normalised(word).endswith(normalised(channel)))


def _tells(channel: Channel, names: Mapping[Path, str]) -> bool:
    """Whether a row's name in file names is no chance: a wavelength, or a word that its own have not."""
    plain = normalised(channel.row.channel)
    if plain.isdigit():
        return _wavelength(plain) == plain
    return not all(mentions(names[file], channel.row.channel) for file in channel.opened.files)


def odd_names(channels: Sequence[Channel]) -> list[str]:
    """A single channel is taken whatever it is called; that it is called otherwise is worth a word."""
    return [
        f"channel '{channel.row.channel}': the file calls its only channel '{channel.image.channel_names[0]}'"
        for channel in channels
        if channel.image.channels == 1
        and channel.image.channel_names
        and channel.row.file_channel is None
        and _is_another(channel.row.channel, channel.image.channel_names[0])
    ]


def names_of_other_channels(channels: Sequence[Channel]) -> list[str]:
    """File names that all say another wavelength than the row are worth a word, too."""
    warnings = []
    for channel in channels:
        own = _wavelength(channel.row.channel)
        names = [set(words(name)) for name in map(str, below_common_folder(channel.opened.files))]
        said = {_wavelength(word) for word in set.intersection(*names) if normalised(word).isdigit()} - {None}
        single = channel.image.channels == 1 and channel.row.file_channel is None
        if single and own is not None and len(said) == 1 and own not in said:
            wavelength = said.pop()
            warnings.append(f"channel '{channel.row.channel}': the names of its files say '{wavelength}'")
    return warnings


def _is_another(channel: str, said: str) -> bool:
    """Whether two names are of different channels: two wavelengths, or two words that are none."""
    if NO_NAME.fullmatch(said) or mentions(said, channel) or mentions(channel, said):
        return False
    one, other = _wavelength(channel), _wavelength(said)
    return one != other if one and other else not one and not other


def _wavelength(name: str) -> str | None:
    """A wavelength in nm in a name."""
    digits = "".join(c if c.isdigit() else " " for c in name).split()
    return next(
        (number for number in digits if len(number) == 3 and VISIBLE_NM[0] <= int(number) <= VISIBLE_NM[1]),
        None,
    )
