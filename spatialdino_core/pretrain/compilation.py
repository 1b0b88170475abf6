"""Compiled blocks, and the folder of what is compiled. Not what a block computes.

A killed compiler leaves files behind that look finished: an empty library ends every later run that finds it.
So each attempt has a folder of its own, and a compilation that fails costs speed, not the run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

CACHES = {"TORCHINDUCTOR_CACHE_DIR": ".", "TRITON_CACHE_DIR": "triton"}
"""Variables that say where compiled code is kept, and the place of each in the attempt's folder."""


@contextmanager
def own_cache() -> Iterator[Path]:
    """A folder for what this process compiles, gone at the end.

    It lies in the folder that ``TORCHINDUCTOR_CACHE_DIR`` names, or in that of temporary files.
    """
    before = {name: os.environ.get(name) for name in CACHES}
    place = before["TORCHINDUCTOR_CACHE_DIR"]
    if place:
        Path(place).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="spatialdino_compiled_", dir=place, ignore_cleanup_errors=True) as folder:
        os.environ.update({name: str(Path(folder, part)) for name, part in CACHES.items()})
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def compile_blocks(blocks: Iterable[nn.Module]) -> None:
    """Compile modules in place, for any length of their inputs; as they are where that fails."""
    backend = _Backend()
    for block in blocks:
        block.compile(backend=backend, dynamic=True)


class _Backend:
    """The compiler of torch, until it fails for the first time."""

    def __init__(self) -> None:
        self.works = True

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        if self.works:
            try:
                # Else the backward pass is compiled where it runs, and cannot fall back any more.
                with torch._functorch.config.patch(force_non_lazy_backward_lowering=True):
                    return torch._dynamo.lookup_backend("inductor")(graph, inputs)
            except (torch._dynamo.exc.RestartAnalysis, torch._dynamo.exc.SkipFrame):
                raise  # how the compiler says that it wants another graph
            except Exception as error:
                self.works = False
                reason = (str(error) or repr(error)).strip().splitlines()[0]
                print(
                    f"pretrain: blocks are not compiled, and steps take longer ({reason:.200})",
                    file=sys.stderr,
                    flush=True,
                )
        return graph.forward
