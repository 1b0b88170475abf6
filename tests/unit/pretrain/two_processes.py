"""What each of two processes does in ``test_pretrain_distributed.py``; also run by one, for comparison."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from small import small_recipe

from spatialdino_core.crops.source import CropDescription
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.errors import BadInputError
from spatialdino_core.pretrain import learner as learner_module
from spatialdino_core.pretrain.batches import Batch, step_batches
from spatialdino_core.pretrain.distributed import World, gathered_objects, joined
from spatialdino_core.pretrain.learner import LOSSES, Learner
from spatialdino_core.pretrain.loop import pretrain
from spatialdino_core.pretrain.losses import koleo_loss
from spatialdino_core.pretrain.networks import new_network
from spatialdino_core.pretrain.schedules import settings_at
from spatialdino_core.pretrain.targets import sinkhorn_knopp

CPU = torch.device("cpu")
SEED = 3
STEPS = 3
RECIPE = small_recipe(
    steps=STEPS,
    batch_size=8,
    global_crop_voxels=8,
    local_crop_voxels=4,
    prototypes=16,
    head_hidden_dim=16,
    head_bottleneck_dim=8,
    warmup_steps=1,
    log_interval_steps=1,
    masked_share=0.2,  # some micro-batches have more masked views than others
)
TINY = EncoderParameters(
    embed_dim=16, depth=2, heads=2, patch_voxels=4, registers=1, drop_path=0.3, layer_scale=1.0
)
DESCRIPTION = CropDescription(voxel_um=(0.1, 0.1, 0.1), normalisation={}, content_hash="abc")


def crops() -> list[np.ndarray]:
    return [np.random.default_rng(i).random((1, 10, 10, 10), dtype=np.float32) for i in range(9)]


def in_double(batch: Batch) -> Batch:
    big, small = (replace(v, voxels=v.voxels.double()) for v in (batch.global_views, batch.local_views))
    return replace(batch, global_views=big, local_views=small)


def learn(world: World, targets: str, accumulation: int = 1) -> tuple[Learner, list[list[float]]]:
    """Some steps in float64, where rounding cannot hide a wrong formula."""
    recipe = replace(RECIPE, targets=targets, accumulation=accumulation)
    learner = Learner(recipe, new_network(recipe, TINY, SEED).double(), CPU)
    for one in (learner.class_targets, learner.patch_targets):
        one.double()
        one.forget()
    losses = []
    for step in range(STEPS):
        batches = step_batches(crops(), recipe, TINY, step, seed=SEED, world=world)
        outcome = learner.learn([in_double(batch.changed()) for batch in batches], settings_at(recipe, step))
        losses.append([getattr(outcome, name) for name in LOSSES])
    return learner, losses


def sinkhorn_parts(world: World) -> list[torch.Tensor]:
    """Assignments of all processes, together; the second of several has no samples but one."""
    logits = torch.randn(24, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = logits if world.ranks == 1 else (logits[:23] if world.leads else logits[23:])
    empty = logits[:0] if world.ranks > 1 and not world.leads else logits
    return [
        torch.cat(gathered_objects(sinkhorn_knopp(own, 0.1, 5), world)),
        torch.cat(gathered_objects(sinkhorn_knopp(empty, 0.1, 5), world)),
    ]


def bad_loss_on_the_last_process(world: World, folder: Path) -> str:
    """NaN in one process only: nobody steps, nobody waits for ever, all end after three."""
    learner_module.koleo_loss = lambda tokens: (
        koleo_loss(tokens) * (torch.nan if world.rank == world.ranks - 1 else 1.0)
    )
    try:
        pretrain(crops(), RECIPE, TINY, folder, description=DESCRIPTION, seed=SEED)
    except BadInputError as error:
        return str(error)
    finally:
        learner_module.koleo_loss = koleo_loss
    return "no error"


def resumed_apart(world: World, out: Path) -> None:
    """As after a kill: the first process finds step 2, the others step 3 or nothing."""
    kept = replace(RECIPE, checkpoint_interval_steps=1)
    pretrain(crops(), kept, TINY, out / "whole", description=DESCRIPTION, seed=SEED)
    for seen in ("newer", "nothing"):
        folder = out / seen / str(world.rank)
        if world.leads or seen == "newer":
            shutil.copytree(out / "whole" / "checkpoints", folder / "checkpoints")
        if world.leads:
            newest = max((folder / "checkpoints").rglob("step-*.pt"))
            newest.unlink()
        pretrain(crops(), kept, TINY, folder, description=DESCRIPTION, seed=SEED)


def main(out: Path) -> None:
    torch.set_num_threads(1)
    with joined(CPU) as world:
        found = {"assigned": sinkhorn_parts(world)}
        for targets in ("centering", "sinkhorn"):
            learner, losses = learn(world, targets)
            found[targets] = {"losses": losses, **learner.state_dict()}
        if world.leads:
            torch.save(found, out / f"learned-{world.ranks}.pt")
        pretrain(crops(), RECIPE, TINY, out / f"run-{world.ranks}", description=DESCRIPTION, seed=SEED)
        if world.ranks > 1:
            resumed_apart(world, out)
        message = bad_loss_on_the_last_process(world, out / f"bad-{world.ranks}")
        (out / f"bad-{world.ranks}-{world.rank}.json").write_text(json.dumps(message))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
