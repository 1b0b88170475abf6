"""The three losses: DINO on class tokens, iBOT on masked patches, KoLeo against crowding.

Teacher targets come in as probabilities; see ``targets.py`` for how they are made.

References
----------
DINO: Caron et al., ICCV 2021. iBOT: Zhou et al., Image BERT Pre-training with Online Tokenizer,
ICLR 2022. KoLeo: Sablayrolles et al., Spreading Vectors for Similarity Search, ICLR 2019; in
self-distillation: Oquab et al., DINOv2, TMLR 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spatialdino_core.pretrain.distributed import first_row, gathered


def dino_loss(student_logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross entropy between the teacher's and the student's different views of the same crop.

    Parameters
    ----------
    student_logits
        (V, B, K); the first G of the V views are the global views that the teacher saw, in its order.
    targets
        (G, B, K) teacher probabilities of the global views.
    temperature
        Softmax temperature of the student.

    Returns
    -------
    torch.Tensor
        Scalar in nats: the mean over B crops and over the G * V - G pairs of a teacher view and
        another student view.
    """
    log_student = torch.log_softmax(student_logits / temperature, dim=-1)
    pairs = -torch.einsum("gbk,vbk->gv", targets, log_student) / targets.shape[1]
    views, teacher_views = student_logits.shape[0], targets.shape[0]
    same = pairs.diagonal().sum()
    return (pairs.sum() - same) / (teacher_views * views - teacher_views)


def ibot_loss(
    student_logits: Tensor, targets: Tensor, masks: Tensor, temperature: float, masked_views: float
) -> Tensor:
    """Cross entropy on masked patches; each masked view counts the same, however many patches it lost.

    Parameters
    ----------
    student_logits
        (M, K) student logits of the masked patches, in the raster order of ``masks``.
    targets
        (M, K) teacher probabilities of the same patches, which the teacher saw.
    masks
        (V, N) bool with M true entries.
    temperature
        Softmax temperature of the student.
    masked_views
        How many views have a mask, on average over the micro-batches of a step: the same divisor in
        all of them, so that their mean is the loss of the whole batch.

    Returns
    -------
    torch.Tensor
        Scalar in nats: per view the mean over its masked patches, then the mean over masked views.
    """
    entropies = -(targets * torch.log_softmax(student_logits / temperature, dim=-1)).sum(-1)
    masked = masks.sum(1)
    weights = masked.clamp(min=1).to(entropies.dtype).reciprocal()[:, None].expand_as(masks)[masks]
    return (weights * entropies).sum() / masked_views


def koleo_loss(tokens: Tensor, eps: float = 1e-8) -> Tensor:
    """Mean of -ln(distance to the nearest neighbour) of L2-normalised tokens.

    Parameters
    ----------
    tokens
        (n, D): class tokens of one view of n different crops. Neighbours are sought among those of all
        processes, at least two.
    eps
        Length added in quadrature to each distance, so that equal tokens have a finite loss.
    """
    directions = functional.normalize(tokens, dim=-1)
    everyone = gathered(directions)
    with torch.no_grad():
        similarity = directions @ everyone.T
        own = torch.arange(len(directions), device=tokens.device)
        similarity[own, first_row(directions) + own] = -2
        nearest = similarity.argmax(dim=1)
    squared = (directions - everyone[nearest]).square().sum(-1)
    return -torch.log(squared + eps**2).mean() / 2
