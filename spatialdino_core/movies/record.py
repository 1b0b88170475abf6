"""What is known of a movie before its voxels are read: ``movie.json``, written by the register.

Everything later asks this record and not the raw files for geometry, frame count and shape.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import read_json, write_json
from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """How the microscope scanned, in the sample sheet's terms; see ``docs/sample_sheet.md``.

    Attributes
    ----------
    scan
        ``stage``, ``objective``, ``z-stage`` or ``none``.
    angle_deg
        Angle between the image plane and the stage travel; ``None`` where the scan has no skew.
    step_um
        Scan step (for ``none`` and ``objective``: the plane spacing), µm.
    pixel_um
        Pixel size, µm.
    interval_s
        Time between frames, s; ``None`` for a movie of one frame.
    skew_axis
        In-plane axis that is tilted, ``x`` or ``y``; ``None`` where the scan has no skew.
    scan_sign
        Direction of the scan, +1 or −1.
    sources
        For each of these, where the value came from.
    """

    __pydantic_config__ = STRICT
    scan: str
    angle_deg: float | None
    step_um: float
    pixel_um: float
    interval_s: float | None
    skew_axis: str | None
    scan_sign: int
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MovieRecord:
    """A registered movie.

    Attributes
    ----------
    movie, channels, paths
        Identifier; channel names and raw paths in the order of the sheet.
    train
        Whether its crops may train the model.
    acquisition
        Geometry and timing; ``None`` if the movie has a problem.
    frames
        Number of time points, missing ones included.
    shape_zyx
        Shape of a raw stack: planes, y, x.
    dtype
        Of the raw stacks.
    times_s
        Clock time of every frame, s after frame 0; empty for a movie of one frame.
    skipped
        Frames that are left out, with the reason (policy ``on_bad_frame: skip``).
    warnings
        What is odd but does not keep the movie from being used, e.g. a sheet and a file that disagree.
    reading
        What was read, for people: files, their order, the first and the last, the clock.
    problem
        Why the movie cannot be used, or ``None``.
    made
        The software that registered it.
    """

    __pydantic_config__ = STRICT
    movie: str
    channels: list[str]
    paths: list[str]
    train: bool
    acquisition: Acquisition | None = None
    frames: int = 0
    shape_zyx: tuple[int, int, int] = (0, 0, 0)
    dtype: str = ""
    times_s: list[float] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    reading: dict[str, str] = field(default_factory=dict)
    problem: str | None = None
    made: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path | str) -> None:
        """Publish as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path | str) -> MovieRecord:
        """Read what ``write`` wrote."""
        record: MovieRecord = read_json(path, cls)
        return record

    def usable(self) -> Acquisition:
        """The acquisition of a usable movie.

        Raises
        ------
        BadInputError
            With the problem that the register found.
        """
        if self.problem is not None or self.acquisition is None:
            raise BadInputError(
                f"movie '{self.movie}'",
                found=f"it unusable ({self.problem or 'no geometry'})",
                expected="a movie that the register accepts",
                remedy="Correct it and run again, or reject the movie in qc/decisions.tsv.",
            )
        return self.acquisition
