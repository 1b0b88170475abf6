"""Settings of the streaming encoder. They change time and memory, not the features."""

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
            le=10**8,
            description="What the store device may hold (MB = 10^6 bytes); null: 80 % of free GPU memory, "
            "a quarter of the memory of the machine",
        ),
    ] = None
    query_block_tokens: Annotated[
        int,
        Field(ge=1, le=2**24, description="Tokens that ask at once; some 20 times their bytes are worked on"),
    ] = 16384
    key_block_tokens: Annotated[
        int,
        Field(
            ge=1, le=2**26, description="Keys and values that are asked at once; two such blocks are in work"
        ),
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
