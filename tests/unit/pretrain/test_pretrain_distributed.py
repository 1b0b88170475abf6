"""Two processes learn what one learns from the same batches; started by torchrun, over loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import two_processes

from spatialdino_core.pretrain.distributed import (
    World,
    any_of,
    first_of,
    gathered,
    gathered_objects,
    largest,
    summed,
)

SCRIPT = Path(two_processes.__file__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("processes")
    launcher = "torch.distributed.run --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:0"
    launcher += " --local-addr 127.0.0.1"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", *launcher.split(), str(SCRIPT), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    two_processes.main(out)
    return out


def learned(folder, ranks):
    return torch.load(folder / f"learned-{ranks}.pt", weights_only=True)


@pytest.mark.parametrize("targets", ["centering", "sinkhorn"])
def test_two_processes_learn_what_one_learns(folder, targets):
    one, two = learned(folder, 1)[targets], learned(folder, 2)[targets]
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-6, atol=1e-6)  # told in float32
    for part in ("student", "teacher", "class_targets", "patch_targets"):
        for name, weight in one[part].items():
            torch.testing.assert_close(two[part][name], weight, rtol=1e-5, atol=1e-8, msg=f"{part} {name}")
    assert one["student"]["encoder.cls_token"].dtype == torch.float64


def test_sinkhorn_balances_over_all_processes(folder):
    (one, whole), (two, lonely) = learned(folder, 1)["assigned"], learned(folder, 2)["assigned"]
    torch.testing.assert_close(two, one)
    torch.testing.assert_close(lonely, whole)  # a process without samples changes nothing
    torch.testing.assert_close(two.sum(1), torch.ones(24, dtype=torch.float64))


def test_the_loop_gives_the_same_losses_and_one_training_log(folder):
    tables = [pd.read_csv(folder / f"run-{ranks}/metrics.csv") for ranks in (1, 2)]
    assert tables[1]["step"].tolist() == [1, 2, 3]
    names = ["loss", "dino_loss", "ibot_loss", "koleo_loss", "gradient_norm"]
    pd.testing.assert_frame_equal(tables[1][names], tables[0][names], rtol=1e-5, atol=1e-5)
    assert (folder / "run-2/pretrained.safetensors").is_file()


@pytest.mark.parametrize("seen", ["newer", "nothing"])
def test_all_go_on_from_the_checkpoint_that_the_first_process_sees(folder, seen):
    """The others see a newer checkpoint than the first process, or none at all."""
    whole = (folder / "whole/pretrained.safetensors").read_bytes()
    assert (folder / seen / "0/pretrained.safetensors").read_bytes() == whole
    assert pd.read_csv(folder / seen / "0/metrics.csv")["step"].tolist() == [1, 2, 3]


def test_a_bad_loss_in_one_process_ends_all(folder):
    for rank in range(2):
        assert "3 steps in a row" in json.loads((folder / f"bad-2-{rank}.json").read_text())
    dumped = json.loads((folder / "bad-2/bad_batch.json").read_text())
    assert [len(batches[0]) for batches in dumped["crops_of_processes"]] == [4, 4]


def test_alone_nothing_is_communicated():
    tokens = torch.rand(3, 2)
    assert gathered(tokens) is tokens
    assert summed(tokens) is tokens
    assert largest(tokens) is tokens
    assert gathered_objects("mine", World()) == ["mine"]
    assert first_of("mine") == "mine"
    assert any_of(True, torch.device("cpu"))
    assert not any_of(False, torch.device("cpu"))
