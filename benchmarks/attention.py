"""Attention and the streaming encoder: speed of the kernels, memory of the stores.

    python benchmarks/attention.py [--rounds 3] [--quick] [--only PART …]
        [--out build/benchmarks/attention.json]

kernels: six heads of 64 features, one thread, each backend in turn with torch's scaled_dot_product_attention
on the same tensors, in each round; CPU seconds beside wall seconds, because other work may share the machine.
The error is that of 64 rows against a softmax in float64. ``--gpu`` times the backends of a GPU instead, on
131 072 queries against all keys.
encoder: the bundled encoder, streamed, beside itself in one piece, float32.
memory: one layer of 96 features in a process of its own; peak resident memory above that of the same process
after a small volume. The volume is a window on 64 MB of noise, so that it does not count.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from record import write
from torch.nn.functional import scaled_dot_product_attention

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.streaming import StreamingEncoder
from spatialdino_core.encoder.streaming_parameters import StreamingParameters
from spatialdino_core.encoder.vit import build_encoder
from spatialdino_core.encoder.weights import load_encoder
from spatialdino_core.kernels import attention_cpu, attention_sdpa, attention_triton
from spatialdino_core.kernels.attention import attend_in_parts, attend_reference
from spatialdino_core.movies.provenance import software

Row = dict[str, Any]
HEADS, HEAD_DIM = 6, 64
WEIGHTS = Path(__file__).parents[1] / "weights" / "bundled.safetensors"
PARTS = ["kernels", "encoder", "memory"]
SMALL_BLOCKS = {"query_block_tokens": 2048, "key_block_tokens": 4096}


def drawn(queries: int, keys: int, device: str = "cpu") -> list[torch.Tensor]:
    """Query, key and value, bfloat16."""
    generator = torch.Generator(device).manual_seed(0)
    shapes = ((HEADS, tokens, HEAD_DIM) for tokens in (queries, keys, keys))
    return [torch.randn(shape, generator=generator, device=device).bfloat16() for shape in shapes]


def error_of(found: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> float:
    rows = torch.linspace(0, query.shape[1] - 1, 64).long()
    truth, _ = attend_reference(query[:, rows].double(), key.double(), value.double())
    return float((found[:, rows].double() - truth).norm() / truth.norm())


def kernels(rounds: int, sizes: tuple[int, ...]) -> list[Row]:
    def torch_sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(q[None], k[None], v[None])[0]

    ways: dict[str, tuple[torch.dtype, Callable[..., Any]]] = {
        "torch bfloat16": (torch.bfloat16, torch_sdpa),
        "torch float32": (torch.float32, torch_sdpa),
        "ours bfloat16": (torch.bfloat16, lambda *x: attention_cpu.attend_bfloat16(*x)[0]),
        "ours float32": (torch.float32, lambda *x: attention_sdpa.attend_cpu(*x)[0]),
        "ours float32, 4 parts": (torch.float32, four_parts),
    }
    rows = []
    for tokens in sizes:
        tensors = drawn(tokens, tokens)
        inputs = {dtype: [x.to(dtype) for x in tensors] for dtype, _ in ways.values()}
        for number in range(-1, rounds):  # the first is a warm-up
            for by, (dtype, attend) in ways.items():
                started, used = time.perf_counter(), time.process_time()
                found = attend(*inputs[dtype])
                row = {"s": time.perf_counter() - started, "cpu_s": time.process_time() - used}
                if number >= 0:
                    error = error_of(found, *inputs[dtype])
                    rows.append({"tokens": tokens, "by": by, "round": number, **row, "error": error})
    return rows


def four_parts(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    parts = zip(key.chunk(4, 1), value.chunk(4, 1), strict=True)
    return attend_in_parts(attention_sdpa.attend_cpu, query, ((k, v, None) for k, v in parts))[0]


def gpu_kernels(rounds: int, sizes: tuple[int, ...]) -> list[Row]:
    """TFLOP/s of each backend, key blocks of 65 536, beside one call of torch's; not yet run."""
    ways: dict[str, Callable[..., Any]] = {
        "torch": lambda q, k, v: scaled_dot_product_attention(q[None], k[None], v[None])
    }
    for name, attend in {**attention_sdpa.on_gpu(), "triton": attention_triton.attend_triton}.items():
        ways[name] = lambda q, k, v, attend=attend: attend_in_parts(
            attend, q, ((a, b, None) for a, b in zip(k.split(65536, 1), v.split(65536, 1), strict=True))
        )
    rows = []
    for tokens in sizes:
        tensors = drawn(131_072, tokens, "cuda")
        for number in range(-1, rounds):
            for by, way in ways.items():
                torch.cuda.synchronize()
                started = time.perf_counter()
                way(*tensors)
                torch.cuda.synchronize()
                seconds = time.perf_counter() - started
                rate = 4 * 131_072 * tokens * HEADS * HEAD_DIM / seconds / 1e12
                rows.append({"tokens": tokens, "by": by, "round": number, "s": seconds, "TFLOP_per_s": rate})
    return [row for row in rows if row["round"] >= 0]


def whole_encoder(rounds: int) -> list[Row]:
    volume = np.random.default_rng(0).random((1, 128, 128, 128), np.float32)
    (encoder, _, _), tensor = load_encoder(WEIGHTS), torch.from_numpy(volume)[None]
    ways = {
        "plain": lambda: encoder(tensor),
        "streamed": lambda: StreamingEncoder(encoder)(volume),
        "streamed, small blocks": lambda: StreamingEncoder(encoder, StreamingParameters(**SMALL_BLOCKS))(
            volume
        ),
        "streamed, small blocks, disk": lambda: StreamingEncoder(
            encoder, StreamingParameters(store="disk", **SMALL_BLOCKS)
        )(volume),
    }
    rows = []
    for number in range(-1, rounds):
        for by, way in ways.items():
            started, used = time.perf_counter(), time.process_time()
            with torch.inference_mode():
                way()
            row = {"s": time.perf_counter() - started, "cpu_s": time.process_time() - used}
            rows.append({"tokens": 4097, "by": by, "round": number, **row})
    return [row for row in rows if row["round"] >= 0]


def seeming_volume(tokens: int, side: int) -> np.ndarray:
    """(1, Z, Y, X) of distinct patches that lies within 64 MB, whatever its size."""
    layers = tokens // 1024
    noise = np.random.default_rng(0).random(2**24, np.float32)
    shape, item = (1, layers * side, 32 * side, 32 * side), noise.itemsize
    strides = (0, 10_007 * item, (32 * side + 1) * item, item)
    needed = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) // item
    assert needed < noise.size, (needed, noise.size)
    return np.lib.stride_tricks.as_strided(noise, shape, strides, writeable=False)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def memory_work(store: str, tokens: int, folder: str) -> None:
    """In a process of its own: memory and time of one volume."""
    torch.set_num_threads(1)
    architecture = EncoderParameters(embed_dim=96, depth=1, heads=1, patch_voxels=4)
    encoder = build_encoder(architecture, torch.Generator().manual_seed(0)).requires_grad_(False)
    parameters = StreamingParameters(store=store, **SMALL_BLOCKS)  # type: ignore[arg-type]
    streaming = StreamingEncoder(encoder, parameters, folder=Path(folder))
    streaming(seeming_volume(8192, 4))
    before, started = peak_mb(), time.perf_counter()
    output = streaming(seeming_volume(tokens, 4))
    assert output.report.distinct_tokens == tokens + 1
    facts = {"width": 96, "MB_stored": tokens * 96 * 12 / 1e6, "MB_above": peak_mb() - before}
    print(json.dumps(facts | {"MB_before": before, "s": time.perf_counter() - started}))


def memory(sizes: tuple[int, ...]) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for tokens in sizes:
            for store in ("device", "disk"):
                command = [sys.executable, __file__, "--memory", store, str(tokens), folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                rows.append({"store": store, "tokens": tokens, **json.loads(done.stdout)})
    return rows


def machine() -> Row:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "numba", "torch")}
    return {
        "cpu": next(line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": 1,
        "load": os.getloadavg(),
        "versions": versions,
    }


def table_of(rows: list[Row], peer: str) -> Any:
    """Median and range over rounds, and seconds of the peer over seconds."""
    grouped: Any = pd.DataFrame(rows).groupby(["tokens", "by"], sort=False)
    table = grouped.median(numeric_only=True).drop(columns="round")
    table["min"], table["max"] = grouped["s"].min(), grouped["s"].max()
    for column in ("s", "cpu_s"):
        if column in table:
            times = [table.loc[(tokens, peer), column] / x for (tokens, _), x in table[column].items()]
            table[f"times_{peer.replace(' ', '_')}_{column}"] = times
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--gpu", action="store_true", help="kernels of a GPU only")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, help="other parts that it holds are kept")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        return memory_work(options.memory[0], int(options.memory[1]), options.memory[2])
    torch.set_num_threads(1)
    if options.gpu:
        options.only = ["gpu_kernels"]
    found = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    for name in options.only:
        rows, peer = measured(name, options.rounds, options.quick)
        table = table_of(rows, peer) if peer else pd.DataFrame(rows)
        print(table.to_string(float_format="{:.3g}".format), "\n", flush=True)
        found[name] = {"machine": machine(), "software": software(), "runs": rows}
        write(options.out, found)


def measured(part: str, rounds: int, quick: bool) -> tuple[list[Row], str | None]:
    """Rows of one part, and the peer of its table."""
    if part == "gpu_kernels":
        return gpu_kernels(rounds, (262_144,) if quick else (262_144, 1_048_576, 4_194_304)), "torch"
    if part == "kernels":
        return kernels(rounds, (2048,) if quick else (2048, 4096, 8192, 16384)), "torch bfloat16"
    if part == "encoder":
        return whole_encoder(rounds), "plain"
    return memory((16_384,) if quick else (16_384, 32_768, 65_536)), None


if __name__ == "__main__":
    main()
