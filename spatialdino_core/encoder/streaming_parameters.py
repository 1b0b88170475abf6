"""Settings of the streaming encoder. They change time and memory, and in ``clustered`` alone the features."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT

StoreKind = Literal["device", "cpu", "disk"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StreamingParameters:
    """How a volume of more tokens than fit at once is encoded in parts."""

    store: Annotated[
        Literal["auto", "device", "cpu", "disk"],
        Field(
            description="Where tokens, keys and values lie: on the computing device, in the machine's "
            "memory, or in files without a name that vanish with the process; auto: the first that holds them"
        ),
    ] = "auto"
    budget_mb: Annotated[
        int | None,
        Field(
            ge=1,
            description="What the store device may hold (MB = 10^6 bytes); null: 80 % of free GPU memory, "
            "a quarter of the memory of the machine",
        ),
    ] = None
    query_block_tokens: Annotated[
        int, Field(ge=1, description="Tokens that ask at once; some 20 times their bytes are worked on")
    ] = 16384
    key_block_tokens: Annotated[
        int, Field(ge=1, description="Keys and values that are asked at once; two such blocks are in work")
    ] = 65536
    backend: Annotated[
        Literal["auto", "sdpa", "triton", "cpu"],
        Field(description="Kernel of attention; auto: the fastest known that passes a test at the start"),
    ] = "auto"
    merge_identical: Annotated[
        bool,
        Field(
            description="Encode patches of equal bits once, with the logarithm of their number; exact, and "
            "only done for encoders without positions"
        ),
    ] = True
    attention: Annotated[
        Literal["exact", "clustered"],
        Field(description="All keys, or foreground exactly and background by its clusters in each layer"),
    ] = "exact"
    clusters: Annotated[
        int, Field(ge=1, description="Clusters of background keys per head that are tried first")
    ] = 256
    tolerance: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Mean relative error of sampled attention outputs up to which clusters are accepted; "
            "beyond it they are doubled, and at last the layer is exact",
        ),
    ] = 0.01
    sampled_queries: Annotated[
        int, Field(ge=2, description="Tokens per layer whose attention is also computed exactly")
    ] = 512
    seed: Annotated[int, Field(ge=0, description="Of the choice of sampled tokens")] = 0
