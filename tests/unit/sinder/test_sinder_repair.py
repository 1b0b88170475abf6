"""Repair as a whole: a planted defect goes, all else stays; without a defect nothing changes."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from sinder_plant import PLANTED_BLOCK, SMALL, TURNED, crops, healthy, planted, spot_crop

from spatialdino_core.encoder.header import WeightsHeader
from spatialdino_core.encoder.weights import save_encoder
from spatialdino_core.errors import BadInputError
from spatialdino_core.sinder.parameters import RepairParameters
from spatialdino_core.sinder.repair import repair

PARAMETERS = RepairParameters(max_crops=16)


@pytest.fixture(scope="module", params=[SMALL, TURNED], ids=["no positions", "rope"])
def outcome(request):
    encoder, _ = planted(parameters=request.param)
    return encoder, *repair(encoder, crops(), PARAMETERS, seed=0)


def spot_ratio(encoder):
    """Largest over median norm after the planted block, on crops that no one has seen."""
    x, grid = encoder.embed(torch.from_numpy(np.stack([spot_crop(seed) for seed in range(100, 108)])))
    for block in encoder.blocks[: PLANTED_BLOCK + 1]:
        x = block(x, encoder.rotation(grid))
    norms = x[:, encoder.first_patch :].norm(dim=-1)
    return float((norms.max() / norms.median()).detach())


def test_planted_defect_is_repaired(outcome):
    encoder, repaired, report = outcome
    assert report.decision == "repaired"
    before, after = report.before[PLANTED_BLOCK], report.after[PLANTED_BLOCK]
    assert before.outlier_rate > 0.005
    assert after.outlier_rate <= before.outlier_rate / 10
    assert report.class_cosine > 0.99
    assert report.patch_cosine > 0.99
    assert spot_ratio(encoder) > 5
    assert spot_ratio(repaired) < 2
    assert 0 < report.steps <= PARAMETERS.steps


def test_report_is_json(outcome):
    content = json.loads(json.dumps(asdict(outcome[2]), allow_nan=False))
    assert content["decision"] == "repaired"
    assert content["before"][PLANTED_BLOCK]["defective"] is True
    assert len(content["after"]) == SMALL.depth


def test_original_is_not_changed_by_its_repair(outcome):
    fresh, _ = planted(parameters=outcome[0].architecture)
    original = outcome[0].state_dict()
    assert all(torch.equal(weight, original[name]) for name, weight in fresh.state_dict().items())
    assert repaired_differs(outcome[1], fresh)


def repaired_differs(repaired, fresh):
    return any(not torch.equal(w, fresh.state_dict()[name]) for name, w in repaired.state_dict().items())


def test_no_defect_leaves_the_bytes(tmp_path):
    header = WeightsHeader(
        architecture=SMALL, voxel_um=(0.1, 0.1, 0.1), normalisation={}, field_of_view_voxels=(24, 24, 24)
    )
    save_encoder(tmp_path / "before.safetensors", healthy(), header)
    encoder, report = repair(healthy(), crops(), PARAMETERS)
    save_encoder(tmp_path / "after.safetensors", encoder, header)
    assert report.decision == "no singular defect"
    assert (report.steps, report.after, report.class_cosine) == (0, [], None)
    assert (tmp_path / "after.safetensors").read_bytes() == (tmp_path / "before.safetensors").read_bytes()


def test_repair_that_does_not_help_is_rejected():
    encoder, _ = planted()
    result, report = repair(encoder, crops(), replace(PARAMETERS, steps=3))
    assert report.decision == "rejected"
    assert result is encoder
    assert any("outliers only fell" in reason for reason in report.reasons)


def test_same_seed_gives_the_same_weights():
    short = replace(PARAMETERS, steps=5, min_reduction=1, min_cosine=-1)
    states = [repair(planted()[0], crops(), short, seed=seed)[0].state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["blocks.1.mlp.fc2.weight"], states[2]["blocks.1.mlp.fc2.weight"])


class RecordedCrops(list):
    """Crops that remember who asked for them."""

    def __init__(self, items):
        super().__init__(items)
        self.reads = []

    def __getitem__(self, index):
        self.reads.append(index)
        return super().__getitem__(index)


def test_diagnosis_and_repair_see_different_crops_and_repair_sees_all_of_its_own():
    source = RecordedCrops(crops())
    repair(planted()[0], source, replace(PARAMETERS, steps=12))
    odd = [source.reads.count(index) for index in range(1, 16, 2)]
    assert min(odd) > 2  # every one is looked at twice before the repair begins
    assert sum(odd) >= 12 * 4  # all crops of all training batches are odd


def test_crops_of_any_size_and_bad_crops():
    mixed = [spot_crop(0, 27), spot_crop(1, 24)]
    assert repair(healthy(), mixed, PARAMETERS)[1].decision == "no singular defect"
    assert repair(healthy(), mixed[:1], PARAMETERS)[1].decision == "no singular defect"
    with pytest.raises(BadInputError, match="normalised"):
        repair(healthy(), [crop * 500 for crop in mixed], PARAMETERS)
