"""Who is in and who is out: automatic verdicts, and human decisions that always win.

``metrics.tsv`` belongs to the software: measures and automatic verdict of every movie. ``decisions.tsv``
belongs to the user, who edits it by hand or exports it from the contact sheet: the software only ever
appends a row ``auto`` for a movie that is new to it.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import sound_json, write_json, write_text
from spatialdino_core.movies.tables import read_text
from spatialdino_core.parameters import digest
from spatialdino_core.quality.parameters import QualityParameters

DECISION_COLUMNS = ("movie", "decision", "who", "when", "why")
DECISIONS = ("auto", "accept", "reject")
NEEDED_COLUMNS = DECISION_COLUMNS[:2]
TOO_LARGE = "too_large.json"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a movie stands.

    Attributes
    ----------
    verdict
        ``accept``, ``look`` (it goes on, but a human is asked to look at it), ``reject`` or ``problem`` (it
        cannot be used at all).
    judged
        Digest of the raw files and settings that the verdict was made from.
    reason
        Why, in words.
    decided_by
        ``automatic`` or who made the decision.
    decided_when
        When a human decided, as written in ``decisions.tsv``; else empty.
    """

    verdict: str
    judged: str
    reason: str
    decided_by: str = "automatic"
    decided_when: str = ""

    @property
    def goes_on(self) -> bool:
        """Whether the movie is analysed."""
        return self.verdict in ("accept", "look")


def judgement(state: str, parameters: QualityParameters, version: str) -> str:
    """Digest of what a verdict rests on.

    Parameters
    ----------
    state
        Of the movie that was looked at, from its preview.
    parameters
        Limits that its measures were held against.
    version
        Of the review's results.
    """
    return digest(state, asdict(parameters), version)


def read_table(path: Path | str) -> list[dict[str, str]]:
    """Rows of a tab-separated table with a header; none if the file does not exist."""
    path = Path(path)
    if not path.exists():
        return []
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def write_table(path: Path | str, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Publish a tab-separated table with a header; white space within a cell becomes single spaces."""
    names = list(columns)
    lines = ["\t".join(names)]
    lines += ["\t".join(" ".join(str(row.get(name, "")).split()) for name in names) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def read_decisions(path: Path | str) -> list[dict[str, str]]:
    """Rows of ``decisions.tsv``, made whole: cells that are missing at the end of a row are blank.

    Only ``movie`` and ``decision`` are needed; further columns are kept. Spreadsheets may have put quotes
    around cells.

    Raises
    ------
    BadInputError
        Naming the line, if the file is not such a table or a decision is none of auto, accept, reject.
    """
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    text, _ = read_text(path)
    try:
        reader = csv.DictReader(io.StringIO(text), delimiter="\t", restval="", strict=True)
        header = reader.fieldnames or []
        if not set(NEEDED_COLUMNS) <= set(header):
            raise _bad(f"{path}, header", list(header))
        for cells in reader:
            if None in cells:  # more cells than columns
                raise _bad(f"{path}, line {reader.line_num}", cells.values())
            row = {name: cell.strip() for name, cell in cells.items()}
            row["decision"] = row["decision"].lower()
            if row["decision"] not in DECISIONS or not row["movie"]:
                raise _bad(f"{path}, line {reader.line_num}", cells.values())
            rows.append(row)
    except csv.Error as error:
        raise BadInputError(
            path,
            found=f"a file that cannot be read as a table ({error})",
            expected=f"tab-separated text: {', '.join(DECISION_COLUMNS)}",
            remedy="Save it as tab-separated text; a cell with a quote must be quoted as a whole.",
        ) from None
    return rows


def _bad(where: str, cells: Iterable[object]) -> BadInputError:
    return BadInputError(
        where,
        found="\t".join(str(cell) for cell in cells),
        expected=f"tab-separated {', '.join(DECISION_COLUMNS)}; a decision: {', '.join(DECISIONS)}",
        remedy="Correct the line; 'auto' follows the automatic verdict, as 'look' is one.",
    )


def human_decisions(path: Path | str) -> str:
    """Digest of what humans decided: unchanged while the software adds rows ``auto``."""
    rows = [row for row in read_decisions(path) if row["decision"] != "auto"]
    return digest(*(sorted(row.items()) for row in rows))


def add_new_movies(path: Path | str, movies: Iterable[str]) -> None:
    """Append a row ``auto`` for each movie that the decisions do not know; touch nothing else."""
    path = Path(path)
    if not path.exists():
        write_text(path, "\t".join(DECISION_COLUMNS) + "\n")
    known = {row["movie"] for row in read_decisions(path)}
    new = [movie for movie in movies if movie not in known]
    if not new:
        return
    text, encoding = read_text(path)
    header = next(csv.reader([text.splitlines()[0]], delimiter="\t"))
    blank = dict.fromkeys(header, "")
    lines = ["\t".join((blank | {"movie": movie, "decision": "auto"}).values()) for movie in new]
    # Appended, not published anew: an edit that is saved meanwhile must not be undone.
    with path.open("ab") as file:
        file.write((("" if text.endswith("\n") else "\n") + "\n".join(lines) + "\n").encode(encoding))
        file.flush()
        os.fsync(file.fileno())


def remember_too_large(folder: Path | str, reasons: Mapping[str, str]) -> None:
    """Keep, for the jobs of a run, which movies its machine has no memory for, and why."""
    path = Path(folder) / TOO_LARGE
    # A plan of results that may be read only says so elsewhere.
    with contextlib.suppress(OSError):
        if sound_json(path) != reasons:
            write_json(path, dict(reasons))


def standings(folder: Path | str, too_large: Mapping[str, str] | None = None) -> dict[str, Standing]:
    """Where every reviewed movie stands: the automatic verdict unless a human decided otherwise.

    A human may reject a movie with a problem, but not accept it. Of several rows for a movie the last holds.

    Parameters
    ----------
    folder
        The ``qc`` folder with ``metrics.tsv`` and ``decisions.tsv``.
    too_large
        Movies that the machine has no memory for, with the reason: they cannot be used now. By default those
        that the run keeps in that folder.

    Raises
    ------
    BadInputError
        If ``decisions.tsv`` holds something other than auto, accept or reject.
    """
    decisions = {row["movie"]: row for row in read_decisions(Path(folder) / "decisions.tsv")}
    metrics = Path(folder) / "metrics.tsv"
    reasons = sound_json(Path(folder) / TOO_LARGE) if too_large is None else too_large
    try:
        found = {row["movie"]: _standing(row, decisions.get(row["movie"], {})) for row in read_table(metrics)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(
            metrics,
            found=f"a damaged table ({error})",
            expected="the table that the review wrote",
            remedy="Delete it: the next run makes it again.",
        ) from None
    return {movie: _for_now(standing, reasons.get(movie)) for movie, standing in found.items()}


def _for_now(standing: Standing, reason: str | None) -> Standing:
    """An accepted movie that the machine has no memory for cannot be used, until it has."""
    if reason is None or not standing.goes_on:
        return standing
    return replace(standing, verdict="problem", reason=reason)


def _standing(automatic: Mapping[str, str], human: Mapping[str, str]) -> Standing:
    verdict, reason, judged = (automatic[name] for name in ("verdict", "reason", "judged"))
    decision = human.get("decision", "auto")
    if decision == "auto" or (verdict == "problem" and decision == "accept"):
        return Standing(verdict=verdict, judged=judged, reason=reason)
    return Standing(
        verdict=decision,
        judged=judged,
        reason=human.get("why") or (reason if verdict == "problem" else "") or "no reason given",
        decided_by=human.get("who") or "decisions.tsv",
        decided_when=human.get("when", ""),
    )
