"""The version of each stage's results. Raise it when they move; then they are computed anew.

Versions, settings and inputs decide what runs; what the code looks like does not. The tests in
``tests/golden`` fail when a stage's results moved and its number did not; where they cannot see (a GPU, a
rare file), raise it all the same: a result that is stale is worse than one that is computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """

    module: str
    version: int


STAGES: Mapping[str, Stage] = MappingProxyType(
    {
        "register": Stage("spatialdino_core.movies.register", 5),
        "preview": Stage("spatialdino_core.quality.preview", 5),
        "review": Stage("spatialdino_core.quality.review", 4),
        "deskew": Stage("spatialdino_core.geometry.stage", 2),
        "shard": Stage("spatialdino_core.crops.stage", 1),
        "pretrain": Stage("spatialdino_core.pretrain.stage", 1),
        "repair": Stage("spatialdino_core.features.model", 1),
        "features": Stage("spatialdino_core.features.stage", 1),
        "segment": Stage("spatialdino_core.segment.stage", 2),
        "track": Stage("spatialdino_core.track.stage", 2),
        "report": Stage("spatialdino_core.report.movie", 2),
        "summary": Stage("spatialdino_core.report.summary", 1),
    }
)
