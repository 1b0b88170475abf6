"""Draw the summary of all movies."""

import json

from spatialdino_core.report.summary import summarise
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    summarise(json.loads(a.standings), a.tracks, _first(a.repair), a.page, a.table, _first(a.training))


def _first(paths: list[str]) -> str | None:
    return next(iter(paths), None)


if __name__ == "__main__":
    run(main, __doc__, "standings", "tracks*", "repair*", "training*", "page", "table")
