"""Who is in and who is out: automatic verdicts, and human decisions that always win.

``metrics.tsv`` belongs to the software: measures and automatic verdict of every movie. ``decisions.tsv``
belongs to the user: the software only ever appends a row ``auto`` for a movie that is new to it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import write_text

DECISION_COLUMNS = ("movie", "decision", "who", "when", "why")
DECISIONS = ("auto", "accept", "reject")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a movie stands.

    Attributes
    ----------
    verdict
        ``accept``, ``reject`` or ``problem`` (it cannot be used at all).
    judged
        Digest of the raw files and settings that the verdict was made from.
    reason
        Why, in words.
    decided_by
        ``automatic`` or who edited the decision.
    """

    verdict: str
    judged: str
    reason: str
    decided_by: str = "automatic"


def read_table(path: Path | str) -> list[dict[str, str]]:
    """Rows of a tab-separated table with a header; none if the file does not exist."""
    path = Path(path)
    if not path.exists():
        return []
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def write_table(path: Path | str, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Publish a tab-separated table with a header."""
    names = list(columns)
    lines = ["\t".join(names)]
    lines += ["\t".join(str(row.get(name, "")).replace("\t", " ") for name in names) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def add_new_movies(path: Path | str, movies: Iterable[str]) -> None:
    """Append a row ``auto`` for each movie that the decisions do not know; touch nothing else."""
    path = Path(path)
    known = {row["movie"] for row in read_table(path)}
    new = [f"{movie}\tauto\t\t\t" for movie in movies if movie not in known]
    text = path.read_text(encoding="utf-8") if path.exists() else "\t".join(DECISION_COLUMNS) + "\n"
    if text and not text.endswith("\n"):
        text += "\n"
    if new or not path.exists():
        write_text(path, text + "".join(line + "\n" for line in new))


def standings(folder: Path | str) -> dict[str, Standing]:
    """Where every reviewed movie stands: the automatic verdict unless a human decided otherwise.

    Parameters
    ----------
    folder
        The ``qc`` folder with ``metrics.tsv`` and ``decisions.tsv``.

    Raises
    ------
    BadInputError
        If ``decisions.tsv`` holds something other than auto, accept or reject.
    """
    decisions = {row["movie"]: row for row in _checked(Path(folder) / "decisions.tsv")}
    found = {}
    for row in read_table(Path(folder) / "metrics.tsv"):
        standing = Standing(verdict=row["verdict"], judged=row["judged"], reason=row["reason"])
        human = decisions.get(row["movie"])
        if human and human["decision"] != "auto" and standing.verdict != "problem":
            standing = Standing(
                verdict=human["decision"],
                judged=row["judged"],
                reason=human.get("why") or "no reason given",
                decided_by=human.get("who") or "decisions.tsv",
            )
        elif human and human["decision"] == "reject":
            standing = Standing(
                verdict="reject", judged=row["judged"], reason=row["reason"], decided_by="decisions.tsv"
            )
        found[row["movie"]] = standing
    return found


def _checked(path: Path) -> list[dict[str, str]]:
    rows = read_table(path)
    for number, row in enumerate(rows, 2):
        if (
            None in row.values()
            or not set(DECISION_COLUMNS[:2]) <= set(row)
            or row["decision"] not in DECISIONS
        ):
            raise BadInputError(
                f"{path}, line {number}",
                found="\t".join(str(value) for value in row.values()),
                expected=f"tab-separated {', '.join(DECISION_COLUMNS)}; a decision: {', '.join(DECISIONS)}",
                remedy="Correct the line; 'auto' follows the automatic verdict.",
            )
    return rows
