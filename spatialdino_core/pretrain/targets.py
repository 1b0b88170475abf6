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

from spatialdino_core.pretrain.distributed import is_distributed, largest, summed
from spatialdino_core.pretrain.parameters import PretrainParameters


class TeacherTargets(nn.Module):
    """Target distributions of one head; with centring it remembers the mean logits of all processes."""

    center: Tensor

    def __init__(self, parameters: PretrainParameters) -> None:
        super().__init__()
        self.method = parameters.targets
        self.momentum = parameters.center_momentum
        self.iterations = parameters.sinkhorn_iterations
        self.register_buffer("center", torch.zeros(parameters.prototypes))
        self._seen: Tensor
        self._count: int
        self.forget()

    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """(n, K) teacher logits to (n, K) probabilities; counted towards the next `update`."""
        self._seen = self._seen + logits.sum(0, dtype=torch.float64)
        self._count += len(logits)
        if self.method == "sinkhorn":
            return sinkhorn_knopp(logits, temperature, self.iterations)
        return torch.softmax((logits - self.center) / temperature, dim=-1)

    @torch.no_grad()
    def update(self) -> None:
        """Move the centre towards the mean of the logits of this step, those of all processes."""
        count = summed(torch.tensor(float(self._count), device=self.center.device))
        if self.method == "centering" and count > 0:
            mean = summed(self._seen) / count
            self.center.lerp_(mean.to(self.center), 1 - self.momentum)
        self.forget()

    def forget(self) -> None:
        """Begin a step: no logits have been seen."""
        self._seen, self._count = self.center.new_zeros(len(self.center), dtype=torch.float64), 0


def sinkhorn_knopp(logits: Tensor, temperature: float, iterations: int) -> Tensor:
    """Assign samples to prototypes so that all prototypes are used equally.

    Alternately scales the columns of exp(logits / temperature) to equal sums and its rows to one, in
    the logarithm, where nothing overflows. Columns are summed over the samples of all processes.

    Parameters
    ----------
    logits
        (n, K), one row per sample of this process; n may be 0.
    temperature
        Sharpness of the assignment.
    iterations
        Number of alternations.

    Returns
    -------
    torch.Tensor
        (n, K); rows sum to 1, columns over all processes approach (all samples) / K.
    """
    scores = logits / temperature
    for _ in range(iterations):
        scores = scores - _column_logsumexp(scores)
        scores = scores - scores.logsumexp(dim=1, keepdim=True)
    return scores.exp()


def _column_logsumexp(scores: Tensor) -> Tensor:
    """logsumexp over the rows of all processes, (1, K)."""
    if not is_distributed():
        return scores.logsumexp(dim=0, keepdim=True)
    lowest = scores.new_full((1, scores.shape[1]), torch.finfo(scores.dtype).min)
    top = largest(torch.cat([lowest, scores]).amax(dim=0, keepdim=True))
    return top + summed((scores - top).exp().sum(0, keepdim=True)).log()
