"""One optimiser step: who learns, who follows, and that a step that is not finite changes nothing."""

import copy

import numpy as np
import pytest
import torch

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.pretrain import learner as learner_module
from spatialdino_core.pretrain.batches import make_batch
from spatialdino_core.pretrain.learner import Learner
from spatialdino_core.pretrain.networks import adamw
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.schedules import StepSettings

RECIPE = PretrainParameters(
    batch_size=3,
    global_crop_voxels=8,
    local_crop_voxels=4,
    prototypes=8,
    head_hidden_dim=12,
    head_bottleneck_dim=6,
)
TINY = EncoderParameters(embed_dim=8, depth=1, heads=2, patch_voxels=4, registers=1)
CPU = torch.device("cpu")
SETTINGS = StepSettings(learning_rate=1e-2, weight_decay=0.1, ema_momentum=0.8, teacher_temperature=0.04)


@pytest.fixture
def learner():
    return Learner(RECIPE, TINY, 0, CPU)


def batch(step=0):
    crops = [np.random.default_rng(i).random((1, 8, 8, 8), dtype=np.float32) for i in range(4)]
    return make_batch(crops, RECIPE, TINY.patch_voxels, 1, seed=0, step=step)


def test_teacher_starts_as_the_student(learner):
    student, teacher = learner.student.state_dict(), learner.teacher.state_dict()
    assert student.keys() == teacher.keys()
    assert all(torch.equal(student[name], teacher[name]) for name in student)
    assert not any(weight.requires_grad for weight in learner.teacher.parameters())
    assert all(weight.isfinite().all() for weight in student.values())


def test_teacher_is_the_moving_average_of_students(learner):
    expected = copy.deepcopy(learner.teacher.state_dict())
    for step in range(4):
        learner.learn(batch(step), SETTINGS)
        for name, weight in learner.student.state_dict().items():
            expected[name] = 0.8 * expected[name] + 0.2 * weight
    for name, weight in learner.teacher.state_dict().items():
        torch.testing.assert_close(weight, expected[name])
    moved = [
        not torch.equal(a, b)
        for a, b in zip(
            learner.student.parameters(), Learner(RECIPE, TINY, 0, CPU).student.parameters(), strict=True
        )
    ]
    assert all(moved)  # every weight learns, mask token, registers and prototypes included


def test_centres_follow_the_teacher_logits(learner):
    said = learner.learn(batch(), SETTINGS).teaching
    torch.testing.assert_close(learner.class_targets.center, 0.1 * said.class_logits.mean(0))
    torch.testing.assert_close(learner.patch_targets.center, 0.1 * said.patch_logits.mean(0))


def test_step_that_is_not_finite_changes_nothing(learner, monkeypatch):
    learner.learn(batch(), SETTINGS)
    before = copy.deepcopy(learner.state_dict())
    nan = torch.tensor(torch.nan)
    original = learner_module.koleo_loss
    monkeypatch.setattr(learner_module, "koleo_loss", lambda tokens: original(tokens) * nan)
    outcome = learner.learn(batch(1), SETTINGS)
    assert not outcome.finite
    for part in ("student", "teacher", "class_targets", "patch_targets"):
        after = learner.state_dict()[part]
        assert all(torch.equal(after[name], before[part][name]) for name in after)
    monkeypatch.undo()
    assert learner.learn(batch(1), SETTINGS).finite


def test_weight_decay_spares_vectors_and_tokens(learner):
    names = {id(weight): name for name, weight in learner.student.named_parameters()}
    groups = adamw(learner.student).param_groups
    decayed = {names[id(weight)] for weight in groups[0]["params"]}
    spared = {names[id(weight)] for weight in groups[1]["params"]}
    assert decayed | spared == set(names.values())
    assert "encoder.blocks.0.attn.qkv.weight" in decayed
    assert {
        "encoder.cls_token",
        "encoder.mask_token",
        "encoder.register_tokens",
        "encoder.norm.weight",
    } <= spared
    learner.learn(batch(), SETTINGS)
    assert [group["weight_decay"] for group in learner.optimiser.param_groups] == [0.1, 0.0]
    assert {group["lr"] for group in learner.optimiser.param_groups} == {1e-2}
