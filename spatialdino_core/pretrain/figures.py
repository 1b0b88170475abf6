"""Numbers that tell collapse from health: how spread tokens are, what targets say, how long tokens are.

Pure functions of tensors. Which of them are alarming is said in ``monitor.py``.

References
----------
RankMe: Garrido et al., RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised
Representations by Their Rank, ICML 2023. Nearest neighbours: Sablayrolles et al., Spreading Vectors for
Similarity Search, ICLR 2019. Outlying norms: Darcet et al., Vision Transformers Need Registers, ICLR 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spatialdino_core.pretrain.teacher_output import TeacherOutput

MAX_TOKENS = 512
OUTLIER_MADS = 6.0


@torch.no_grad()
def batch_figures(
    teacher_output: TeacherOutput, student_class_logits: Tensor, student_temperature: float
) -> dict[str, float]:
    """Figures of one training batch: the teacher's tokens and targets, and how far the student is from them.

    Parameters
    ----------
    teacher_output
        Of n views.
    student_class_logits
        (>= n, K), the first n of the same views.
    student_temperature
        Softmax temperature of the student.

    Returns
    -------
    dict
        `token_figures` of ``class`` and ``patch`` tokens, `target_figures` of ``class_target`` and
        ``patch_target``; ``student_entropy`` and ``student_perplexity`` of the student's class
        outputs, and ``class_divergence`` of them from the targets (nats).
    """
    logits = student_class_logits[: len(teacher_output.class_targets)].double() / student_temperature
    student = target_figures("student", logits.softmax(-1))
    return {
        **token_figures("class", teacher_output.class_tokens),
        **token_figures("patch", teacher_output.patch_tokens.flatten(0, 1)),
        **target_figures("class_target", teacher_output.class_targets),
        **target_figures("patch_target", teacher_output.patch_targets),
        **{name: student[name] for name in ("student_entropy", "student_perplexity")},
        "class_divergence": divergence(teacher_output.class_targets, logits),
    }


def token_figures(name: str, tokens: Tensor) -> dict[str, float]:
    """Cosine, RankMe, spread and nearest-neighbour distance of (n, D) tokens, n >= 2.

    At most 512 of the tokens are looked at. ``_rank_share`` is RankMe over the largest rank that n centred
    tokens of width D can have, min(D, n - 1).
    """
    looked_at = sample(tokens, MAX_TOKENS).double()
    rank = rank_me(looked_at)
    return {
        f"{name}_cosine": mean_cosine(looked_at),
        f"{name}_rankme": rank,
        f"{name}_rank_share": rank / min(looked_at.shape[1], len(looked_at) - 1),
        f"{name}_std": float(looked_at.std(dim=0).mean()),
        f"{name}_nearest": nearest_distance(looked_at),
    }


def target_figures(name: str, probabilities: Tensor) -> dict[str, float]:
    """Entropy, perplexity and information of (n, K) probabilities.

    Returns
    -------
    dict
        ``_entropy`` (nats), the mean over samples of the entropy of each; ``_perplexity``, exp of the
        entropy of the mean, the number of prototypes in use; ``_information`` (nats), the difference of
        the two entropies: what a sample's target tells about the sample. It is 0 in every collapse of
        the targets, be they all uniform or all the same point, and at most ln n.
    """
    entropy = float(entropies(probabilities).mean())
    marginal = float(entropies(probabilities.mean(0)))
    return {
        f"{name}_entropy": entropy,
        f"{name}_perplexity": float(torch.tensor(marginal).exp()),
        f"{name}_information": marginal - entropy,
    }


def norm_figures(name: str, norms: Tensor) -> dict[str, float]:
    """Median, 99th percentile and maximum of norms of tokens, of any shape, and the share of outliers.

    An outlier exceeds the median by more than 6 median absolute deviations.
    """
    norms = sample(norms.flatten(), 1 << 20).double()
    median = norms.median()
    deviation = (norms - median).abs().median()
    return {
        f"{name}_norm_p50": float(median),
        f"{name}_norm_p99": float(torch.quantile(norms, 0.99)),
        f"{name}_norm_max": float(norms.max()),
        f"{name}_outliers": float((norms > median + OUTLIER_MADS * deviation).double().mean()),
    }


def mean_cosine(tokens: Tensor) -> float:
    """Mean cosine between different rows of (n, D) tokens, n >= 2."""
    count = len(tokens)
    total = functional.normalize(tokens.double(), dim=-1).sum(0).square().sum()
    return float((total - count) / (count * (count - 1)))


def rank_me(tokens: Tensor) -> float:
    """Effective rank: exp of the entropy of the normalised singular values of centred (n, D) tokens.

    Examples
    --------
    Three tokens at right angles span a plane around their mean; on a line they have one dimension.

    >>> round(rank_me(torch.eye(3)), 3)
    2.0
    >>> round(rank_me(torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])), 3)
    1.0
    """
    values = torch.linalg.svdvals((tokens - tokens.mean(0)).double())
    shares = values / values.sum().clamp(min=torch.finfo(torch.float64).tiny)
    return float(entropies(shares).exp())


def nearest_distance(tokens: Tensor) -> float:
    """Mean distance of (n, D) tokens, brought to unit length, to their nearest neighbours."""
    directions = functional.normalize(tokens.double(), dim=-1)
    distances = torch.cdist(directions, directions, compute_mode="donot_use_mm_for_euclid_dist")
    return float(distances.fill_diagonal_(torch.inf).amin(dim=1).mean())


def entropies(probabilities: Tensor) -> Tensor:
    """Entropy (nats) along the last axis, in double precision."""
    return torch.special.entr(probabilities.double()).sum(-1)


def divergence(targets: Tensor, logits: Tensor) -> float:
    """Mean Kullback-Leibler divergence (nats) from softmax(logits) to (n, K) targets."""
    crossed = -(targets.double() * torch.log_softmax(logits.double(), dim=-1)).sum(-1)
    return float((crossed - entropies(targets)).mean())


def sample(items: Tensor, most: int) -> Tensor:
    """At most ``most`` of the items along the first axis; always the same ones, and in no regular order."""
    if len(items) <= most:
        return items
    chosen = torch.randperm(len(items), generator=torch.Generator().manual_seed(0))[:most]
    return items[chosen.to(items.device)]
