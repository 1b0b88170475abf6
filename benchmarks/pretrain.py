"""A training step beside the same step written plainly; and the whole loop: crops/s, MFU, waiting, memory.

    python benchmarks/pretrain.py [--recipe recipes/gpu.yaml] [--set pretrain.batch_size=64] [--device cpu]
        [--rounds 7] [--loop-steps 30] [--threads N] [--out build/benchmarks/pretrain.json]

Crops are noise of the recipe's side: their content costs nothing. "plain" is the step as one writes it down
from the papers: view by view, attention as softmax(Q K^T / sqrt d) V, losses pair by pair and patch by
patch, AdamW and moving average weight by weight. Both start from the same weights and must give the same
losses. Steps of both take turns, so that a busy moment hits both. The loop is ``pretrain()`` itself, with
loader, log and monitor; its own ``metrics.csv`` is read, without the first half, which warms up.
"""

from __future__ import annotations

import argparse
import copy
import functools
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from pretraining import Settings, setting, with_settings
from record import write
from torch import Tensor
from torch.nn import functional

from spatialdino_core.config import WorkflowConfig, load_config
from spatialdino_core.crops.source import CropDescription
from spatialdino_core.encoder.vit import VisionTransformer3D
from spatialdino_core.pretrain.batches import Batch, make_batch
from spatialdino_core.pretrain.learner import Learner
from spatialdino_core.pretrain.loop import first_network, pretrain
from spatialdino_core.pretrain.networks import Network
from spatialdino_core.pretrain.schedules import StepSettings, settings_at

LOOP_COLUMNS = ("crops_per_s", "tokens_per_s", "mfu_percent", "data_wait_percent", "peak_memory_mb")


def noise_crops(config: WorkflowConfig, count: int) -> list[np.ndarray]:
    side = max(config.crops.crop_voxels, config.pretrain.global_crop_voxels)
    rng = np.random.default_rng(0)
    shape = (config.encoder.channels, side, side, side)
    return [rng.random(shape, np.float32).astype(np.float16) for _ in range(count)]


class Crops(list[np.ndarray]):
    """Crops in memory, as the loop reads them."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index).astype(np.float32)


def plain_tokens(encoder: VisionTransformer3D, view: Tensor, mask: Tensor | None) -> Tensor:
    """(B, 1 + registers + N, D) after the final norm."""
    patches = encoder.patch_embed(view).flatten(2).transpose(1, 2)
    if mask is not None:
        patches = torch.where(mask[..., None], encoder.mask_token, patches)
    x = torch.cat([encoder.cls_token.expand(len(view), -1, -1), patches], 1)
    for block in encoder.blocks:
        width, heads = x.shape[-1], block.attn.heads
        qkv = block.attn.qkv(block.norm1(x)).unflatten(-1, (3, heads, width // heads))
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(width // heads), -1)
        x = x + block.ls1(block.attn.proj((weights @ value).transpose(1, 2).flatten(2)))
        x = x + block.ls2(block.mlp(block.norm2(x)))
    return encoder.norm(x)


class PlainLearner:
    """The same step from the same weights, without any thought of speed."""

    def __init__(self, config: WorkflowConfig, student: Network) -> None:
        self.config, self.student = config, student
        self.teacher = copy.deepcopy(student)
        decayed = [weight.ndim > 1 and "token" not in name for name, weight in student.named_parameters()]
        groups = [
            {"params": [weight], "decays": decays}
            for weight, decays in zip(student.parameters(), decayed, strict=True)
        ]
        self.optimiser = torch.optim.AdamW(groups, foreach=False, fused=False)
        self.centers = [torch.zeros(config.pretrain.prototypes) for _ in range(2)]

    def learn(self, batches: Sequence[Batch], settings: StepSettings) -> float:
        """One step; the total loss."""
        (batch,) = batches
        items, recipe = len(batch.crops), self.config.pretrain
        views = list(batch.global_views.voxels.split(items))
        if len(batch.local_views):
            views += list(batch.local_views.voxels.split(items))
        masks = list(batch.masks.split(items)) + [None] * (len(views) - 2)
        with torch.no_grad():
            seen = [plain_tokens(self.teacher.encoder, view, None) for view in views[:2]]
            class_logits = [self.teacher.class_head(tokens[:, 0]) for tokens in seen]
            patch_logits = [self.teacher.patch_head(tokens[:, 1:]) for tokens in seen]
            targets = [
                torch.softmax((t - self.centers[0]) / settings.teacher_temperature, -1) for t in class_logits
            ]
            patch_targets = [
                torch.softmax((t - self.centers[1]) / settings.teacher_temperature, -1) for t in patch_logits
            ]
        tokens = [
            plain_tokens(self.student.encoder, view, mask) for view, mask in zip(views, masks, strict=True)
        ]
        guesses = [
            torch.log_softmax(self.student.class_head(t[:, 0]) / recipe.student_temperature, -1)
            for t in tokens
        ]
        pairs = [
            -(target * guess).sum(-1).mean()
            for t, target in enumerate(targets)
            for v, guess in enumerate(guesses)
            if v != t
        ]
        dino = torch.stack(pairs).mean()
        ibot = self._ibot(tokens[:2], patch_targets, masks[:2])
        koleo = torch.stack([plain_koleo(t[:, 0]) for t in tokens[:2]]).mean()
        loss = recipe.dino_weight * dino + recipe.ibot_weight * ibot + recipe.koleo_weight * koleo
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), recipe.clip_norm, foreach=False)
        self._update(settings, [class_logits, [t[m] for t, m in zip(patch_logits, masks[:2], strict=True)]])
        return float(loss.detach())

    def _ibot(self, tokens: list[Tensor], targets: list[Tensor], masks: list[Tensor]) -> Tensor:
        views = []
        for of_view, target, mask in zip(tokens, targets, masks, strict=True):
            logits = self.student.patch_head(of_view[:, 1:]) / self.config.pretrain.student_temperature
            for sample in range(len(mask)):
                if mask[sample].any():
                    chosen = mask[sample]
                    guess = torch.log_softmax(logits[sample, chosen], -1)
                    views.append(-(target[sample, chosen] * guess).sum(-1).mean())
        return torch.stack(views).mean()

    def _update(self, settings: StepSettings, logits: list[list[Tensor]]) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate
            group["weight_decay"] = settings.weight_decay if group["decays"] else 0.0
        self.optimiser.step()
        self.optimiser.zero_grad()
        with torch.no_grad():
            for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                slow.copy_(settings.ema_momentum * slow + (1 - settings.ema_momentum) * fast)
        momentum = self.config.pretrain.center_momentum
        for place, parts in enumerate(logits):
            self.centers[place] = momentum * self.centers[place] + (1 - momentum) * torch.cat(parts).mean(0)


def plain_koleo(tokens: Tensor) -> Tensor:
    directions = functional.normalize(tokens, dim=-1)
    distances = torch.cdist(directions, directions) + 10 * torch.eye(len(tokens))
    return -torch.log(distances.min(1).values + 1e-8).mean()


def compare(config: WorkflowConfig, rounds: int) -> dict[str, Any]:
    """Seconds per step of both, taking turns, and that they lose the same."""
    cpu = torch.device("cpu")
    crops = [crop.astype(np.float32) for crop in noise_crops(config, 2 * config.pretrain.batch_size)]
    network = functools.partial(first_network, config.pretrain, config.encoder, 0, cpu)
    learners: dict[str, Callable[..., Any]] = {
        "ours": Learner(config.pretrain, network(), cpu).learn,
        "plain": PlainLearner(config, network()).learn,
    }
    seconds: dict[str, list[float]] = {name: [] for name in learners}
    losses: dict[str, list[float]] = {name: [] for name in learners}
    for step in range(rounds + 1):
        batch = make_batch(crops, config.pretrain, config.encoder, seed=0, step=step).changed()
        for name, learn in learners.items():
            start = time.perf_counter()
            outcome = learn([batch], settings_at(config.pretrain, step))
            seconds[name].append(time.perf_counter() - start)
            losses[name].append(float(getattr(outcome, "loss", outcome)))
    differences = np.abs(np.subtract(losses["ours"], losses["plain"]))
    return {
        "seconds": {name: values[1:] for name, values in seconds.items()},
        "largest_difference_of_losses": float(differences.max()),
        "losses": losses,
    }


def loop(config: WorkflowConfig, steps: int, device: str) -> dict[str, Any]:
    """Medians of what the loop says about its own speed."""
    count = min(2 * config.pretrain.batch_size, 1024)
    changes = {"steps": steps, "log_interval_steps": 1, "monitor_interval_steps": steps}
    recipe = type(config.pretrain)(**{**vars(config.pretrain), **changes, "checkpoint_interval_steps": steps})
    description = CropDescription(voxel_um=(0.104,) * 3, normalisation={}, content_hash="")
    with tempfile.TemporaryDirectory() as folder:
        crops = Crops(noise_crops(config, count))
        pretrain(crops, recipe, config.encoder, Path(folder), description=description, device=device)
        table = pd.read_csv(Path(folder) / "metrics.csv").iloc[steps // 2 :]
    return {name: table[name].dropna().tolist() for name in LOOP_COLUMNS if name in table}


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})" if values else "–"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=Path, default=Path("recipes/demo.yaml"))
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7, help="0: no comparison")
    parser.add_argument("--loop-steps", type=int, default=30, help="0: no loop")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    base: Settings = {"movies": "movies.tsv", "results": "results"}
    changes = [yaml.safe_load(options.recipe.read_text()), *options.set]
    config = load_config(functools.reduce(with_settings, changes, base))

    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    content: dict[str, Any] = {"device": name, "threads": options.threads, "torch": torch.__version__}
    content |= {"encoder": str(config.encoder), "pretrain": str(config.pretrain)}
    if options.rounds:
        content["step"] = compared = compare(config, options.rounds)
        ours, plain = (compared["seconds"][kind] for kind in ("ours", "plain"))
        ratios = [b / a for a, b in zip(ours, plain, strict=True)]
        print(f"seconds per step: ours {spread(ours)}, plain {spread(plain)}; plain / ours {spread(ratios)}")
        print(f"largest difference of losses: {compared['largest_difference_of_losses']:.2g}")
    if options.loop_steps:
        content["loop"] = loop(config, options.loop_steps, options.device)
        for column, values in content["loop"].items():
            print(f"{column}: {spread(values)}")
    write(options.out, content)


if __name__ == "__main__":
    main()
