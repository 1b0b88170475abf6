"""Settings of feature extraction."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spatialdino_core.encoder.streaming_parameters import StreamingParameters
from spatialdino_core.parameters import STRICT, Precision


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FeatureParameters:
    """How a movie's frames are turned into features.

    The voxel size and the intensity scale are not settings: they are the weights' own.
    """

    use: Annotated[
        Literal["auto", "always", "never"],
        Field(
            description="whether features are computed; auto: of movies in which detection without them is "
            "expected to find too little"
        ),
    ] = "auto"
    enough_f1: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="with 'use: auto', the expected F1 score without features that will do (1)",
        ),
    ] = 0.95
    components: Annotated[
        int,
        Field(
            ge=1,
            le=8192,
            description="principal components kept per patch; no more than the encoder has features",
        ),
    ] = 32
    channels: Annotated[
        Literal["trained", "any"],
        Field(
            description="a movie's tracked channel must be one that the weights were trained on, by its "
            "name, or is encoded whichever it is"
        ),
    ] = "trained"
    keep: Annotated[
        Literal["components", "all"], Field(description="store principal components, or every feature")
    ] = "components"
    context: Annotated[
        Literal["window", "global"],
        Field(
            description="what a patch sees: windows of the size the encoder was trained on, or the whole "
            "frame (slow, and not what it was trained on; the difference is measured)"
        ),
    ] = "window"
    precision: Annotated[
        Precision,
        Field(
            description="arithmetic of the encoder; auto: bfloat16 on a GPU, float32 on the CPU, where "
            "bfloat16 is faster if the processor knows it"
        ),
    ] = "auto"
    streaming: StreamingParameters = Field(
        default_factory=StreamingParameters,
        description="with 'context: global', how a whole frame is encoded",
    )
    overlap: Annotated[
        float, Field(ge=0, lt=1, description="overlap of neighbouring windows (fraction of a window)")
    ] = 0.5
    window_batch: Annotated[int, Field(ge=1, le=4096, description="windows encoded at once")] = 8
    calibration_frames: Annotated[
        int,
        Field(ge=1, le=1000, description="first frames of a movie that set its foreground model (frames)"),
    ] = 1  # a rewritten calibration frame costs the whole movie, any other frame only itself
    bright_percentile: Annotated[
        float,
        Field(gt=70, lt=100, description="patches with more fine detail than this are sure to be bright (%)"),
    ] = 95.0
    detail_voxels: Annotated[
        float,
        Field(gt=0, le=20, description="standard deviation of the smallest structures (isotropic voxels)"),
    ] = 1.2
    high_resolution: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(activation|foreground|component_\d+)$")], ...],
        Field(
            description="maps to write on the image's own grid, too: activation, foreground, component_0 …"
        ),
    ] = ()
    upsampling: Annotated[
        Literal["trilinear", "guided"],
        Field(description="how: by linear interpolation alone, or keeping to the edges of the image"),
    ] = "guided"
    guide_range: Annotated[
        float,
        Field(
            gt=0,
            le=10,
            description="with 'guided', how far intensities of one structure differ (of full scale)",
        ),
    ] = 0.1
    processes: Annotated[
        int,
        Field(
            ge=1, le=256, description="processes on one machine that share the frames of a movie, one per GPU"
        ),
    ] = 1

    @property
    def of_result(self) -> dict[str, object]:
        """What the features of a frame depend on."""
        apart = {"use", "enough_f1", "channels", "high_resolution", "upsampling", "guide_range", "processes"}
        apart |= {"streaming"} if self.context == "window" else {"overlap", "window_batch"}
        return {name: value for name, value in asdict(self).items() if name not in apart}
