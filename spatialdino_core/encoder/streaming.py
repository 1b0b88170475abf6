"""The encoder on volumes of more tokens than fit at once: every token attends to every other, in parts.

What comes out is what `VisionTransformer3D` gives for the whole volume: nothing is cut, blended or left out.
In each layer keys and values of all tokens are stored first; then blocks of tokens attend to blocks of keys,
which are merged by their log-sum-exp, and are written back in place. Memory depends on the blocks, and on
where tokens are kept (`token_store`). Patches without data are left out, and equal ones computed once.

Not exact on request only: see `clustered`, of which each layer is checked here on sampled tokens.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialdino_core.encoder.attention import class_scores
from spatialdino_core.encoder.clustered import Clusters, cluster_keys
from spatialdino_core.encoder.streaming_parameters import StreamingParameters
from spatialdino_core.encoder.token_layout import TokenLayout, lay_out, tile_voxels, tiles
from spatialdino_core.encoder.token_store import TokenStore, choose_store, make_store, nameless_file
from spatialdino_core.encoder.vit import Block, VisionTransformer3D
from spatialdino_core.errors import BadInputError
from spatialdino_core.kernels.attention import attend_in_parts, choose_backend

Part = tuple[Tensor, Tensor, Tensor | None]


@dataclass(frozen=True)
class AttentionReport:
    """How a volume was attended to.

    Attributes
    ----------
    mode
        ``exact`` or ``clustered``, as asked for.
    backend, precision, store
        What was used.
    patches
        Patches of the grid.
    tokens
        Those with data, and the class token and registers.
    distinct_tokens
        Tokens that were computed, after equal ones became one.
    clusters
        Of each layer; 0 where all keys were used. Empty if ``mode`` is exact.
    errors
        Mean relative error of the attention output of sampled tokens, of each layer, with the clusters that
        were used (0 where all keys were): the worse of foreground and background. Empty if ``mode`` is exact.
    refused_errors
        For each layer those with fewer clusters, which were refused.
    accepted_error
        The greatest of ``errors``; 0 if exact.
    pairs_gain
        Pairs of query and key of exact attention between the distinct tokens, over the pairs that were
        computed, those of clustering and checking included.
    """

    mode: Literal["exact", "clustered"]
    backend: str
    precision: str
    store: str
    patches: int
    tokens: int
    distinct_tokens: int
    clusters: tuple[int, ...] = ()
    errors: tuple[float, ...] = ()
    refused_errors: tuple[tuple[float, ...], ...] = ()
    accepted_error: float = 0.0
    pairs_gain: float = 1.0


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


@dataclass
class _Tally:
    """What happened in the layers."""

    clusters: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    refused: list[tuple[float, ...]] = field(default_factory=list)
    pairs: int = 0


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
    folder
        For a store on disk; None for the system's temporary folder.
    """

    def __init__(
        self,
        encoder: VisionTransformer3D,
        parameters: StreamingParameters = StreamingParameters(),  # noqa: B008 - frozen
        *,
        device: torch.device | str = "cpu",
        folder: Path | None = None,
    ) -> None:
        self.device, self.folder, self.parameters = torch.device(device), folder, parameters
        self.encoder = encoder.to(self.device)
        half = parameters.precision == "bfloat16"
        half |= parameters.precision == "auto" and self.device.type == "cuda"
        self.dtype = torch.bfloat16 if half else torch.float32
        head_dim = encoder.architecture.head_dim
        self.backend = choose_backend(parameters.backend, self.device, self.dtype, head_dim)

    @torch.no_grad()
    def __call__(
        self,
        volume: NDArray[np.float32],
        valid: NDArray[np.bool_] | None = None,
        foreground: NDArray[np.bool_] | None = None,
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
        foreground
            (gz, gy, gx) bool, patches that clustered attention keeps exact; None: those that are brighter
            than most (``token_layout.bright_patches``).
        class_attention
            Whether to return the class token's attention over the patches.

        Raises
        ------
        BadInputError
            If the volume does not fit the encoder, or no patch has data.
        """
        self._check(volume, valid, foreground)
        side = self.encoder.architecture.patch_voxels
        merge = self.parameters.merge_identical and self.encoder.architecture.positions == "none"
        clustered = self.parameters.attention == "clustered"
        layout = lay_out(volume, side, valid, foreground, merge=merge, clustered=clustered)
        run = _Run(self, layout)
        with contextlib.closing(run), self._autocast():
            run.embed(volume)
            scores = run.layers(class_attention)
            patches, class_token = run.outputs()
        attention = None if scores is None else _spread_attention(scores, layout)
        return StreamedOutput(patches, class_token, attention, run.report())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _check(
        self,
        volume: NDArray[np.float32],
        valid: NDArray[np.bool_] | None,
        foreground: NDArray[np.bool_] | None,
    ) -> None:
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
        for name, mask in (("valid", valid), ("foreground", foreground)):
            if mask is not None and (mask.shape != grid or mask.dtype != bool):
                raise BadInputError(
                    f"encoder input, {name}",
                    found=f"{mask.dtype} of shape {mask.shape}",
                    expected=f"bool of shape {grid}, one per patch",
                    remedy="Give one value per patch.",
                )
        if valid is not None and not valid.any():
            raise BadInputError(
                "encoder input, valid",
                found="no patch with data",
                expected="at least one",
                remedy="Leave this frame out.",
            )


class _Run:
    """The encoding of one volume: tokens in their store, layer by layer."""

    def __init__(self, owner: StreamingEncoder, layout: TokenLayout) -> None:
        self.owner, self.layout, self.encoder = owner, layout, owner.encoder
        self.device, self.parameters, self.attend = owner.device, owner.parameters, owner.backend.attend
        architecture = self.encoder.architecture
        self.leading = self.encoder.first_patch
        self.tokens = self.leading + len(layout.patch)
        self.exact = self.leading + layout.foreground if self._clustered else self.tokens
        heads, width = architecture.heads, architecture.embed_dim
        needed = self.tokens * width * (4 + 2 * owner.dtype.itemsize)
        self.kind = choose_store(needed, self.parameters, self.device)
        place = (self.device, owner.folder)
        self.x: TokenStore = make_store(self.kind, (1, self.tokens, width), torch.float32, *place)
        both = (2 * heads, self.tokens, architecture.head_dim)
        self.keys: TokenStore = make_store(self.kind, both, owner.dtype, *place)
        count = torch.from_numpy(layout.count).float()
        self.merged = bool((layout.count > 1).any())
        self.count = torch.cat([torch.ones(self.leading), count]).to(self.device)
        self.tally = _Tally()

    @property
    def _clustered(self) -> bool:
        return self.parameters.attention == "clustered"

    def close(self) -> None:
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
            rows = layout.row_of[start + wanted]
            # In raster order the rows of foreground follow one another, and so do those of background.
            for part in (rows < layout.foreground, rows >= layout.foreground):
                if part.any():
                    run = slice(int(rows[part][0]), int(rows[part][-1]) + 1)
                    new = tokens[torch.from_numpy(wanted[part]).to(self.device)]
                    self._write_patches(run, new + self._positions(run))

    def _write_patches(self, run: slice, tokens: Tensor) -> None:
        self.x.write(slice(self.leading + run.start, self.leading + run.stop), tokens[None])

    def _positions(self, run: slice) -> Tensor | float:
        """What is added to the patches of a run of rows."""
        if self.encoder.architecture.positions not in ("learned", "sincos"):
            return 0.0
        return self.encoder.positions.at(self.layout.places(run).to(self.device), self.layout.grid)

    def _rotation(self, rows: slice) -> Tensor | None:
        if self.encoder.architecture.positions != "rope":
            return None
        leading = max(0, min(self.leading, rows.stop) - rows.start)
        run = slice(max(0, rows.start - self.leading), max(0, rows.stop - self.leading))
        places = self.layout.places(run).to(self.device)
        return self.encoder.positions.at(places, self.layout.grid, leading)

    def layers(self, class_attention: bool) -> Tensor | None:
        """All blocks; the class token's scores (heads, T) for the patch rows in the last one."""
        scores = None
        for depth, block in enumerate(self.encoder.blocks):
            last = depth == len(self.encoder.blocks) - 1
            found = self._store_keys(cast(Block, block), class_attention and last)
            scores = found if last else None
            clusters = self._accepted_clusters(cast(Block, block), depth) if self._clustered else None
            self._mix(cast(Block, block), clusters)
        return scores

    def _store_keys(self, block: Block, score: bool) -> Tensor | None:
        """Keys and values of all tokens for one block."""
        class_query, scores = None, []
        for rows, x in self.x.blocks(self.parameters.query_block_tokens):
            query, key, value = block.attn.split(block.norm1(x), self._rotation(rows))
            self.keys.write(rows, torch.cat([key[0], value[0]]))
            if score:
                class_query = query[:, :, :1] if class_query is None else class_query
                scores.append(class_scores(class_query, key)[0].cpu())
        return torch.cat(scores, 1)[:, self.leading :] if score else None

    def _mix(self, block: Block, clusters: Clusters | None) -> None:
        """Attention and feed-forward of all tokens, in place."""
        for rows, x in self.x.blocks(self.parameters.query_block_tokens):
            query = block.attn.split(block.norm1(x), self._rotation(rows))[0][0]
            mixed, _ = attend_in_parts(self.attend, query, self._parts(clusters))
            x = x + block.ls1(block.attn.join(mixed[None]))
            self.x.write(rows, x + block.ls2(block.mlp(block.norm2(x))))
        used = self.tokens if clusters is None else self.exact + clusters.key.shape[1]
        self.tally.pairs += self.tokens * used

    def _parts(self, clusters: Clusters | None) -> Iterator[Part]:
        """Keys, values and log-weights to attend to: all, or those not clustered, then the clusters."""
        heads = self.keys.shape[0] // 2
        stop = self.tokens if clusters is None else self.exact
        for rows, both in self.keys.blocks(self.parameters.key_block_tokens, 0, stop):
            log_weight = self.count[None, rows].log() if self.merged else None
            yield both[:heads], both[heads:], log_weight
        if clusters is not None:
            yield clusters.key, clusters.value, clusters.log_weight

    def _accepted_clusters(self, block: Block, depth: int) -> Clusters | None:
        """The fewest clusters, doubled from the first number, whose error is tolerated; None for all keys."""
        rows, query = self._sampled_queries(block, depth)
        clusters, refused, background = self.parameters.clusters, list[float](), self.tokens - self.exact
        truth: Tensor | None = None
        while len(rows) and clusters <= background // 2:
            found = cluster_keys(
                self.keys,
                self.exact,
                self.count[self.exact :],
                clusters,
                query,
                self.parameters.query_block_tokens,
            )
            if truth is None:
                truth, _ = attend_in_parts(self.attend, query, self._parts(None))
                self.tally.pairs += len(rows) * self.tokens
            approximate, _ = attend_in_parts(self.attend, query, self._parts(found))
            self.tally.pairs += background * clusters + len(rows) * (self.exact + clusters)
            error = _worse_error(approximate, truth, rows < self.exact)
            if error <= self.parameters.tolerance:
                self._note(clusters, error, refused)
                return found
            refused.append(error)
            clusters *= 2
        self._note(0, 0.0, refused)
        return None

    def _note(self, clusters: int, error: float, refused: list[float]) -> None:
        self.tally.clusters.append(clusters)
        self.tally.errors.append(error)
        self.tally.refused.append(tuple(refused))

    def _sampled_queries(self, block: Block, depth: int) -> tuple[Tensor, Tensor]:
        """Rows (S,) and queries (heads, S, d) of some tokens, half of them foreground if there are as many."""
        generator = np.random.default_rng((self.parameters.seed, depth))
        half = self.parameters.sampled_queries // 2
        strata = (range(0, self.exact), range(self.exact, self.tokens))
        drawn = [generator.choice(rows, min(half, len(rows)), replace=False) for rows in strata]
        chosen = torch.from_numpy(np.sort(np.concatenate(drawn)))
        queries = []
        for rows, x in self.x.blocks(self.parameters.query_block_tokens):
            inside = chosen[(chosen >= rows.start) & (chosen < rows.stop)] - rows.start
            if len(inside):
                rotation = self._rotation(rows)
                rotation = None if rotation is None else rotation[:, inside]
                queries.append(block.attn.split(block.norm1(x[:, inside]), rotation)[0][0])
        return chosen, torch.cat(queries, 1)

    def outputs(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Patch tokens on their grid and the class token, after the final norm."""
        layout, width = self.layout, self.encoder.architecture.embed_dim
        class_token = self.encoder.norm(self.x.read(slice(0, 1)))[0, 0].float().cpu().numpy()
        shape = (len(layout.row_of), width)
        if self.kind != "disk":
            patches = np.empty(shape, np.float32)
            self._spread(lambda: patches)
            return patches.reshape(*layout.grid, width), class_token
        with nameless_file(self.owner.folder, shape[0] * shape[1] * 4) as file:
            mapped = functools.partial(np.memmap, file, np.float32, "r+", shape=shape)
            self._spread(mapped)
            return mapped().reshape(*layout.grid, width), class_token

    def _spread(self, opened: Callable[[], NDArray[np.float32]]) -> None:
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

    def report(self) -> AttentionReport:
        """What was done."""
        tally, layers = self.tally, len(self.encoder.blocks)
        return AttentionReport(
            mode=self.parameters.attention,
            backend=self.owner.backend.name,
            precision=str(self.owner.dtype).removeprefix("torch."),
            store=self.kind,
            patches=len(self.layout.row_of),
            tokens=self.leading + int(self.layout.count.sum()),
            distinct_tokens=self.tokens,
            clusters=tuple(tally.clusters),
            errors=tuple(tally.errors),
            refused_errors=tuple(tally.refused),
            accepted_error=max(tally.errors, default=0.0),
            pairs_gain=layers * self.tokens**2 / tally.pairs,
        )


def _worse_error(approximate: Tensor, truth: Tensor, foreground: Tensor) -> float:
    """Mean relative error of (heads, S, d) outputs over sampled tokens, the worse of both kinds of token."""
    difference = (approximate - truth).square().sum((0, 2)).sqrt()
    relative = (difference / truth.square().sum((0, 2)).sqrt()).cpu()
    kinds = [relative[kind] for kind in (foreground, ~foreground) if kind.any()]
    return max(float(kind.mean()) for kind in kinds)


def _spread_attention(scores: Tensor, layout: TokenLayout) -> NDArray[np.float32]:
    """Softmax over all patches, (heads, gz, gy, gx), of the scores (heads, T) of the rows."""
    count = torch.from_numpy(layout.count)
    share = ((scores + count.log()).softmax(-1) / count).float().numpy()
    spread = np.zeros((len(share), len(layout.row_of)), np.float32)
    known = layout.row_of >= 0
    spread[:, known] = share[:, layout.row_of[known]]
    return spread.reshape(len(share), *layout.grid)
