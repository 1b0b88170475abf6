"""From teacher logits to the distributions that the student learns: centring, or Sinkhorn-Knopp.

References
----------
Centring: Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021, eq. 4.
Sinkhorn-Knopp: Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments, NeurIPS 2020; Cuturi, Sinkhorn Distances, NeurIPS 2013.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spatialdino_core.pretrain.parameters import PretrainParameters


class TeacherTargets(nn.Module):
    """Target distributions of one head; with centring it remembers the mean logits."""

    center: Tensor

    def __init__(self, parameters: PretrainParameters) -> None:
        super().__init__()
        self.method = parameters.targets
        self.momentum = parameters.center_momentum
        self.iterations = parameters.sinkhorn_iterations
        self.register_buffer("center", torch.zeros(parameters.prototypes))

    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """(n, K) teacher logits to (n, K) probabilities; the state is left as it is."""
        if self.method == "sinkhorn":
            return sinkhorn_knopp(logits, temperature, self.iterations)
        return torch.softmax((logits - self.center) / temperature, dim=-1)

    @torch.no_grad()
    def update(self, logits: Tensor) -> None:
        """Move the centre towards the mean of (n, K) teacher logits."""
        self.center.lerp_(logits.mean(0), 1 - self.momentum)


def sinkhorn_knopp(logits: Tensor, temperature: float, iterations: int) -> Tensor:
    """Assign samples to prototypes so that all prototypes are used equally.

    Alternately scales the columns of exp(logits / temperature) to equal sums and its rows to one, in
    the logarithm, where nothing overflows.

    Parameters
    ----------
    logits
        (n, K), one row per sample.
    temperature
        Sharpness of the assignment.
    iterations
        Number of alternations.

    Returns
    -------
    torch.Tensor
        (n, K); rows sum to 1, columns approach n / K.
    """
    scores = logits / temperature
    for _ in range(iterations):
        scores = scores - scores.logsumexp(dim=0, keepdim=True)
        scores = scores - scores.logsumexp(dim=1, keepdim=True)
    return scores.exp()
