"""Train only singular values: a linear layer W = U diag(S) V^T becomes U diag(S + eps) V^T.

Written as W + U diag(eps) V^T, which is the same and is exactly W while eps is zero.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from spatialdino_core.encoder.vit import Block, VisionTransformer3D


class SingularLinear(nn.Module):
    """A linear layer of which only ``eps``, added to singular values, is trained.

    Parameters
    ----------
    linear
        The layer; its weights are copied and frozen.
    first_row
        Rows before this one stay as they are; the others are decomposed.
    """

    weight: Tensor
    bias: Tensor
    left: Tensor
    right: Tensor

    def __init__(self, linear: nn.Linear, first_row: int = 0) -> None:
        super().__init__()
        self.first_row = first_row
        self.register_buffer("weight", linear.weight.detach().clone())
        self.register_buffer("bias", linear.bias.detach().clone())
        left, values, right = torch.linalg.svd(self.weight[first_row:].double(), full_matrices=False)
        self.register_buffer("left", left.to(self.weight))
        self.register_buffer("right", right.to(self.weight))
        self.eps = nn.Parameter(torch.zeros(len(values)).to(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        change = functional.linear(functional.linear(x, self.right) * self.eps, self.left)
        return functional.linear(x, self.weight, self.bias) + functional.pad(change, (self.first_row, 0))

    def fold(self) -> nn.Linear:
        """The plain linear layer that does the same."""
        linear = nn.utils.skip_init(nn.Linear, self.weight.shape[1], self.weight.shape[0])
        weight = self.weight.clone()
        weight[self.first_row :] += (self.left * self.eps.detach()) @ self.right
        linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(self.bias.clone())
        return linear


def reparameterise(encoder: VisionTransformer3D) -> VisionTransformer3D:
    """Copy an encoder whose block layers are `SingularLinear`; everything but ``eps`` is frozen.

    Of the fused query, key and value layer only the value part is decomposed: the repair must not
    change which tokens attend to which.
    """
    changed = copy.deepcopy(encoder).requires_grad_(False)
    for block in changed.blocks:
        assert isinstance(block, Block)
        setattr(block.attn, "qkv", SingularLinear(block.attn.qkv, 2 * block.attn.qkv.in_features))  # noqa: B010
        block.attn.proj = SingularLinear(block.attn.proj)  # type: ignore[assignment]
        for name, layer in list(block.mlp.named_children()):
            assert isinstance(layer, nn.Linear)
            setattr(block.mlp, name, SingularLinear(layer))
    return changed


def fold(changed: VisionTransformer3D) -> VisionTransformer3D:
    """Plain encoder that does what the reparameterised one does, with all weights trainable."""
    plain = copy.deepcopy(changed)
    for block in plain.blocks:
        for owner in (block.attn, block.mlp):
            assert isinstance(owner, nn.Module)
            for name, layer in list(owner.named_children()):
                if isinstance(layer, SingularLinear):
                    setattr(owner, name, layer.fold())
    return plain.requires_grad_(True)
