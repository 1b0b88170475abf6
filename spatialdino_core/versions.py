"""The version of each stage's results. Raise it when they move; then they are computed anew.

Versions, settings and inputs decide what runs; what the code looks like does not. The tests in
``tests/golden`` fail when a stage's results moved and its number did not; where they cannot see (a GPU, a
rare file), raise it all the same: a result that is stale is worse than one that is computed twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Stage:
    """A stage of the workflow.

    Attributes
    ----------
    module
        Its entry in the core; the hash of its code is that of this module and of all that it imports.
    version
        Of its results.
    follows
        Stages whose results it reads, so that it runs again after them. (What deskew takes of the preview
        does not count: more measures deskew nothing anew.)
    """

    module: str
    version: int
    follows: tuple[str, ...] = ()


STAGES: Mapping[str, Stage] = MappingProxyType(
    {
        "register": Stage("spatialdino_core.movies.register", 5),
        "preview": Stage("spatialdino_core.quality.preview", 5, ("register",)),
        "review": Stage("spatialdino_core.quality.review", 4, ("preview",)),
        "deskew": Stage("spatialdino_core.geometry.stage", 2, ("register",)),
        "shard": Stage("spatialdino_core.crops.stage", 1, ("deskew",)),
        "pretrain": Stage("spatialdino_core.pretrain.stage", 1, ("shard",)),
        "repair": Stage("spatialdino_core.features.model", 1, ("pretrain", "shard")),
        "features": Stage("spatialdino_core.features.stage", 1, ("deskew", "repair")),
        "segment": Stage("spatialdino_core.segment.stage", 2, ("deskew", "features")),
        "track": Stage("spatialdino_core.track.stage", 2, ("register", "segment")),
        "report": Stage(
            "spatialdino_core.report.movie",
            3,
            ("register", "preview", "deskew", "features", "segment", "track"),
        ),
        "summary": Stage("spatialdino_core.report.summary", 2, ("review", "track", "report", "repair")),
    }
)


def followers(stage: str, among: Collection[str]) -> list[str]:
    """The stage and those of ``among`` that run again after it, in order.

    Examples
    --------
    >>> followers("segment", STAGES)
    ['segment', 'track', 'report', 'summary']
    """
    found = [stage]
    for name, other in STAGES.items():
        if name in among and name not in found and not set(other.follows).isdisjoint(found):
            found.append(name)
    return found
