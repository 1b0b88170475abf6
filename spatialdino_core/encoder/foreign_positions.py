"""How the tokens of a foreign encoder know where they are: as its file tells, or as the user says.

Learned positions and the rotary periods of DINOv3 lie in the file. The rotations of SpatialDINO do not: such
a file looks like one of an encoder without positions, and somebody has to say which it is.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, NoReturn

import torch
from torch import Tensor

from spatialdino_core.encoder.inflate import axial_rotations, inflate_positions, inflate_rotations
from spatialdino_core.encoder.layouts import ForeignEncoder
from spatialdino_core.encoder.parameters import ImportParameters
from spatialdino_core.encoder.positions import Grid
from spatialdino_core.errors import BadInputError

Scheme = Literal["none", "learned", "rope"]


def position_tensors(
    foreign: ForeignEncoder, parameters: ImportParameters, head_dim: int, grid: Grid, source: Path | str
) -> tuple[dict[str, Tensor], str]:
    """Tensors of positions under our names, and what was done, in a sentence.

    Parameters
    ----------
    foreign
        The encoder under our names.
    parameters
        What its tensors do not tell.
    head_dim
        Features per attention head.
    grid
        (gz, gy, gx) of its field of view (patches), on which rotations agree with those of the original.
    source
        Where it comes from, for messages.

    Raises
    ------
    BadInputError
        If neither file nor user tells, or they contradict each other.
    """
    told = _told(foreign)
    scheme = parameters.positions or told
    if scheme is None:
        _refuse_to_guess(foreign, source)
    if parameters.rope_base is not None and (scheme != "rope" or foreign.periods is not None):
        found = "rotary periods of its own" if foreign.periods is not None else f"positions: {scheme}"
        _refuse(source, f"{found}, and a rope_base", "one of the two", "Leave --rope-base out.")
    if scheme == "none":
        if not told:
            return {}, "positions none, as asked"
        which = "" if foreign.positions is None else f" of {len(foreign.positions)} patches"
        return {}, f"positions{which} left out on request: the encoder no longer knows where a patch is"
    if scheme == "learned" and foreign.positions is not None:
        table = _position_table(foreign, foreign.positions, grid, source)
        return {"positions.table": table}, f"learned positions of {len(foreign.positions)} patches kept"
    if scheme == "rope" and told in ("rope", None) and foreign.kind != "DINOv2":
        rotations, note = _rotations(foreign, parameters, head_dim, grid, source)
        return {"positions.frequencies": rotations}, note
    _refuse(
        source,
        f"a {foreign.kind} file {_holding(told)}, and positions: {scheme}",
        f"{told} or none" if told else "none",
        f"Say --positions {told or 'none'}" + (", or leave it out." if told else "."),
    )


def _told(foreign: ForeignEncoder) -> Scheme | None:
    """What the file tells."""
    if foreign.positions is not None:
        return "learned"
    return None if foreign.periods is None and foreign.rope_base is None else "rope"


def _holding(told: Scheme | None) -> str:
    return {"learned": "with learned positions", "rope": "of rotary positions"}.get(
        told or "", "without positions"
    )


def _position_table(foreign: ForeignEncoder, positions: Tensor, grid: Grid, source: Path | str) -> Tensor:
    """Learned positions (1, D, gz, gy, gx): those of a 3D encoder on their own cube."""
    count, width = positions.shape
    cube, square = round(count ** (1 / 3)), math.isqrt(count)
    if foreign.kind == "SpatialDINO" and cube**3 == count:
        return positions.T.reshape(1, width, cube, cube, cube)
    if foreign.kind != "SpatialDINO" and square**2 == count:
        return inflate_positions(positions, grid)
    _refuse(
        source,
        f"{count} learned positions",
        "those of a square (2D) or cubic (3D) grid",
        "Give the file as it was published; if its layout is new, it cannot be imported.",
    )


def _rotations(
    foreign: ForeignEncoder, parameters: ImportParameters, head_dim: int, grid: Grid, source: Path | str
) -> tuple[Tensor, str]:
    """Rotations (3, head_dim / 2) in radians per patch, and what they are."""
    base = parameters.rope_base or foreign.rope_base
    if foreign.kind == "SpatialDINO":
        if base is None:
            _refuse(
                source,
                "positions: rope without a base, which the file does not store",
                "the base of the periods, as in its training",
                "Say --rope-base 200 (rope_theta in SpatialDINO's configuration), or what it was.",
            )
        note = (
            f"rotations of base {base:g} along z, y and x, over coordinates from -1 to 1 on {grid[0]} patches"
        )
        return axial_rotations(head_dim, base, grid), note
    periods = foreign.periods
    if periods is None:
        assert base is not None
        periods = base ** (torch.arange(head_dim // 4, dtype=torch.float32) / (head_dim // 4))
    note = f"rotations as on an image of {grid[1]} by {grid[2]} patches, none along z"
    return inflate_rotations(periods, grid), note


def _refuse_to_guess(foreign: ForeignEncoder, source: Path | str) -> NoReturn:
    if foreign.kind == "SpatialDINO":
        _refuse(
            source,
            "no positions; an encoder whose tokens know no place and one whose tokens turn look the same",
            "to be told how it was trained: positions none or rope",
            "Say --positions none (pos_embed_type: none in SpatialDINO's configuration, as of its first "
            "weights), or --positions rope --rope-base 200 (pos_embed_type: rope, rope_theta: 200).",
        )
    _refuse(
        source,
        f"a {foreign.kind} file without positions, which the published ones have",
        "pos_embed, or to be told that there are none",
        "Give the file as it was published, or say --positions none.",
    )


def _refuse(source: Path | str, found: str, expected: str, remedy: str) -> NoReturn:
    raise BadInputError(source, found=found, expected=expected, remedy=remedy)
