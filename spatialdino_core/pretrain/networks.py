"""The two networks of self-distillation: a student that learns, a teacher that follows it slowly."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import EncoderOutput, VisionTransformer3D, build_encoder
from spatialdino_core.pretrain.batches import Batch, Views
from spatialdino_core.pretrain.heads import ProjectionHead
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.randomness import Purpose, torch_generator

# Of fresh filters; chosen by a linear probe on simulated movies (benchmarks/results/pretraining.md).
STRUCTURE_GAIN = 3.0
OFFSET_SHARE = 0.3


@dataclass(frozen=True)
class NetworkOutput:
    """Output of a network for a batch of B crops and its m masked patches.

    Attributes
    ----------
    class_tokens
        (2 B, D) of the global views.
    patch_tokens
        (2 B, N, D) of the global views.
    class_logits
        (V B, K), view by view, global views first.
    patch_logits
        (m, K), in the raster order of the masks.
    """

    class_tokens: Tensor
    patch_tokens: Tensor
    class_logits: Tensor
    patch_logits: Tensor


class Network(nn.Module):
    """Encoder with projection heads for class tokens and for patch tokens, or one head for both.

    Parameters
    ----------
    parameters
        Heads and precision.
    encoder
        The encoder, taken as it is.
    seed
        What the initial weights of the heads depend on.
    half
        Whether the encoder computes in bfloat16; heads and losses never do.
    """

    def __init__(
        self, parameters: PretrainParameters, encoder: VisionTransformer3D, seed: int, *, half: bool = False
    ) -> None:
        super().__init__()
        self.half_precision = half
        self.checkpointing = parameters.activation_checkpointing
        generator = torch_generator(seed, Purpose.WEIGHTS, 1)
        width = encoder.architecture.embed_dim
        self.encoder = encoder
        self.class_head = ProjectionHead(width, parameters, generator)
        shared = parameters.heads == "shared"
        self.patch_head = self.class_head if shared else ProjectionHead(width, parameters, generator)

    def forward(self, batch: Batch, *, teaches: bool = False) -> NetworkOutput:
        """Output for a batch: a teacher sees whole global views and no local ones, a student masked ones."""
        shown = self._encode(batch.global_views, None if teaches else batch.masks, teaches=teaches)
        tokens = shown.class_token
        if len(batch.local_views) and not teaches:
            local = self._encode(batch.local_views, None, teaches=False).class_token
            tokens = torch.cat([tokens, local])
        guessed = shown.patch_tokens[batch.masks]
        return NetworkOutput(
            shown.class_token,
            shown.patch_tokens,
            self.class_head(tokens),
            self.patch_head(guessed),
        )

    def _encode(self, views: Views, masks: Tensor | None, *, teaches: bool) -> EncoderOutput:
        with torch.autocast(views.voxels.device.type, torch.bfloat16, enabled=self.half_precision):
            return self.encoder(
                views.voxels,
                masks,
                branch_factors=None if teaches else views.branch_factors,
                checkpointing=self.checkpointing and not teaches,
            )


def new_network(
    parameters: PretrainParameters, architecture: EncoderParameters, seed: int, *, half: bool = False
) -> Network:
    """Network of a fresh encoder."""
    encoder = build_encoder(architecture, torch_generator(seed, Purpose.WEIGHTS))
    smooth_filters(encoder.patch_embed.proj.weight, parameters.patch_smoothing_voxels)
    return Network(parameters, encoder, seed, half=half)


@torch.no_grad()
def smooth_filters(weight: Tensor, sigma_voxels: float) -> None:
    """Make freshly drawn filters of the patch embedding answer to structure rather than to noise and offset.

    White filters average a blurred spot away: they spend most of their weight on frequencies that the
    microscope does not pass and only shot noise has. So each is smoothed with a Gaussian, scaled back to the
    standard deviation that it was drawn with, and then its mean, which answers to the background, is turned
    down and the rest turned up. A few hundred steps of training do not find this by themselves.

    Parameters
    ----------
    weight
        (D, C, p, p, p), changed in place.
    sigma_voxels
        Standard deviation of the Gaussian; 0 leaves the filters alone.
    """
    if sigma_voxels == 0:
        return
    smooth = torch.from_numpy(gaussian_filter(weight.numpy(), sigma_voxels, mode="nearest", axes=(2, 3, 4)))
    smooth *= weight.std() / smooth.std()
    offset = smooth.mean((2, 3, 4), keepdim=True)
    weight.copy_(STRUCTURE_GAIN * (smooth - offset) + OFFSET_SHARE * offset)


def teacher_of(student: Network) -> Network:
    """Copy of the student that no gradient reaches: at step 0 both say the same."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def update_teacher(teacher: Network, student: Network, momentum: float) -> None:
    """Exponential moving average: teacher <- momentum * teacher + (1 - momentum) * student."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)
