"""The point spread function that a run counts with. Not that of a simulated movie (``simulate/``)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OpticsParameters:
    """Gaussian widths of the point spread function.

    The defaults are about those of a bead measured on a lattice light-sheet microscope.
    """

    sigma_lateral_um: Annotated[
        float,
        Field(gt=0, le=5, description="standard deviation of the point spread function along y and x (µm)"),
    ] = 0.13
    sigma_axial_um: Annotated[
        float, Field(gt=0, le=5, description="standard deviation of the point spread function along z (µm)")
    ] = 0.33
