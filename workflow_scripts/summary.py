"""Draw the summary of all movies."""

import json

from spatialdino_core.report.summary import summarise
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    summarise(json.loads(a.standings), a.tracks, next(iter(a.repair), None), a.page, a.table)


if __name__ == "__main__":
    run(main, __doc__, "standings", "tracks*", "repair*", "page", "table")
