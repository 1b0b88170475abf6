"""The completion record of a frame stage: what later stages, and the plan, know of its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spatialdino_core.files import read_json, write_json
from spatialdino_core.movies.ledger import Entry
from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """The completion record of a frame stage: what Snakemake tracks, and what the next stage reads.

    Attributes
    ----------
    stores
        Paths of the stage's stores, relative to the record's folder.
    checksums
        Frame number to checksum of its result, for frames that were not skipped.
    stored
        Frame number to the identity of what was written to each of the first stores.
    skipped
        Frame number to reason.
    about
        Parameters, model, calibration: what the result depends on; and the software that made it.
    """

    __pydantic_config__ = STRICT
    stores: list[str]
    checksums: dict[int, str]
    skipped: dict[int, str]
    about: dict[str, Any]
    stored: dict[int, list[str | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, stores: Sequence[str], entries: Sequence[Entry], about: dict[str, Any]) -> StageRecord:
        """Record of a job's entries."""
        return cls(
            stores=list(stores),
            checksums={e.frame: e.output for e in entries if e.skipped is None},
            skipped={e.frame: e.skipped for e in entries if e.skipped is not None},
            about=about,
            stored={e.frame: e.stored[: len(stores)] for e in entries if e.skipped is None},
        )

    def write(self, path: Path | str) -> None:
        """Publish as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path | str) -> StageRecord:
        """Read what ``write`` wrote."""
        record: StageRecord = read_json(path, cls)
        return record
