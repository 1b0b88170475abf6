"""The training loop: it learns, and a killed run resumes as if nothing had happened."""

import errno
import math
import resource
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from small import small_recipe

from spatialdino_core.crops.parameters import AugmentationParameters, NormalisationParameters
from spatialdino_core.crops.source import CropDescription
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.weights import load_encoder
from spatialdino_core.errors import BadInputError
from spatialdino_core.pretrain import learner as learner_module
from spatialdino_core.pretrain import training_log
from spatialdino_core.pretrain.checkpoint import load_latest, save_checkpoint
from spatialdino_core.pretrain.loop import pretrain

TINY = EncoderParameters(
    embed_dim=16, depth=2, heads=2, patch_voxels=4, registers=1, drop_path=0.2, layer_scale=1.0
)
SMALL = dict(
    batch_size=3,
    global_crop_voxels=8,
    local_crop_voxels=4,
    prototypes=16,
    head_hidden_dim=16,
    head_bottleneck_dim=8,
    warmup_steps=2,
    log_interval_steps=1,
    monitor_interval_steps=4,
    checkpoint_interval_steps=2,
)
SPEED = ["crops_per_s", "tokens_per_s", "mfu_percent", "data_wait_percent", "peak_memory_mb"]
DESCRIPTION = CropDescription(
    voxel_um=(0.1, 0.1, 0.1),
    normalisation=asdict(NormalisationParameters()),
    content_hash="abc",
    provenance={"movies": ["cell_1"]},
)


def noise_crops(count=7, side=10):
    return [np.random.default_rng(i).random((1, side, side, side), dtype=np.float32) for i in range(count)]


LOOKS = 2 * 7  # the check before training reads all seven, and so does the log


class PowerCutError(Exception):
    """Stands for whatever kills a job."""


class CropsUntil(list):
    """Crops that can be read a limited number of times."""

    reads = 0
    limit = 0

    def __getitem__(self, index):
        self.reads += 1
        if self.reads > self.limit:
            raise PowerCutError
        return super().__getitem__(index)


def run(folder, crops=None, seed=0, architecture=TINY, **changes):
    recipe = small_recipe(**{**SMALL, "steps": 8, **changes})
    crops = noise_crops() if crops is None else crops
    return pretrain(crops, recipe, architecture, folder, description=DESCRIPTION, seed=seed)


def interrupted(folder, finished_steps, **changes):
    crops = CropsUntil(noise_crops())
    crops.limit = LOOKS + 3 * finished_steps
    with pytest.raises(PowerCutError):
        run(folder, crops, **changes)


@pytest.mark.parametrize("targets", ["centering", "sinkhorn"])
def test_killed_run_resumes_bit_for_bit(tmp_path, targets):
    straight = run(tmp_path / "straight", targets=targets)
    interrupted(tmp_path / "killed", 5, targets=targets)  # one step after its last checkpoint
    assert not (tmp_path / "killed/pretrained.safetensors").exists()
    resumed = run(tmp_path / "killed", targets=targets)
    assert resumed.read_bytes() == straight.read_bytes()
    tables = [pd.read_csv(tmp_path / name / "metrics.csv") for name in ("straight", "killed")]
    assert tables[1]["step"].tolist() == list(range(1, 9))
    pd.testing.assert_frame_equal(*(table.drop(columns=SPEED) for table in tables))
    held_out = [(tmp_path / name / "held_out.csv").read_bytes() for name in ("straight", "killed")]
    assert held_out[0] == held_out[1]


def test_resumed_run_starts_at_the_checkpoint(tmp_path):
    interrupted(tmp_path, 5)
    crops = CropsUntil(noise_crops())
    crops.limit = LOOKS + 3 * 4  # steps 4 to 7 only
    run(tmp_path, crops)
    assert crops.reads == crops.limit


def test_finished_run_is_not_repeated_and_other_settings_start_anew(tmp_path):
    first = run(tmp_path).read_bytes()
    crops = CropsUntil(noise_crops())
    crops.limit = LOOKS
    assert run(tmp_path, crops).read_bytes() == first
    other = run(tmp_path, learning_rate=1e-3)
    assert other.read_bytes() != first
    assert pd.read_csv(tmp_path / "metrics.csv")["step"].tolist() == list(range(1, 9))
    assert run(tmp_path / "seed", seed=1).read_bytes() != first


def test_weights_file_describes_itself(tmp_path):
    encoder, header, _ = load_encoder(run(tmp_path))
    assert header.architecture == TINY
    assert header.voxel_um == (0.1, 0.1, 0.1)
    assert header.normalisation == DESCRIPTION.normalisation
    assert header.field_of_view_voxels == (8, 8, 8)
    assert header.provenance["movies"] == ["cell_1"]
    assert header.provenance["pretrain"]["recipe"]["steps"] == 8
    assert encoder(torch.rand(1, 1, 8, 12, 4)).grid == (2, 3, 1)


def test_weights_are_those_of_the_teacher(tmp_path):
    encoder, _, _ = load_encoder(run(tmp_path))
    (folder,) = (tmp_path / "checkpoints").iterdir()
    learner = load_latest(folder)["learner"]
    name = "blocks.1.attn.qkv.weight"
    assert torch.equal(encoder.state_dict()[name], learner["teacher"][f"encoder.{name}"])
    assert not torch.equal(encoder.state_dict()[name], learner["student"][f"encoder.{name}"])


def test_three_bad_steps_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(learner_module, "koleo_loss", lambda tokens: tokens.sum() * torch.nan)
    with pytest.raises(BadInputError, match="3 steps in a row"):
        run(tmp_path)


def test_views_must_be_whole_patches(tmp_path):
    with pytest.raises(BadInputError, match="a multiple of encoder"):
        run(tmp_path, local_crop_voxels=6)


def test_only_the_newest_checkpoints_are_kept_and_damage_is_named(tmp_path):
    for step in (2, 4, 10):
        save_checkpoint(tmp_path, step, {"step": step, "tensor": torch.ones(2)}, keep=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000004.pt", "step-000000010.pt"]
    assert load_latest(tmp_path)["step"] == 10
    newest = tmp_path / "step-000000010.pt"
    newest.write_bytes(newest.read_bytes()[:-200])
    with pytest.raises(BadInputError, match="unreadable checkpoint"):
        load_latest(tmp_path)
    newest.unlink()
    assert load_latest(tmp_path)["step"] == 4
    assert load_latest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("room", [100, 100_000])
def test_no_room_for_a_checkpoint_is_said_in_the_words_of_the_disk(tmp_path, room):
    """Against a limit of the operating system: files that grow beyond it cannot be written."""
    save_checkpoint(tmp_path, 1, {"tensor": torch.ones(2)}, keep=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            save_checkpoint(tmp_path, 2, {"tensor": torch.ones(100_000)}, keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]


def blob_crop(rng, side=24):
    """Gaussian spots on noise; number, size and brightness vary from crop to crop."""
    z, y, x = np.ogrid[:side, :side, :side]
    volume = rng.normal(0.1, 0.03, (side,) * 3)
    sigma, brightness = rng.uniform(0.8, 3.0), rng.uniform(0.2, 0.9)
    for _ in range(rng.integers(2, 30)):
        cz, cy, cx = rng.uniform(0, side, 3)
        volume += brightness * np.exp(-((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    return volume.clip(0, 1).astype(np.float32)[None]


def test_training_lowers_the_loss(tmp_path):
    crops = [blob_crop(np.random.default_rng(i)) for i in range(48)]
    run(
        tmp_path,
        crops,
        architecture=EncoderParameters(
            embed_dim=32, depth=2, heads=2, patch_voxels=4, layer_scale=1.0, drop_path=0.0
        ),
        steps=60,
        batch_size=16,
        global_crop_voxels=16,
        local_crop_voxels=8,
        prototypes=32,
        head_hidden_dim=64,
        head_bottleneck_dim=32,
        targets="sinkhorn",  # its targets never collapse, so a falling loss means learning
        learning_rate=3e-3,
        ema_momentum=0.95,
        warmup_steps=5,
        checkpoint_interval_steps=60,
        monitor_interval_steps=60,
        heads="separate",
        mask_foreground_bias=0.0,
        augmentation=AugmentationParameters(gamma_min=0.8, gamma_max=1.25, contrast_change=0.1),
    )
    table = pd.read_csv(tmp_path / "metrics.csv")
    start, end = table.iloc[:10].mean(numeric_only=True), table.iloc[-10:].mean(numeric_only=True)
    uniform = math.log(32)
    assert end["dino_loss"] < min(uniform, start["dino_loss"])
    assert end["ibot_loss"] < 0.95 * uniform < start["ibot_loss"]
    assert end["class_cosine"] < start["class_cosine"] - 0.05
    assert end["class_target_entropy"] > 0.5 * uniform


def test_alarms_that_the_recipe_alone_tells_are_announced_first_and_once(tmp_path, capfd):
    run(tmp_path, targets="sinkhorn", prototypes=1024, monitor_interval_steps=2)
    errors = capfd.readouterr().err
    assert errors.count("alarm at step 0: too-few-samples:class") == 1
    assert errors.count("alarm") == 1


@pytest.mark.parametrize("answer", ["warn", "stop"])
def test_a_collapse_warns_once_or_stops(tmp_path, monkeypatch, capfd, answer):
    def collapse(monitor, step, figures):
        monitor.raised = ["point-collapse:class"] if step >= 4 else []
        return monitor.raised

    monkeypatch.setattr(training_log.CollapseMonitor, "alarms", collapse)
    if answer == "warn":
        run(tmp_path, on_collapse=answer, monitor_interval_steps=2)
        assert capfd.readouterr().err.count("alarm at step 4: point-collapse:class. Every view gets") == 1
        return
    with pytest.raises(BadInputError, match=r"step 4.*point-collapse:class"):
        run(tmp_path, on_collapse=answer, monitor_interval_steps=2)
    assert (tmp_path / "pretrain.png").exists()


def test_pictures_show_all_that_was_logged(tmp_path, monkeypatch):
    drawn = []
    original = training_log.training_figure
    monkeypatch.setattr(
        training_log, "training_figure", lambda *tables: drawn.append(tables) or original(*tables)
    )
    run(tmp_path)
    assert [len(table) for table in drawn[-1]] == [8, 2]
