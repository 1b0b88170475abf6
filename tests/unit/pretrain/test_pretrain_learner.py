"""One optimiser step: who learns, who follows, and that a step that is not finite changes nothing."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small import small_recipe

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.pretrain import learner as learner_module
from spatialdino_core.pretrain.batches import make_batch
from spatialdino_core.pretrain.learner import Learner
from spatialdino_core.pretrain.networks import new_network
from spatialdino_core.pretrain.optimiser import adamw, set_rates
from spatialdino_core.pretrain.schedules import StepSettings

RECIPE = small_recipe(
    batch_size=3,
    global_crop_voxels=8,
    local_crop_voxels=4,
    prototypes=8,
    head_hidden_dim=12,
    head_bottleneck_dim=6,
)
TINY = EncoderParameters(
    embed_dim=8, depth=1, heads=2, patch_voxels=4, registers=1, drop_path=0.0, layer_scale=1.0
)
CPU = torch.device("cpu")
SETTINGS = StepSettings(learning_rate=1e-2, weight_decay=0.1, ema_momentum=0.8, teacher_temperature=0.04)


@pytest.fixture
def learner():
    return new_learner()


def new_learner(recipe=RECIPE, architecture=TINY):
    return Learner(recipe, new_network(recipe, architecture, 0), CPU)


def batch(step=0, recipe=RECIPE, **part):
    crops = [np.random.default_rng(i).random((1, 8, 8, 8), dtype=np.float32) for i in range(4)]
    return [make_batch(crops, recipe, TINY, seed=0, step=step, **part).changed()]


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
        for a, b in zip(learner.student.parameters(), new_learner().student.parameters(), strict=True)
    ]
    assert all(moved)  # every weight learns, mask token, registers and prototypes included


def test_centres_follow_the_teacher_logits(learner):
    said = learner.learn(batch(), SETTINGS).teacher_output
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


def groups_of(learner, recipe=RECIPE):
    """Optimiser group of each weight, by name."""
    names = {id(weight): name for name, weight in learner.student.named_parameters()}
    groups = adamw(learner.student, recipe).param_groups
    found = {names[id(weight)]: group for group in groups for weight in group["params"]}
    assert found.keys() == set(names.values())
    return found


def test_weight_decay_spares_vectors_and_tokens(learner):
    decays = {name: group["decays"] for name, group in groups_of(learner).items()}
    assert decays["encoder.blocks.0.attn.qkv.weight"]
    assert decays["class_head.mlp.0.weight"]
    for name in ("cls_token", "mask_token", "register_tokens", "norm.weight", "blocks.0.attn.qkv.bias"):
        assert not decays[f"encoder.{name}"]
    learner.learn(batch(), SETTINGS)
    assert {group["weight_decay"] for group in learner.optimiser.param_groups} == {0.1, 0.0}
    assert {group["lr"] for group in learner.optimiser.param_groups} == {1e-2}


def test_learning_rates_of_layers_follow_their_formula():
    recipe = replace(RECIPE, layer_decay=0.5, patch_embedding_rate=0.2)
    learner = new_learner(recipe, replace(TINY, depth=3))
    set_rates(learner.optimiser, SETTINGS)
    names = {id(weight): name for name, weight in learner.student.named_parameters()}
    rates = {names[id(w)]: group["lr"] for group in learner.optimiser.param_groups for w in group["params"]}
    assert rates["class_head.prototypes"] == pytest.approx(1e-2)
    assert rates["encoder.norm.weight"] == pytest.approx(1e-2)
    assert rates["encoder.blocks.2.mlp.fc1.weight"] == pytest.approx(1e-2)
    assert rates["encoder.blocks.0.mlp.fc1.weight"] == pytest.approx(1e-2 / 4)
    assert rates["encoder.cls_token"] == pytest.approx(1e-2 / 8)
    assert rates["encoder.patch_embed.proj.weight"] == pytest.approx(1e-2 / 8 * 0.2)


@pytest.mark.parametrize(("frozen", "still"), [("encoder", "encoder."), ("prototypes", "class_head.proto")])
def test_what_is_frozen_stays(learner, frozen, still):
    before = copy.deepcopy(learner.student.state_dict())
    learner.learn(batch(), replace(SETTINGS, **{f"{frozen}_frozen": True}))
    for name, weight in learner.student.state_dict().items():
        if not name.startswith("patch_head"):  # the shared head under its other name
            assert torch.equal(weight, before[name]) == name.startswith(still), name


def test_heads_are_shared_or_separate():
    shared = new_learner().student
    assert shared.class_head is shared.patch_head
    separate = new_learner(replace(RECIPE, heads="separate")).student
    assert separate.class_head is not separate.patch_head
    assert not torch.equal(separate.class_head.prototypes, separate.patch_head.prototypes)


@pytest.mark.parametrize("heads", ["shared", "separate"])
def test_every_weight_receives_a_gradient(heads):
    recipe = replace(RECIPE, heads=heads)
    learner = new_learner(recipe, replace(TINY, depth=3))
    (views,) = batch(0, recipe)
    answer = learner.student(views)
    learner._losses(views, answer, learner._teacher_output(views, 0.04))[0].backward()
    for name, weight in learner.student.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any(), name


def test_micro_batches_add_up_to_the_gradient_of_the_batch():
    """Without KoLeo, whose neighbours are those of a micro-batch."""
    recipe = replace(RECIPE, batch_size=6, koleo_weight=0.0)

    def gradient(parts):
        learner = new_learner(replace(recipe, accumulation=parts))
        learner.student.double()
        learner.teacher.double()
        for targets in (learner.class_targets, learner.patch_targets):
            targets.double()
            targets.forget()
        learner.optimiser = torch.optim.SGD(learner.student.parameters(), lr=1.0)
        learner_module.set_rates = lambda optimiser, settings: None
        before = copy.deepcopy(learner.student.state_dict())
        micro = [batch(0, recipe, part=part, parts=parts)[0] for part in range(parts)]
        learner.learn([in_double(one) for one in micro], SETTINGS)
        return {name: before[name] - weight for name, weight in learner.student.state_dict().items()}

    original = learner_module.set_rates
    try:
        whole, halves = gradient(1), gradient(2)
    finally:
        learner_module.set_rates = original
    for name in whole:
        torch.testing.assert_close(halves[name], whole[name], rtol=1e-9, atol=1e-12)


def in_double(one):
    views = [replace(v, voxels=v.voxels.double()) for v in (one.global_views, one.local_views)]
    return replace(one, global_views=views[0], local_views=views[1])


def test_activation_checkpointing_changes_nothing():
    outcomes = []
    for recomputed in (False, True):
        recipe = replace(RECIPE, activation_checkpointing=recomputed)
        learner = new_learner(recipe, replace(TINY, drop_path=0.4))
        views = [
            make_batch([noise(i) for i in range(4)], recipe, replace(TINY, drop_path=0.4), seed=0, step=0)
        ]
        learner.learn([one.changed() for one in views], SETTINGS)
        outcomes.append(learner.student.state_dict())
    assert all(torch.equal(outcomes[0][name], outcomes[1][name]) for name in outcomes[0])


def noise(number):
    return np.random.default_rng(number).random((1, 8, 8, 8), dtype=np.float32)


def test_half_precision_is_the_encoders_alone():
    network = new_network(RECIPE, TINY, 0, half=True)
    (views,) = batch()
    answer = network(views)
    assert network.encoder.blocks[0].attn.qkv.weight.dtype == torch.float32
    assert answer.class_logits.dtype == answer.patch_logits.dtype == torch.float32
    full = new_network(RECIPE, TINY, 0)(views)
    difference = (answer.class_logits - full.class_logits).abs().max()
    assert 0 < difference < 0.05
