"""What made the results that are there, where that is not what would make them today."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spatialdino_core.files import sound_json
from spatialdino_core.made import made_of
from spatialdino_core.movies.provenance import RerunOn, identity, stage_code

RECORDS = {
    "register": "movie.json",
    "deskew": "deskewed.json",
    "features": "features.json",
    "segment": "labels.json",
    "track": "tracks.json",
}
"""Files of a movie's folder that say what made a stage's results."""


def of_other_software(results: str, movies: Iterable[str], rerun_on: RerunOn) -> Iterator[str]:
    """What made the results that are there, where that is not what would make them today; a line for each.

    Stages of another version are computed again. Where only the code differs, nothing is.
    """
    recomputed: Counter[str] = Counter()
    earlier: set[str] = set()
    unrecorded: set[str] = set()
    differing = set()
    for movie in movies:
        for stage, name in RECORDS.items():
            about = _about(Path(results, movie, name))
            if about is None:
                continue
            if "results_version" in about and made_of(str(Path(results, movie, name))) is None:
                unrecorded.add(movie)
            if "results_version" not in about:
                earlier.add(movie)
            elif about["results_version"] != identity(stage):
                recomputed[stage] += 1
            elif about["code"] != stage_code(stage):
                (recomputed.update([stage]) if rerun_on == "code" else differing.add(stage))
    if earlier:
        yield (
            f"Results of {len(earlier)} movie(s) are of an earlier release: all of them are computed again, "
            "from the register on."
        )
    if unrecorded:
        yield (
            f"Results of {len(unrecorded)} movie(s) lack a record of what they were made of: their jobs "
            "start once and look, and no frame that is finished and current is computed again."
        )
    for stage in [stage for stage in RECORDS if recomputed[stage]]:
        yield f"{stage}: results of {recomputed[stage]} movie(s) are computed again, and what follows."
    if names := [stage for stage in RECORDS if stage in differing]:
        yield (
            f"The code of {', '.join(names)} is not what made the results; the version of its results is, so "
            "nothing is computed again for it ('rerun_on: code' would)."
        )


def _about(path: Path) -> Mapping[str, Any] | None:
    content = sound_json(path)
    found: Mapping[str, Any] = content.get("about", content.get("made", content))
    return found or None
