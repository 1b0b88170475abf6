"""The teacher's output for a batch: tokens, logits of its heads, and the targets made of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TeacherOutput:
    """For n views of N patches each, m of which are masked for the student.

    Attributes
    ----------
    class_tokens
        (n, D).
    patch_tokens
        (n, N, D).
    class_logits, class_targets
        (n, K): similarities to the prototypes, and the probabilities that the student learns.
    patch_logits, patch_targets
        (m, K): the same of the masked patches.
    """

    class_tokens: Tensor
    patch_tokens: Tensor
    class_logits: Tensor
    patch_logits: Tensor
    class_targets: Tensor
    patch_targets: Tensor
