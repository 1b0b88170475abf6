"""Losses and teacher targets against their definitions, written out in float64."""

import math

import pytest
import torch
from small import small_recipe

from spatialdino_core.pretrain.losses import dino_loss, ibot_loss, koleo_loss
from spatialdino_core.pretrain.targets import TeacherTargets, sinkhorn_knopp


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cross_entropy(target, logits, temperature):
    exponentials = [math.exp(value / temperature) for value in logits.tolist()]
    return -sum(
        t * math.log(e / sum(exponentials)) for t, e in zip(target.tolist(), exponentials, strict=True)
    )


def test_dino_pairs_every_other_view():
    views, items, prototypes, temperature = 5, 3, 7, 0.3
    student = normal(views, items, prototypes)
    targets = normal(2, items, prototypes, seed=1).softmax(-1)
    terms = [
        cross_entropy(targets[teacher, item], student[view, item], temperature)
        for teacher in range(2)
        for view in range(views)
        for item in range(items)
        if view != teacher
    ]
    assert len(terms) == (2 * views - 2) * items
    assert dino_loss(student, targets, temperature).item() == pytest.approx(
        sum(terms) / len(terms), rel=1e-12
    )


def test_dino_of_uniform_outputs_is_log_of_prototypes():
    uniform = torch.full((2, 4, 128), 1 / 128)
    assert dino_loss(torch.zeros(4, 4, 128), uniform, 0.1).item() == pytest.approx(math.log(128), rel=1e-6)


def test_ibot_weighs_crops_equally():
    masks = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
    student = normal(4, 6)
    targets = normal(4, 6, seed=1).softmax(-1)
    entropies = [cross_entropy(targets[row], student[row], 0.5) for row in range(4)]
    truth = (sum(entropies[:3]) / 3 + entropies[3]) / 2
    assert ibot_loss(student, targets, masks, 0.5, masked_views=2).item() == pytest.approx(truth, rel=1e-12)


def test_koleo_is_minus_log_of_nearest_distance():
    tokens = normal(6, 3)
    directions = [row / math.dist(row, [0] * 3) for row in tokens.numpy()]
    nearest = [min(math.dist(a, b) for b in directions if b is not a) for a in directions]
    truth = -sum(math.log(distance) for distance in nearest) / 6
    assert koleo_loss(tokens).item() == pytest.approx(truth, rel=1e-9)


def test_koleo_spreads_and_survives_duplicates():
    tokens = torch.ones(3, 4).requires_grad_()
    loss = koleo_loss(tokens)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-8), rel=1e-3)
    assert tokens.grad.isfinite().all()
    assert koleo_loss(torch.eye(4)) < koleo_loss(torch.eye(4) + 1)


def test_sinkhorn_knopp_balances_rows_and_columns():
    logits = normal(40, 8) * 0.1
    assigned = sinkhorn_knopp(logits, 0.05, 200)
    torch.testing.assert_close(assigned.sum(1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(assigned.sum(0), torch.full((8,), 5.0, dtype=torch.float64), rtol=1e-6, atol=0)


def test_sinkhorn_knopp_equals_plain_scaling():
    logits = normal(10, 4)
    scaled = (logits / 0.5).exp()
    for _ in range(3):
        scaled = scaled / scaled.sum(0)
        scaled = scaled / scaled.sum(1, keepdim=True)
    torch.testing.assert_close(sinkhorn_knopp(logits, 0.5, 3), scaled)
    assert sinkhorn_knopp(logits * 1e4, 0.04, 3).isfinite().all()


def test_centring_subtracts_the_running_mean():
    targets = TeacherTargets(small_recipe(prototypes=5, center_momentum=0.9)).double()
    first, second = normal(8, 5), normal(8, 5, seed=1)
    torch.testing.assert_close(targets(first, 0.2), (first / 0.2).softmax(-1))
    targets.update()
    for half in second.split(4):  # two micro-batches of one step
        targets(half, 0.2)
    targets.update()
    center = 0.9 * 0.1 * first.mean(0) + 0.1 * second.mean(0)
    torch.testing.assert_close(targets(second, 0.2), ((second - center) / 0.2).softmax(-1))


def test_sinkhorn_is_chosen_by_the_parameters():
    targets = TeacherTargets(small_recipe(prototypes=5, targets="sinkhorn", sinkhorn_iterations=2))
    logits = normal(8, 5)
    torch.testing.assert_close(targets(logits, 0.2), sinkhorn_knopp(logits, 0.2, 2))


def test_what_was_forgotten_does_not_move_the_centre():
    targets = TeacherTargets(small_recipe(prototypes=5)).double()
    targets(normal(8, 5), 0.2)
    targets.forget()
    targets.update()
    assert not targets.center.any()
