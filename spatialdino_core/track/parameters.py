"""Settings of tracking. What is measured on the movie itself (spread of steps, births) is no setting."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrackParameters:
    """How far particles may move, how long they may be unseen, and what counts besides position."""

    max_displacement_um: Annotated[
        float, Field(gt=0, le=100, description="largest step in the usual interval between frames (µm)")
    ] = 1.0
    max_gap_frames: Annotated[
        int,
        Field(ge=0, le=100, description="longest time that a particle may be unseen within a track (frames)"),
    ] = 4
    min_length_frames: Annotated[
        int, Field(ge=1, le=10**6, description="shorter tracks are dropped; 1 keeps all (frames)")
    ] = 1
    min_track_confidence: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="tracks less likely than this to be particles are dropped; 0 keeps all (1)",
        ),
    ] = 0.5
    min_mean_confidence: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="tracks whose objects are less confident detections on average are dropped: texture "
            "comes back in every frame, and is no likelier a particle for that; 0 keeps all (1)",
        ),
    ] = 0.3
    intensity_weight: Annotated[
        float,
        Field(ge=0, le=10, description="weight of the likelihood of brightness beside that of position (1)"),
    ] = 1.0
    feature_weight: Annotated[
        float,
        Field(ge=0, le=10, description="weight of the likelihood of features, where the table has any (1)"),
    ] = 1.0
    border_um: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="no appearance or disappearance is reported this close to the border (µm)",
        ),
    ] = 0.5
    min_event_score: Annotated[
        float,
        Field(
            ge=0, le=1, description="candidate splits and merges below this probability are not listed (1)"
        ),
    ] = 0.5
