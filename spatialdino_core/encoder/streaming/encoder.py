"""The encoder on volumes of more tokens than fit at once: every token attends to every other, in parts.

What comes out is what `VisionTransformer3D` gives for the whole volume: nothing is cut, blended or left out.
Memory depends on the size of blocks (``token_blocks.py``) and on where tokens are kept (``token_store.py``).
Patches without data are left out, and equal ones computed once (``token_layout.py``).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialdino_core.encoder.precision import arithmetic, autocast
from spatialdino_core.encoder.streaming.token_blocks import TokenBlocks
from spatialdino_core.encoder.streaming.token_layout import TokenLayout, lay_out
from spatialdino_core.encoder.streaming_parameters import StreamingParameters
from spatialdino_core.encoder.vit import Block, VisionTransformer3D
from spatialdino_core.errors import BadInputError
from spatialdino_core.kernels.attention import choose_backend
from spatialdino_core.parameters import Precision


@dataclass(frozen=True)
class AttentionReport:
    """How a volume was attended to.

    Attributes
    ----------
    backend, precision, store
        What was used.
    patches
        Patches of the grid.
    tokens
        Those with data, and the class token and registers.
    distinct_tokens
        Tokens that were computed, after equal ones became one.
    """

    backend: str
    precision: str
    store: str
    patches: int
    tokens: int
    distinct_tokens: int


@dataclass(frozen=True)
class StreamedOutput:
    """What the encoder says about one volume.

    Attributes
    ----------
    patch_tokens
        (gz, gy, gx, D) float32, after the final norm; NaN where not valid. Of a disk store, it is a map of a
        file without a name.
    class_token
        (D,) float32.
    class_attention
        (heads, gz, gy, gx) float32 or None: as ``EncoderOutput.class_attention``; 0 where not valid.
    report
        How.
    """

    patch_tokens: NDArray[np.float32]
    class_token: NDArray[np.float32]
    class_attention: NDArray[np.float32] | None
    report: AttentionReport


class StreamingEncoder:
    """An encoder for volumes of any size.

    Parameters
    ----------
    encoder
        Is moved to the device.
    parameters
        How; see there for the names of all settings.
    device
        Where to compute.
    precision
        Of products, keys and values; the tokens themselves stay float32.
    folder
        For a store on disk; None for the system's temporary folder.
    """

    def __init__(
        self,
        encoder: VisionTransformer3D,
        parameters: StreamingParameters = StreamingParameters(),  # noqa: B008 - frozen
        *,
        device: torch.device | str = "cpu",
        precision: Precision = "auto",
        folder: Path | None = None,
    ) -> None:
        self.device, self.folder, self.parameters = torch.device(device), folder, parameters
        self.encoder = encoder.to(self.device)
        self.dtype = arithmetic(precision, self.device)
        head_dim = encoder.architecture.head_dim
        self.backend = choose_backend(parameters.backend, self.device, self.dtype, head_dim)

    @torch.no_grad()
    def __call__(
        self,
        volume: NDArray[np.float32],
        valid: NDArray[np.bool_] | None = None,
        *,
        class_attention: bool = False,
    ) -> StreamedOutput:
        """Encode one volume.

        Parameters
        ----------
        volume
            (C, Z, Y, X) float32 in [0, 1], sides multiples of the patch. May be a map of a file.
        valid
            (gz, gy, gx) bool, patches with data; the others are neither computed nor seen. None for all.
        class_attention
            Whether to return the class token's attention over the patches.

        Raises
        ------
        BadInputError
            If the volume does not fit the encoder, or no patch has data.
        """
        self._check(volume, valid)
        side = self.encoder.architecture.patch_voxels
        merge = self.parameters.merge_identical and self.encoder.architecture.positions == "none"
        layout = lay_out(volume, side, valid, merge=merge)
        tokens = TokenBlocks(
            self.encoder, layout, self.parameters, self.dtype, self.backend.attend, self.folder
        )
        with contextlib.closing(tokens), autocast(self.device, self.dtype):
            tokens.embed(volume)
            scores = self._layers(tokens, class_attention)
            patches, class_token = tokens.outputs()
        attention = None if scores is None else _spread_attention(scores, layout)
        return StreamedOutput(patches, class_token, attention, self._report(tokens))

    def _layers(self, tokens: TokenBlocks, class_attention: bool) -> Tensor | None:
        """All blocks; the class token's scores for the patch rows in the last one."""
        scores = None
        for depth, block in enumerate(self.encoder.blocks):
            assert isinstance(block, Block)
            scores = tokens.store_keys(block, score=class_attention and depth == len(self.encoder.blocks) - 1)
            tokens.mix(block)
        return scores

    def _report(self, tokens: TokenBlocks) -> AttentionReport:
        return AttentionReport(
            backend=self.backend.name,
            precision=str(self.dtype).removeprefix("torch."),
            store=tokens.kind,
            patches=len(tokens.layout.row_of),
            tokens=tokens.leading + int(tokens.layout.count.sum()),
            distinct_tokens=tokens.tokens,
        )

    def _check(self, volume: NDArray[np.float32], valid: NDArray[np.bool_] | None) -> None:
        side, channels = self.encoder.architecture.patch_voxels, self.encoder.architecture.channels
        fits = volume.ndim == 4 and len(volume) == channels and min(volume.shape) > 0
        if not fits or any(length % side for length in volume.shape[1:]):
            raise BadInputError(
                "encoder input",
                found=f"shape {volume.shape}",
                expected=f"({channels}, Z, Y, X) with Z, Y and X multiples of {side} voxels",
                remedy="Pad or crop the volume to whole patches, with the channels of these weights.",
            )
        grid = tuple(length // side for length in volume.shape[1:])
        if valid is None:
            return
        if valid.shape != grid or valid.dtype != bool:
            raise BadInputError(
                "encoder input, valid",
                found=f"{valid.dtype} of shape {valid.shape}",
                expected=f"bool of shape {grid}, one per patch",
                remedy="Give one value per patch.",
            )
        if not valid.any():
            raise BadInputError(
                "encoder input, valid",
                found="no patch with data",
                expected="at least one",
                remedy="Leave this frame out.",
            )


def _spread_attention(scores: Tensor, layout: TokenLayout) -> NDArray[np.float32]:
    """Softmax over all patches, (heads, gz, gy, gx), of the scores (heads, T) of the rows."""
    count = torch.from_numpy(layout.count)
    share = ((scores + count.log()).softmax(-1) / count).float().numpy()
    spread = np.zeros((len(share), len(layout.row_of)), np.float32)
    known = layout.row_of >= 0
    spread[:, known] = share[:, layout.row_of[known]]
    return spread.reshape(len(share), *layout.grid)
