"""Figures by definition, on sets whose figures are known."""

import math

import pytest
import torch
from scipy.stats import entropy
from torch.nn import functional

from spatialdino_core.pretrain.figures import (
    batch_figures,
    divergence,
    mean_cosine,
    nearest_distance,
    norm_figures,
    rank_me,
    sample,
    target_figures,
    token_figures,
)
from spatialdino_core.pretrain.teacher_output import TeacherOutput


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def test_cosine_is_the_mean_over_all_pairs():
    tokens = normal(9, 5)
    pairs = [
        functional.cosine_similarity(tokens[a], tokens[b], dim=0).item()
        for a in range(9)
        for b in range(9)
        if a != b
    ]
    assert mean_cosine(tokens) == pytest.approx(sum(pairs) / len(pairs))


def test_rank_counts_equal_directions():
    balanced = torch.cat([torch.eye(4), -torch.eye(4)])  # four equal singular values after centring
    assert rank_me(balanced) == pytest.approx(4)
    assert rank_me(balanced + 100) == pytest.approx(4)
    assert rank_me(torch.ones(8, 4)) == pytest.approx(1)
    assert token_figures("t", balanced)["t_rank_share"] == pytest.approx(1)  # at most min(4, 8 - 1)
    few = normal(4, 1000)  # nearly orthogonal: after centring three equal directions
    assert token_figures("t", few)["t_rank_share"] == pytest.approx(1, abs=0.01)


def test_nearest_neighbours_on_the_circle():
    angles = torch.tensor([0.0, 10.0, 90.0, 200.0]).deg2rad()
    points = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [5.0], [2.0], [9.0]])
    chords = [2 * math.sin(math.radians(degrees) / 2) for degrees in (10, 10, 80, 110)]
    assert nearest_distance(points) == pytest.approx(sum(chords) / 4, rel=1e-6)


def test_targets_are_measured_as_scipy_does():
    targets = (2 * normal(30, 12)).softmax(-1)
    found = target_figures("t", targets)
    each, mean = entropy(targets.numpy(), axis=1).mean(), entropy(targets.mean(0).numpy())
    assert found["t_entropy"] == pytest.approx(each)
    assert found["t_perplexity"] == pytest.approx(math.exp(mean))
    assert found["t_information"] == pytest.approx(mean - each)


@pytest.mark.parametrize(
    ("targets", "entropies", "used", "information"),
    [
        (torch.full((8, 4), 0.25), math.log(4), 4, 0),
        (torch.eye(4)[torch.zeros(8).long()], 0, 1, 0),
        (torch.eye(4).repeat(2, 1), 0, 4, math.log(4)),
    ],
)
def test_information_is_zero_in_either_collapse(targets, entropies, used, information):
    found = target_figures("t", targets)
    assert found["t_entropy"] == pytest.approx(entropies, abs=1e-9)
    assert found["t_perplexity"] == pytest.approx(used)
    assert found["t_information"] == pytest.approx(information, abs=1e-9)


def test_divergence_is_that_of_kullback_and_leibler():
    targets, logits = (2 * normal(30, 12)).softmax(-1), normal(30, 12, seed=1)
    expected = entropy(targets.numpy(), logits.softmax(-1).numpy(), axis=1).mean()
    assert divergence(targets, logits) == pytest.approx(expected)


def test_student_is_compared_on_the_teachers_views():
    logits = normal(6, 12)
    teacher_output = TeacherOutput(
        normal(6, 8), normal(6, 5, 8), logits, logits, (logits / 0.1).softmax(-1), logits.softmax(-1)
    )
    local = normal(12, 12, seed=1)
    found = batch_figures(teacher_output, torch.cat([logits, local]), 0.1)
    assert found["class_divergence"] == pytest.approx(0, abs=1e-9)
    assert found["student_entropy"] == pytest.approx(found["class_target_entropy"])
    assert batch_figures(teacher_output, logits, 0.2)["class_divergence"] > 0.01


def test_norms_know_their_outliers():
    norms = torch.cat([torch.linspace(9, 11, 990), torch.full((10,), 40.0)]).reshape(10, 100)
    found = norm_figures("b", norms)
    assert found["b_norm_p50"] == pytest.approx(10, abs=0.02)
    assert found["b_norm_max"] == 40
    assert found["b_norm_p99"] == pytest.approx(float(norms.double().quantile(0.99)))
    assert found["b_outliers"] == pytest.approx(0.01)


def test_sample_is_always_the_same_and_without_repetition():
    items = torch.arange(1000)
    chosen = sample(items, 100)
    assert len(set(chosen.tolist())) == 100
    assert torch.equal(chosen, sample(items, 100))
    assert torch.equal(sample(items, 1000), items)
