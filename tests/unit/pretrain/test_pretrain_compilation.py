"""Compiled blocks: a compiler that fails costs speed alone, and what a killed one left is never read."""

import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from small import small_recipe

from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.crops.source import CropDescription
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.weights import load_encoder
from spatialdino_core.pretrain.compilation import CACHES, own_cache
from spatialdino_core.pretrain.loop import pretrain

TINY = EncoderParameters(embed_dim=12, depth=2, heads=2, patch_voxels=4, drop_path=0.2, layer_scale=1.0)
RECIPE = small_recipe(
    steps=3,
    batch_size=2,
    global_crop_voxels=8,
    local_crop_voxels=4,
    prototypes=8,
    head_hidden_dim=8,
    head_bottleneck_dim=4,
    warmup_steps=1,
    monitor_interval_steps=2,
    precision="float32",
)
DESCRIPTION = CropDescription(
    voxel_um=(0.1, 0.1, 0.1), normalisation=asdict(NormalisationParameters()), content_hash="abc"
)


def trained(folder, **changes):
    """All weights of a short training, one after the other."""
    crops = [np.random.default_rng(n).random((1, 10, 10, 10), np.float32) for n in range(4)]
    recipe = type(RECIPE)(**vars(RECIPE) | changes)
    path = pretrain(crops, recipe, TINY, folder, description=DESCRIPTION, device="cpu", seed=0)
    return torch.cat([tensor.flatten() for tensor in load_encoder(path)[0].state_dict().values()])


def test_a_failed_compilation_is_said_once_and_costs_nothing_else(tmp_path, monkeypatch, capfd):
    def fails(graph, inputs):
        raise RuntimeError("file too short\nand a page of C++")

    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda name: fails)
    torch._dynamo.reset()
    found = trained(tmp_path / "compiled", compile=True)
    said = [line for line in capfd.readouterr().err.splitlines() if "compiled" in line]
    assert said == ["pretrain: blocks are not compiled, and steps take longer (file too short)"]
    torch.testing.assert_close(found, trained(tmp_path / "eager"), rtol=1e-5, atol=1e-6)


def test_a_backward_pass_that_cannot_be_compiled_falls_back_too(tmp_path, monkeypatch, capfd):
    from torch._inductor import compile_fx

    def fails(*arguments, **options):
        raise OSError("no backward pass")

    monkeypatch.setattr(compile_fx, "compile_fx_backward", fails)
    monkeypatch.setattr(compile_fx, "compile_fx_forward", lambda graph, *_, **__: graph.forward)
    torch._dynamo.reset()
    trained(tmp_path, compile=True)
    assert "steps take longer (no backward pass)" in capfd.readouterr().err


def test_each_attempt_has_a_folder_of_its_own(tmp_path, monkeypatch):
    for name in CACHES:
        monkeypatch.delenv(name, raising=False)
    for place in (None, tmp_path / "fast" / "disk"):
        if place is not None:
            monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(place))
        before = dict(os.environ)
        with own_cache() as first, own_cache() as second:
            assert first != second
            assert place is None or place in first.parents
            assert all(Path(os.environ[name]).is_relative_to(second) for name in CACHES)
        assert dict(os.environ) == before
        assert not first.exists()


ATTEMPT = """
import os, sys, torch
from pathlib import Path
from spatialdino_core.pretrain.compilation import compile_blocks, own_cache
class Block(torch.nn.Module):
    def forward(self, x):
        return x * x.exp()
with own_cache() as folder:
    block = Block()
    compile_blocks([block])
    assert torch.allclose(block(torch.ones(3, 4)), torch.ones(3, 4).exp())
    libraries = list(folder.rglob("*.so"))
    assert libraries, "nothing was compiled"
    if sys.argv[1] == "killed":
        for library in libraries:
            os.truncate(library, 0)
        os.kill(os.getpid(), 9)
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a compiler as Linux has it")
def test_the_run_after_a_killed_compilation_works(tmp_path):
    """It died of the empty library: file too short."""
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    for end, status in (("killed", -signal.SIGKILL), ("well", 0)):
        command = [sys.executable, "-c", ATTEMPT, end]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert ran.returncode == status, ran.stderr
    assert ran.stdout == "done\n"
    assert "not compiled" not in ran.stderr
    assert len(list(tmp_path.iterdir())) == 1, "the killed one's; the other's is gone"
