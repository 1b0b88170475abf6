"""Whether Snakemake remembers here what the results were computed with.

Its memory of code and settings lies in ``.snakemake`` of the folder that it is started in. Started from
another folder, such as a new copy of this software, it takes all results that are there for current, whatever
made them. A number in both places tells that they belong together; a project that is moved as a whole keeps
it.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import read_json, write_json

MARK = ".memory.json"
KNOWN = Path(".snakemake") / "spatialdino_results"


def check_memory(results: str) -> None:
    """Refuse results that another folder's memory belongs to, unless all jobs are started anyway."""
    mark = Path(results) / MARK
    if not mark.exists() or {"--forceall", "-F"} & set(sys.argv):
        return
    made = read_json(mark)
    if not (KNOWN / made["number"]).exists():
        raise BadInputError(
            results,
            found=f"results that were computed from the folder {made['folder']}",
            expected=f"its .snakemake, which knows with which code and settings, in {Path.cwd()}",
            remedy="Run there, or once with --forceall: all jobs start, no finished frame is computed again.",
        )


def remember(results: str) -> None:
    """Leave the number in both places; a run that starts all jobs begins a new memory."""
    mark = Path(results) / MARK
    number = read_json(mark)["number"] if mark.exists() else ""
    if not number or not (KNOWN / number).exists():
        number = uuid.uuid4().hex
        KNOWN.mkdir(parents=True, exist_ok=True)
        (KNOWN / number).touch()
        write_json(mark, {"number": number, "folder": str(Path.cwd())})
