"""Importing foreign files: every published layout, strictly, and never with anything left at random."""

import hashlib
import os
import time

import foreign_files
import plain_vit as plain
import pytest
import torch
from plain_vit import volumes
from safetensors.torch import save_file

from spatialdino_core.encoder.conversion import convert
from spatialdino_core.encoder.importers import import_weights, main, read_tensors
from spatialdino_core.encoder.layouts import read_foreign
from spatialdino_core.encoder.parameters import ImportParameters
from spatialdino_core.encoder.weights import load_encoder
from spatialdino_core.errors import BadInputError


def imported(state, **options):
    """Of a file that cannot tell, an encoder without positions."""
    foreign = read_foreign(state, "test.pth")
    if foreign.kind == "SpatialDINO" and foreign.positions is None:
        options = {"positions": "none"} | options
    return convert(foreign, ImportParameters(voxel_um=0.104, **options), "test.pth")


@pytest.mark.parametrize("feed_forward", ["mlp", "swiglu"])
@pytest.mark.parametrize(("positions", "registers"), [(0, 0), (2, 0), (0, 3), (3, 1)])
def test_spatialdino_is_computed_as_its_tensors_say(feed_forward, positions, registers):
    state = foreign_files.spatialdino(feed_forward=feed_forward, positions=positions, registers=registers)
    model, side, _ = imported(state, heads=3)
    assert side == (4 * positions if positions else 112)
    volume = volumes(1, 1, *[4 * positions or 8] * 3)
    weights = {name: tensor.double() for name, tensor in state.items()}
    patches = plain.embedded(weights, volume, 4)
    token = weights["cls_token"]
    if positions:
        token, patches = token + weights["pos_embed"][:, :1], patches + weights["pos_embed"][:, 1:]
    x = torch.cat([token, weights.get("register_tokens", token[:, :0]), patches], 1)
    truth = plain.layer_norm(weights, "norm", plain.blocks(weights, x, 3)[-1])
    output = model.double()(volume)
    torch.testing.assert_close(output.class_token, truth[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.patch_tokens, truth[:, 1 + registers :], rtol=1e-4, atol=1e-4)


def test_positions_may_be_dropped_and_that_is_noted():
    state = foreign_files.spatialdino(positions=2)
    model, _, notes = imported(state, heads=3, positions="none")
    assert model.architecture.positions == "none"
    assert any("left out on request" in note for note in notes)
    assert imported(state, heads=3)[0].architecture.position_grid == (2, 2, 2)


def test_test_time_registers_are_counted_and_must_be_zero():
    state = foreign_files.spatialdino()
    state["tt_register_tokens"] = torch.zeros(1, 2, 24)
    assert imported(state, heads=3, test_time_registers=1)[0].architecture.test_time_registers == 3
    state["tt_register_tokens"] = torch.ones(1, 2, 24)
    with pytest.raises(BadInputError, match="zeros"):
        imported(state, heads=3)


def drop(name):
    return lambda state: state.pop(name)


def put(name, *shape):
    return lambda state: state.update({name: torch.ones(*shape)})


def rename(old, new):
    return lambda state: state.update({new: state.pop(old)})


DAMAGED = {
    "feed-forward gone": (drop("blocks.1.mlp.fc1.weight"), r"missing tensors \['blocks.1.mlp.fc1.weight'\]"),
    "unknown tensor": (put("head.weight", 2, 24), r"unexpected tensors \['head.weight'\]"),
    "another name": (rename("blocks.1.mlp.fc2.bias", "blocks.1.mlp.w3.bias"), "missing tensors"),
    "another shape": (put("blocks.0.norm1.bias", 23), "norm1.bias of shape"),
    "not finite": (lambda state: state["norm.bias"].fill_(torch.nan), "NaN"),
    "block skipped": (rename("blocks.1.ls1.gamma", "blocks.2.ls1.gamma"), "missing tensors"),
    "positions of no cube": (put("pos_embed", 1, 1 + 9, 24), "9 learned positions"),
    "positions of another width": (put("pos_embed", 1, 1 + 8, 23), "pos_embed of shape"),
    "rotations that we do not know": (
        put("rope_embed.freqs", 4),
        r"unexpected tensors \['rope_embed.freqs'\]",
    ),
    "no embedding": (drop("patch_embed.proj.weight"), "no known layout"),
    "no block": (lambda state: [state.pop(n) for n in list(state) if "blocks" in n], "no architecture"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_encoder_is_refused_by_name(case):
    change, message = DAMAGED[case]
    state = foreign_files.spatialdino()
    change(state)
    with pytest.raises(BadInputError, match=message):
        imported(state, heads=3)


@pytest.mark.parametrize("ours", ["mlp", "swiglu"])
def test_feed_forward_layers_are_never_left_at_random(ours):
    """A loader with strict=False that expects the other kind would leave them all at random."""
    theirs = "swiglu" if ours == "mlp" else "mlp"
    state = foreign_files.spatialdino(feed_forward=ours)
    other = foreign_files.spatialdino(feed_forward=theirs)
    model, _, _ = imported(state, heads=3)
    assert model.architecture.feed_forward == ours  # inferred, not configured
    own = {name: tensor for name, tensor in state.items() if ".mlp." in name}
    for name, tensor in own.items():
        assert torch.equal(model.state_dict()[name], tensor)
    mixed = {n: t for n, t in state.items() if not n.startswith("blocks.1.mlp.")}
    mixed |= {n: t for n, t in other.items() if n.startswith("blocks.1.mlp.")}
    with pytest.raises(BadInputError, match=r"missing tensors \['blocks.1.mlp"):
        imported(mixed, heads=3)
    both = state | {n: t for n, t in other.items() if ".mlp." in n}
    with pytest.raises(BadInputError, match="unexpected tensors"):
        imported(both, heads=3)


def test_number_of_heads_is_never_guessed():
    with pytest.raises(BadInputError, match="24 features per token"):
        imported(foreign_files.spatialdino())
    with pytest.raises(BadInputError, match="must divide"):
        imported(foreign_files.spatialdino(), heads=5)
    with pytest.raises(BadInputError, match=r"positions.frequencies of shape"):
        imported(foreign_files.dinov3(width=128, heads=2), heads=4)


def test_dinov3_parts():
    state = foreign_files.dinov3(width=128, heads=2)
    state["local_cls_norm.weight"] = torch.ones(128)
    model, _, notes = imported(state)
    assert any("local_cls_norm.weight" in note for note in notes)
    bias = model.blocks[1].attn.qkv.bias
    assert (bias[128:256] == 0).all()
    assert torch.equal(bias[:128], state["blocks.1.attn.qkv.bias"][:128])
    state["blocks.1.attn.qkv.bias_mask"][:] = torch.nan  # as a module that was never initialised has it
    with pytest.raises(BadInputError, match="no mask"):
        imported(state)


def test_hub_layout_is_the_official_one_renamed():
    for feed_forward in ("mlp", "separate swiglu"):
        official = foreign_files.dinov3(width=128, heads=2, feed_forward=feed_forward)
        a, b = imported(official)[0], imported(foreign_files.hub(official))[0]
        assert a.architecture == b.architecture
        assert a.architecture.feed_forward == ("mlp" if feed_forward == "mlp" else "swiglu")
        torch.testing.assert_close(a.state_dict(), b.state_dict())
    state = foreign_files.hub(official)
    del state["layer.1.attention.v_proj.bias"]
    with pytest.raises(BadInputError, match=r"blocks.1.attn.qkv"):
        imported(state)
    state = foreign_files.hub(official) | {"pooler.weight": torch.ones(1)}
    with pytest.raises(BadInputError, match=r"pooler\.weight"):
        imported(state)


@pytest.mark.parametrize(
    "make",
    [
        lambda: foreign_files.spatialdino(384, 12, 8),
        lambda: foreign_files.spatialdino(384, 12, 8, feed_forward="swiglu", positions=14),
        lambda: foreign_files.dinov2(384, 12, 14, side=37),
        lambda: foreign_files.dinov3(384, 6, 12, 16),
        lambda: foreign_files.hub(foreign_files.dinov3(384, 6, 12, 16)),
    ],
    ids=["spatialdino", "spatialdino swiglu learned", "dinov2", "dinov3", "dinov3 hub"],
)
def test_published_small_encoders(make):
    state = make()
    begin = time.monotonic()
    model, side, _ = imported(state)
    assert time.monotonic() - begin < 20
    architecture = model.architecture
    assert (architecture.embed_dim, architecture.depth, architecture.heads) == (384, 12, 6)
    assert (architecture.patch_voxels, architecture.channels, side) == (8, 1, 112)
    assert model.patch_embed.proj.weight.shape == (384, 1, 8, 8, 8)
    with torch.inference_mode():
        output = model(torch.rand(1, 1, 16, 16, 16))
    assert output.patch_tokens.isfinite().all()


def test_file_to_file(tmp_path):
    source, output = tmp_path / "backbone.pth", tmp_path / "x.safetensors"
    state = foreign_files.spatialdino(positions=2)
    torch.save({name: tensor.half() for name, tensor in state.items()}, source)
    header = import_weights(source, output, ImportParameters(voxel_um=0.104, heads=3))
    loaded, read, _ = load_encoder(output)
    assert read == header
    told = read.provenance["imported"]
    assert told["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (told["file"], told["kind"]) == ("backbone.pth", "SpatialDINO")
    assert read.voxel_um == (0.104, 0.104, 0.104)
    assert read.field_of_view_voxels == (8, 8, 8)
    torch.testing.assert_close(loaded.norm.weight.detach(), state["norm.weight"].half().float())


def test_training_checkpoint_gives_its_teacher(tmp_path):
    teacher, student = foreign_files.spatialdino(), foreign_files.spatialdino(registers=1)
    model = {f"teacher.encoder.{name}": tensor for name, tensor in teacher.items()}
    model |= {f"student.encoder.{name}": tensor for name, tensor in student.items()}
    model |= {"teacher.dino_head.mlp.0.weight": torch.ones(4)}
    torch.save({"model": model, "step": 7, "optimizer": {"state": {}}}, tmp_path / "ckpt.pth")
    encoder, _, notes = imported(read_tensors(tmp_path / "ckpt.pth"), heads=3)
    assert torch.equal(encoder.cls_token, teacher["cls_token"])
    assert any(f"{len(student) + 1} tensors" in note for note in notes)


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.makedirs, (str(self.folder),)


def test_code_in_a_file_is_never_run(tmp_path):
    torch.save({"model": Harmful(tmp_path / "harm")}, tmp_path / "bad.pth")
    with pytest.raises(BadInputError, match="cannot be read safely"):
        read_tensors(tmp_path / "bad.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"not a file of torch", None])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_unreadable_files_are_refused(tmp_path, content, suffix):
    path = tmp_path / f"x{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInputError, match="cannot be read safely"):
        read_tensors(path)


def test_file_of_something_else_is_refused(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(BadInputError, match="list that holds more"):
        read_tensors(tmp_path / "list.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({0: torch.ones(2)}, "tensors without names"),
        ({"norm.weight": torch.ones(24).to_sparse()}, "norm.weight (sparse_coo)"),
        ({"norm.weight": torch.ones(24, device="meta")}, "norm.weight (without values)"),
        ({"norm.weight": torch.ones(24, dtype=torch.int32)}, "norm.weight (int32)"),
        ({"norm.weight": torch.ones(24, dtype=torch.complex64)}, "norm.weight (complex64)"),
        ({"pos_embed": torch.ones(1, 11, 24)}, "10 learned positions, which fill no cube"),
        ({"patch_embed.proj.weight": torch.ones(24, 3, 4, 5), "pos_embed": torch.ones(1, 5, 24)}, "together"),
    ],
)
def test_what_holds_no_weights_is_refused_in_one_line(tmp_path, capsys, content, words):
    source, output = tmp_path / "x.pth", tmp_path / "y.safetensors"
    torch.save(foreign_files.spatialdino() | content, source)
    options = ["--voxel-um", "0.1", "--heads", "3", "--positions", "none"]
    assert main([str(source), "--out", str(output), *options]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not output.exists()


def test_integers_beside_the_weights_do_not_matter():
    """Masks of key biases are none; those of other parts of a training checkpoint are left out."""
    state = foreign_files.dinov3(width=128, heads=2)
    masks = {name: t.bool() for name, t in state.items() if name.endswith("bias_mask")}
    assert masks
    imported(state | masks)
    teacher = {f"teacher.encoder.{name}": tensor for name, tensor in foreign_files.spatialdino().items()}
    imported(teacher | {"steps": torch.tensor(7)}, heads=3)


def test_positions_that_fill_no_cube_are_left_out_when_the_field_of_view_is_said():
    state = foreign_files.spatialdino() | {"pos_embed": torch.ones(1, 11, 24)}
    _, side, notes = imported(state, heads=3, positions="none", field_of_view_voxels=16)
    assert side == 16
    assert any("positions of 10 patches left out on request" in note for note in notes)
    with pytest.raises(BadInputError, match="cubic"):
        imported(state, heads=3, field_of_view_voxels=16)


@pytest.mark.parametrize("place", ["source", "link", "hard link", "folder", ".", "below a file", "read-only"])
def test_a_place_that_cannot_be_written_to_is_refused(tmp_path, capsys, monkeypatch, place):
    source = tmp_path / "x.pth"
    torch.save(foreign_files.spatialdino(), source)
    before = source.read_bytes()
    (tmp_path / "link").symlink_to(source)
    os.link(source, tmp_path / "hard link")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    output = {"source": source, "below a file": tmp_path / "file" / "y", ".": "."}.get(
        place, tmp_path / place
    )
    if place == "read-only":
        output = tmp_path / "folder" / "y.safetensors"

        def refused(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.write_bytes", refused)
    options = ["--voxel-um", "0.1", "--heads", "3", "--positions", "none"]
    assert main([str(source), "--out", str(output), *options]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"--out {output}: found ")
    assert said.count("\n") == 1
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--patch-voxels", "8"], "an encoder of volumes, and --patch-voxels"),
        (["--image-mean", "0.5"], "an encoder of volumes, and --image-mean"),
        (["--image-std", "0.5"], "an encoder of volumes, and --image-std"),
        (["--image-mean", "nan"], "image_mean.0 = nan"),
        (["--image-std", "nan"], "image_std.0 = nan"),
        (["--image-std", "inf"], "image_std.0 = inf"),
        (["--voxel-um", "nan"], "voxel_um = nan"),
        (["--tail-fraction", "nan"], "tail_fraction = nan"),
        (["--rope-base", "nan"], "rope_base = nan"),
        (
            ["--heads", "5"],
            "24 features per token and 5 heads; expected heads (5) must divide embed_dim (24)",
        ),
        (["--heads", "48"], "heads (48) must divide"),
    ],
)
def test_options_that_do_nothing_or_make_no_sense_are_refused(tmp_path, capsys, options, words):
    torch.save(foreign_files.spatialdino(), tmp_path / "x.pth")
    always = ["--out", str(tmp_path / "y"), "--voxel-um", "0.1", "--heads", "3", "--positions", "none"]
    assert main([str(tmp_path / "x.pth"), *always, *options]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert "pydantic" not in said


def test_command_line(tmp_path, capsys):
    save_file(foreign_files.hub(foreign_files.dinov3(width=128, heads=2)), tmp_path / "model.safetensors")
    output = tmp_path / "out" / "dinov3.safetensors"
    arguments = [str(tmp_path / "model.safetensors"), "--out", str(output), "--voxel-um", "0.2"]
    assert main([*arguments, "--field-of-view-voxels", "64", "--image-mean", "0", "0", "0"]) == 0
    printed = capsys.readouterr().out
    assert "DINOv3" in printed
    assert "none along z" in printed
    _, header, _ = load_encoder(output)
    assert header.field_of_view_voxels == (64, 64, 64)
    assert header.provenance["imported"]["parameters"]["image_mean"] == [0, 0, 0]
    assert header.architecture.positions == "rope"
    assert main([*arguments, "--field-of-view-voxels", "60"]) == 1
    assert "whole patches of 8" in capsys.readouterr().err
    assert main([*arguments, "--voxel-um", "-1"]) == 1
    assert main([*arguments, "--image-mean", "0"]) == 1
    assert "3 colours" in capsys.readouterr().err
