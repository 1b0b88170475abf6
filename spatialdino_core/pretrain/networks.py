"""The two networks of self-distillation: a student that learns, a teacher that follows it slowly."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import EncoderOutput, VisionTransformer3D, build_encoder
from spatialdino_core.pretrain.batches import Batch, Views
from spatialdino_core.pretrain.heads import ProjectionHead
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.randomness import Purpose, torch_generator


@dataclass(frozen=True)
class Answer:
    """What a network says about a batch of B crops and its m masked patches.

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

    def forward(self, batch: Batch, *, teaches: bool = False) -> Answer:
        """Answer for a batch: a teacher sees whole global views and no local ones, a student guesses."""
        shown = self._encode(batch.global_views, None if teaches else batch.masks, teaches=teaches)
        tokens = shown.class_token
        if len(batch.local_views) and not teaches:
            local = self._encode(batch.local_views, None, teaches=False).class_token
            tokens = torch.cat([tokens, local])
        guessed = shown.patch_tokens[batch.masks]
        return Answer(
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
    return Network(parameters, encoder, seed, half=half)


def teacher_of(student: Network) -> Network:
    """Copy of the student that no gradient reaches: at step 0 both say the same."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def follow(teacher: Network, student: Network, momentum: float) -> None:
    """Exponential moving average: teacher <- momentum * teacher + (1 - momentum) * student."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)
