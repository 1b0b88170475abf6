"""The frame ledger: which frames of a stage are finished, from what input and with what settings.

An append-only file of JSON lines beside the results, one line per finished frame, on disk before the
next frame starts. A killed job resumes at the frame it was at; a changed raw frame costs that frame.
Snakemake never sees the ledger: it sees the completion record that ``complete`` publishes at the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Protocol

from pydantic import Field, TypeAdapter, ValidationError

from spatialdino_core import phases
from spatialdino_core.errors import BadInputError
from spatialdino_core.files import read_json, sampled, sound_json, write_json
from spatialdino_core.parameters import STRICT
from spatialdino_core.pipeline import pipelined
from spatialdino_core.progress import progress


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One finished frame.

    Attributes
    ----------
    frame
        Frame number, from 0.
    key
        Digest of everything but the input that the result depends on: parameters, version, model.
    stamp
        Cheap fingerprint of the input: a checksum, or size and modification time of a raw file.
    content
        Checksum of the input's content, where ``stamp`` is not one.
    output
        Checksum of the result; empty for a skipped frame.
    stored
        Identity of what was written to each store, and to files beside them: `Stored.identity`.
    skipped
        Why the frame was left out, or ``None``.
    facts
        JSON-able measurements of the frame.
    seconds
        Wall time of each phase, s (`phases.PHASES`); phases of successive frames overlap. ``wait``: how long
        the thread that computes had no frame to work on before this one. ``processor``: processor time of
        the process since the frame before was finished. Earlier releases named steps and kept neither.
    """

    __pydantic_config__ = STRICT
    frame: Annotated[int, Field(ge=0)]
    key: str
    stamp: str
    content: str = ""
    output: str = ""
    stored: list[str | None] = field(default_factory=list)
    skipped: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


_ENTRY = TypeAdapter(Entry)


@dataclass(frozen=True)
class FrameResult:
    """What computing a frame yields: checksums of result and input, and facts worth keeping."""

    output: str
    content: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class FrameLedger:
    """Finished frames of one stage of one movie.

    Parameters
    ----------
    path
        The file; it need not exist yet.
    known
        Entries of another ledger that count as long as this one has none of the frame.
    """

    def __init__(self, path: Path | str, known: Mapping[int, Entry] | None = None) -> None:
        self.path = Path(path)
        self.entries: dict[int, Entry] = dict(known or {})
        self._writing = Lock()
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    entry = _ENTRY.validate_json(line)
                except ValidationError:
                    continue  # a line torn by a kill: its frame counts as not finished
                self.entries[entry.frame] = entry

    def add(self, entry: Entry) -> None:
        """Record a finished frame; on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._writing, self.path.open("a", encoding="utf-8") as file:
            if file.tell() > 0 and not _ends_with_newline(self.path):
                file.write("\n")
            file.write(json.dumps(asdict(entry)) + "\n")
            file.flush()
            os.fsync(file.fileno())
            self.entries[entry.frame] = entry

    def reopen(self, frame: int) -> None:
        """Count a frame as not finished from now on, because its result is about to be replaced.

        Else a kill would leave the new result under the old settings' entry.
        """
        self.add(replace(self.entries[frame], key="", output=""))


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class Stored(Protocol):
    """What frames are written to: `movies.store.FrameStore`, or files beside it."""

    def identity(self, frame: int) -> str | None:
        """What tells what is written of a frame from anything else; ``None`` where nothing is."""

    def is_intact(self, frame: int) -> bool:
        """Whether all of a frame can be read as it was written."""


@dataclass(frozen=True)
class FrameFiles:
    """A file for each frame beside the stores, such as its table; a `Stored`.

    Attributes
    ----------
    path
        File of a frame.
    largest
        Size (bytes) up to which all of a file is looked at each time; of larger ones samples are.
    """

    path: Callable[[int], Path]
    largest: int = 2**26

    def identity(self, frame: int) -> str | None:
        """Size and digest; ``None`` for no file, and for an empty one, as a full disk leaves."""
        try:
            found = sampled(self.path(frame), self.largest)
        except FileNotFoundError:
            return None
        return None if found.startswith("0-") else found

    def is_intact(self, frame: int) -> bool:
        """Whether its identity is all that there is to ask for."""
        return self.identity(frame) is not None


@dataclass(frozen=True, kw_only=True)
class FrameJob:
    """One stage on the frames of one movie.

    Attributes
    ----------
    ledger
        Where finished frames are recorded.
    description
        For the progress line, e.g. ``"deskew cell_1"``.
    key
        See `Entry.key`.
    stamps
        Frame number to the stamp of its input.
    steps
        What computes and stores a frame, by phase; the first takes the frame number, each of the others the
        result of the one before, the last returns a `FrameResult`. They overlap for successive frames.
    stores
        Where frames are written to. What is there must be what was written.
    unchanged
        Asked when a stamp differs: whether the input's content is nevertheless the one in the entry.
    skip_bad
        Whether a frame that raises `BadInputError` is recorded as skipped instead of ending the job.
    verify
        Whether finished frames are read to see that they are intact.
    """

    ledger: FrameLedger
    description: str
    key: str
    stamps: Mapping[int, str]
    steps: Mapping[str, Callable[[Any], Any]]
    stores: Sequence[Stored]
    unchanged: Callable[[int, Entry], bool] = lambda frame, entry: False
    skip_bad: bool = False
    verify: bool = False

    def run(self) -> list[Entry]:
        """Compute what is not finished; return the entries of all frames, in order."""
        finished = [frame for frame in self.stamps if self._is_finished(frame)]
        waiting = [frame for frame in self.stamps if frame not in set(finished)]
        self._complete(finished)
        computed = 0
        chain: list[Callable[[Any], Any]] = [
            self._begin,
            *(_Step(name, step, free_since=phases.clock()) for name, step in self.steps.items()),
        ]
        spent = phases.processor_clock()
        # Closed at once when a frame ends the job: nothing may go on computing behind its back.
        with closing(pipelined(waiting, chain)) as outcomes:
            for frame, outcome in progress(
                outcomes, self.description, "frame", total=len(self.stamps), done=len(finished)
            ):
                before, spent = spent, phases.processor_clock()
                computed += self._record(frame, outcome, spent - before)
        print(f"{self.description}: {computed} of {len(self.stamps)} frames computed, the rest up to date")
        return [self.ledger.entries[frame] for frame in self.stamps]

    def _is_finished(self, frame: int) -> bool:
        entry = self.ledger.entries.get(frame)
        if entry is None or (entry.key, entry.stamp) != (self.key, self.stamps[frame]):
            return False
        return entry.skipped is not None or self._is_there(frame, entry)

    def _complete(self, frames: Sequence[int]) -> None:
        """Enter from now on what entries of earlier releases do not say."""
        for frame in frames:
            entry = self.ledger.entries[frame]
            if entry.skipped is None and len(entry.stored) < len(self.stores):
                self.ledger.add(replace(entry, stored=self._identities(frame)))

    def _is_there(self, frame: int, entry: Entry) -> bool:
        """Whether a frame's result is there, and is the one that was written."""
        found = self._identities(frame)
        # Earlier releases knew fewer stores; TIFFs may be among them by choice.
        if None in found or any(kept != now for kept, now in zip(entry.stored, found, strict=False)):
            return False
        return not self.verify or all(store.is_intact(frame) for store in self.stores)

    def _identities(self, frame: int) -> list[str | None]:
        return [store.identity(frame) for store in self.stores]

    def _begin(self, frame: int) -> _Passed:
        """Whether there is anything to do for a frame, asked where its input is read anyway."""
        old = self.ledger.entries.get(frame)
        current = old is not None and old.key == self.key and not old.skipped and self._is_there(frame, old)
        settled = bool(old and current and self.unchanged(frame, old))
        if old is not None and not settled:
            self.ledger.reopen(frame)
        return _Passed(frame, settled=settled)

    def _record(self, frame: int, outcome: Future[_Passed], processor: float) -> bool:
        """Enter a frame that went through all steps; whether it had to be computed."""
        common: dict[str, Any] = {"frame": frame, "key": self.key, "stamp": self.stamps[frame]}
        try:
            passed = outcome.result()
        except BadInputError as error:
            if not self.skip_bad:
                raise
            print(f"{self.description}: frame {frame} skipped. {error}")
            self.ledger.add(Entry(**common, skipped=str(error)))
            return True
        if passed.settled:
            self.ledger.add(Entry(**(asdict(self.ledger.entries[frame]) | common)))
            return False
        result: FrameResult = passed.value
        self.ledger.add(
            Entry(
                **common,
                content=result.content,
                output=result.output,
                stored=self._identities(frame),
                facts=result.facts,
                seconds={name: round(s, 3) for name, s in passed.seconds.items()}
                | {"processor": round(processor, 3)},
            )
        )
        return True


@dataclass(frozen=True)
class _Passed:
    """A frame on its way through the steps."""

    value: Any
    settled: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class _Step:
    """A step that adds what its time went to; ``free_since``: when it had done with the frame before."""

    phase: str
    step: Callable[[Any], Any]
    free_since: float

    def __call__(self, before: _Passed) -> _Passed:
        waited = phases.clock() - self.free_since
        try:
            if before.settled:
                return before
            value, seconds = phases.told_apart(self.phase, self.step, before.value)
        finally:
            self.free_since = phases.clock()
        if self.phase == "compute":
            seconds["wait"] = waited
        earlier = before.seconds
        together = {name: earlier.get(name, 0.0) + s for name, s in seconds.items()}
        return _Passed(value, seconds=earlier | together)


def remembered(path: Path | str, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A movie-level calibration, computed once and kept while ``key`` stays the same.

    Parameters
    ----------
    path
        JSON file that keeps it.
    key
        Digest of everything that it depends on.
    compute
        Makes the JSON-able calibration.
    """
    path = Path(path)
    kept = sound_json(path)
    if kept.get("key") == key and isinstance(kept.get("value"), dict):
        return dict(kept["value"])
    value = compute()
    write_json(path, {"key": key, "value": value})
    return dict(read_json(path)["value"])
