"""One volume's tokens in their stores, and what is done to all of them block by block. No decisions.

What a layer needs of all tokens, keys and values, is stored before any token changes; then blocks of tokens
attend to blocks of keys, merged by their log-sum-exp, and are written back in place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialdino_core.encoder.attention import class_scores
from spatialdino_core.encoder.positions import LearnedPositions, RotaryPositions, SinePositions
from spatialdino_core.encoder.streaming.token_layout import TokenLayout, tile_voxels, tiles
from spatialdino_core.encoder.streaming.token_store import TokenStore, choose_store, make_store, nameless_file
from spatialdino_core.encoder.streaming_parameters import StreamingParameters
from spatialdino_core.encoder.vit import Block, VisionTransformer3D
from spatialdino_core.kernels.attention import Attend, attend_in_parts

Part = tuple[Tensor, Tensor, Tensor | None]


class TokenBlocks:
    """Tokens of one volume: leading ones (class, registers), then patches as laid out.

    Parameters
    ----------
    encoder
        On its device.
    layout
        Which patches, in which order.
    parameters
        Sizes of blocks, and where tokens lie.
    dtype
        Of keys and values.
    attend
        Backend of attention.
    folder
        For a store on disk.
    """

    def __init__(
        self,
        encoder: VisionTransformer3D,
        layout: TokenLayout,
        parameters: StreamingParameters,
        dtype: torch.dtype,
        attend: Attend,
        folder: Path | None,
    ) -> None:
        self.encoder, self.layout, self.parameters = encoder, layout, parameters
        self.attend, self.folder, self.device = attend, folder, encoder.cls_token.device
        self.leading = encoder.first_patch
        self.tokens = self.leading + len(layout.patch)
        heads, width = encoder.architecture.heads, encoder.architecture.embed_dim
        self.kind = choose_store(self.tokens * width * (4 + 2 * dtype.itemsize), parameters, self.device)
        place = (self.device, folder)
        self.x: TokenStore = make_store(self.kind, (1, self.tokens, width), torch.float32, *place)
        both = (2 * heads, self.tokens, encoder.architecture.head_dim)
        self.keys: TokenStore = make_store(self.kind, both, dtype, *place)
        count = torch.from_numpy(layout.count).float()
        self.count = torch.cat([torch.ones(self.leading), count]).to(self.device)
        self.merged = bool((count > 1).any())

    def close(self) -> None:
        """Free the stores."""
        self.x.close()
        self.keys.close()

    def embed(self, volume: NDArray[np.float32]) -> None:
        """Write the tokens before the first block."""
        encoder, layout = self.encoder, self.layout
        side = encoder.architecture.patch_voxels
        self.x.write(slice(0, self.leading), encoder.leading_tokens())
        is_first = np.zeros(len(layout.row_of), bool)
        is_first[layout.patch] = True
        for start, z, y in tiles(layout.grid):
            stop = start + (y.stop - y.start) * layout.grid[2]
            wanted = np.flatnonzero(is_first[start:stop])
            if not wanted.size:
                continue
            voxels = torch.from_numpy(tile_voxels(volume, side, z, y)).to(self.device)
            tokens = encoder.patch_embed(voxels[None]).flatten(2)[0].T.float()
            rows = layout.row_of[start + wanted]  # follow one another, as the patches do
            run = slice(int(rows[0]), int(rows[-1]) + 1)
            new = tokens[torch.from_numpy(wanted).to(self.device)] + self._positions(run)
            self.x.write(slice(self.leading + run.start, self.leading + run.stop), new[None])

    def _positions(self, run: slice) -> Tensor | float:
        """What is added to the patches of a run of rows."""
        positions = getattr(self.encoder, "positions", None)
        if not isinstance(positions, LearnedPositions | SinePositions):
            return 0.0
        return positions.at(self.layout.places(run).to(self.device), self.layout.grid)

    def _rotation(self, rows: slice) -> Tensor | None:
        """What queries and keys of a range of rows are turned by, leading tokens not at all."""
        positions = getattr(self.encoder, "positions", None)
        if not isinstance(positions, RotaryPositions):
            return None
        leading = max(0, min(self.leading, rows.stop) - rows.start)
        run = slice(max(0, rows.start - self.leading), max(0, rows.stop - self.leading))
        places = self.layout.places(run).to(self.device)
        return positions.at(places, self.layout.grid, leading)

    def store_keys(self, block: Block, *, score: bool) -> Tensor | None:
        """Store keys and values of all tokens.

        With ``score``, returns the class token's scores (heads, T) for the patch rows, on the CPU.
        """
        class_query, scores = None, []
        for rows, x in self.x.blocks(self.parameters.query_block_tokens):
            query, key, value = block.attn.split(block.norm1(x), self._rotation(rows))
            self.keys.write(rows, torch.cat([key[0], value[0]]))
            if score:
                class_query = query[:, :, :1] if class_query is None else class_query
                scores.append(class_scores(class_query, key)[0].cpu())
        return torch.cat(scores, 1)[:, self.leading :] if score else None

    def mix(self, block: Block) -> None:
        """Attention and feed-forward of all tokens, in place."""
        for rows, x in self.x.blocks(self.parameters.query_block_tokens):
            query = block.attn.split(block.norm1(x), self._rotation(rows))[0][0]
            mixed, _ = attend_in_parts(self.attend, query, self._parts())
            x = x + block.ls1(block.attn.join(mixed[None]))
            self.x.write(rows, x + block.ls2(block.mlp(block.norm2(x))))

    def _parts(self) -> Iterator[Part]:
        """Keys, values and log-weights of all tokens, to attend to."""
        heads = self.keys.shape[0] // 2
        for rows, both in self.keys.blocks(self.parameters.key_block_tokens):
            log_weight = self.count[None, rows].log() if self.merged else None
            yield both[:heads], both[heads:], log_weight

    def outputs(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Patch tokens on their grid and the class token, after the final norm."""
        layout, width = self.layout, self.encoder.architecture.embed_dim
        class_token = self.encoder.norm(self.x.read(slice(0, 1)))[0, 0].float().cpu().numpy()
        shape = (len(layout.row_of), width)
        if self.kind != "disk":
            patches = np.empty(shape, np.float32)
            self._spread(lambda: patches)
            return patches.reshape(*layout.grid, width), class_token
        with nameless_file(self.folder, shape[0] * shape[1] * 4) as file:
            mapped: Any = functools.partial(np.memmap, file, np.float32, "r+", shape=shape)
            self._spread(mapped)
            return mapped().reshape(*layout.grid, width), class_token

    def _spread(self, opened: Callable[[], Any]) -> None:
        """Write each row to all patches that it stands for, NaN to those without data.

        ``opened`` gives the array (N, D) anew for each block: what a map of a file has touched is memory of
        the process until it is closed.
        """
        row_of = self.layout.row_of
        order = np.argsort(row_of, kind="stable")
        sorted_rows = row_of[order]
        opened()[order[: np.searchsorted(sorted_rows, 0)]] = np.nan
        for rows, x in self.x.blocks(self.parameters.query_block_tokens, self.leading):
            first = rows.start - self.leading
            between = np.searchsorted(sorted_rows, (first, rows.stop - self.leading))
            places = order[slice(*between)]
            opened()[places] = self.encoder.norm(x)[0].float().cpu().numpy()[row_of[places] - first]
