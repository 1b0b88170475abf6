"""The collapse monitor: figures by definition, alarms on planted collapse and silence on health."""

import math

import pytest
import torch
from torch.nn import functional

from spatialdino_core.pretrain.learner import Teaching
from spatialdino_core.pretrain.monitor import CollapseMonitor, figures, mean_cosine, rank_me
from spatialdino_core.pretrain.parameters import PretrainParameters

PROTOTYPES = 64
RECIPE = PretrainParameters(prototypes=PROTOTYPES, warmup_steps=10, uniform_alarm_steps=5)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def teaching(class_tokens=None, patch_tokens=None, class_targets=None):
    logits = normal(40, PROTOTYPES, seed=2)
    return Teaching(
        class_tokens=normal(40, 32) if class_tokens is None else class_tokens,
        patch_tokens=normal(40, 20, 32, seed=1) if patch_tokens is None else patch_tokens,
        class_logits=logits,
        patch_logits=logits,
        class_targets=(3 * logits).softmax(-1) if class_targets is None else class_targets,
        patch_targets=(3 * logits).softmax(-1),
    )


def alarms(said, monitor=None, step=10):
    monitor = monitor or CollapseMonitor(RECIPE)
    return monitor.alarms(step, figures(said), said.class_tokens)


def test_health_raises_no_alarm():
    assert alarms(teaching()) == []


PLANTED = {
    "uniform-collapse": teaching(class_targets=torch.full((40, PROTOTYPES), 1 / PROTOTYPES)),
    "point-collapse": teaching(class_targets=functional.one_hot(torch.arange(40) % 3, PROTOTYPES).float()),
    "class-cosine": teaching(class_tokens=normal(40, 32) * 0.1 + 1),
    "rank": teaching(patch_tokens=normal(40, 20, 1) * normal(32)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_collapse_raises_its_alarm(name):
    assert alarms(PLANTED[name]) == [name]
    assert alarms(PLANTED[name], step=9) == []  # warm-up


def test_loss_that_stays_uniform_raises_an_alarm():
    monitor = CollapseMonitor(RECIPE)
    uniform = math.log(PROTOTYPES)
    for loss in (uniform, uniform, 0.9 * uniform, *[0.99 * uniform] * 4):
        monitor.observe(loss)
    assert alarms(teaching(), monitor) == []
    monitor.observe(uniform)
    assert alarms(teaching(), monitor) == ["uniform-collapse"]


def test_figures_by_definition():
    tokens = normal(9, 5).double()
    pairs = [
        functional.cosine_similarity(tokens[a], tokens[b], dim=0).item()
        for a in range(9)
        for b in range(9)
        if a != b
    ]
    assert mean_cosine(tokens) == pytest.approx(sum(pairs) / len(pairs))
    balanced = torch.cat([torch.eye(4), -torch.eye(4)])  # four equal singular values after centring
    assert rank_me(balanced) == pytest.approx(4)
    assert rank_me(torch.ones(8, 4)) == pytest.approx(1)
    said = teaching(class_targets=functional.one_hot(torch.arange(40) % 4, PROTOTYPES).float())
    measured = figures(said)
    assert measured["class_target_entropy"] == pytest.approx(0, abs=1e-6)
    assert measured["class_target_perplexity"] == pytest.approx(4, rel=1e-5)
    assert measured["class_std"] == pytest.approx(said.class_tokens.std(0).mean().item())
