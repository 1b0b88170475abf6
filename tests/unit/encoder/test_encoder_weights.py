"""Weights files: what is written is what is read, and nothing altered is read at all."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.encoder.header import WeightsHeader, read_header
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import build_encoder
from spatialdino_core.encoder.weights import (
    METADATA_KEY,
    infer_architecture,
    load_encoder,
    save_encoder,
    weights_hash,
)
from spatialdino_core.errors import BadInputError

SMALL = EncoderParameters(
    embed_dim=16, depth=2, heads=2, patch_voxels=4, mlp_ratio=2, registers=1, layer_scale=1.0, drop_path=0.0
)
HEADER = WeightsHeader(
    architecture=SMALL,
    voxel_um=(0.104, 0.104, 0.104),
    normalisation=asdict(NormalisationParameters(scale="global", low_counts=101.5, high_counts=2000.0)),
    field_of_view_voxels=(16, 16, 16),
    provenance={"movies": ["a", "b"], "seed": 3},
)
EXTRA = {"pca.mean": torch.arange(16.0), "pca.components": torch.ones(3, 16, dtype=torch.bfloat16)}


@pytest.fixture
def encoder():
    return build_encoder(SMALL, torch.Generator().manual_seed(0))


@pytest.fixture
def path(tmp_path, encoder):
    save_encoder(tmp_path / "model.safetensors", encoder, HEADER, EXTRA)
    return tmp_path / "model.safetensors"


def rewrite(path, change):
    """Alter a file with the safetensors library alone."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = json.loads(file.metadata()[METADATA_KEY])
    change(tensors, metadata)
    save_file(tensors, path, {METADATA_KEY: json.dumps(metadata)})


def test_round_trip(path, encoder):
    loaded, header, extra = load_encoder(path)
    assert header == HEADER == read_header(path)
    assert {name: tensor.dtype for name, tensor in extra.items()} == {k: v.dtype for k, v in EXTRA.items()}
    assert all(torch.equal(extra[name], EXTRA[name]) for name in EXTRA)
    volume = torch.rand(2, 1, 8, 8, 12)
    assert torch.equal(loaded(volume).patch_tokens, encoder(volume).patch_tokens)
    assert all(weight.requires_grad for weight in loaded.parameters())


def test_equal_content_gives_equal_bytes_and_hash(path, encoder, tmp_path):
    again = tmp_path / "again.safetensors"
    save_encoder(again, encoder, HEADER, dict(reversed(EXTRA.items())))
    assert again.read_bytes() == path.read_bytes()
    assert weights_hash(again) == weights_hash(path)
    save_encoder(again, encoder, replace(HEADER, provenance={"seed": 4}), EXTRA)
    assert weights_hash(again) != weights_hash(path)
    with torch.no_grad():
        encoder.cls_token[0, 0, 0] += 1e-6
    save_encoder(again, encoder, HEADER, EXTRA)
    assert weights_hash(again) != weights_hash(path)


NEWER_KEYS = ("size", "feed_forward", "positions", "position_grid", "position_base", "norm_eps")


def test_header_of_an_older_file_has_the_defaults_of_newer_keys(path, encoder):
    """Written before these keys: the checksum, of header and tensors as they were, still holds."""

    def older(tensors, metadata):
        for key in NEWER_KEYS:
            del metadata["header"]["architecture"][key]
        del metadata["header"]["channels"]
        summary = hashlib.blake2b(json.dumps(metadata["header"], sort_keys=True).encode(), digest_size=16)
        for name, tensor in sorted(tensors.items()):
            summary.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            summary.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
        metadata["blake2b"] = summary.hexdigest()

    rewrite(path, older)
    loaded, header, _ = load_encoder(path)
    assert header == HEADER
    volume = torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(loaded(volume).patch_tokens, encoder(volume).patch_tokens)


def test_bundled_weights_load():
    bundled = Path(__file__).resolve().parents[3] / "weights" / "bundled.safetensors"
    encoder, header, extra = load_encoder(bundled)
    assert header.architecture.positions == "none"
    assert "pca.mean" in extra
    side = min(header.field_of_view_voxels)
    assert (
        encoder(torch.rand(1, header.architecture.channels, side, side, side)).patch_tokens.isfinite().all()
    )


ARCHITECTURES = [
    replace(SMALL, feed_forward="swiglu", mlp_ratio=4, channels=2),
    replace(SMALL, positions="learned", position_grid=(2, 3, 4), registers=0),
    replace(SMALL, positions="rope", patch_voxels=2),
    replace(SMALL, positions="sincos", test_time_registers=1),
]


@pytest.mark.parametrize("parameters", ARCHITECTURES, ids=lambda p: f"{p.positions}-{p.feed_forward}")
def test_every_architecture_is_inferred_and_comes_back(tmp_path, parameters):
    encoder = build_encoder(parameters, torch.Generator().manual_seed(0))
    told = infer_architecture(encoder.state_dict())
    assert set(told) >= {
        "channels",
        "embed_dim",
        "depth",
        "patch_voxels",
        "mlp_dim",
        "registers",
        "feed_forward",
    }
    assert told == {name: getattr(parameters, name) for name in told}
    assert ("positions" in told) == (parameters.positions in ("learned", "rope"))
    save_encoder(tmp_path / "x.safetensors", encoder, replace(HEADER, architecture=parameters))
    loaded, header, _ = load_encoder(tmp_path / "x.safetensors")
    assert asdict(header.architecture) == asdict(parameters)
    volume = torch.rand(2, parameters.channels, 8, 8, 12)
    assert torch.equal(loaded(volume).patch_tokens, encoder(volume).patch_tokens)


def drop(name):
    return lambda tensors, _: tensors.pop(name)


def put(name, tensor):
    return lambda tensors, _: tensors.update({name: tensor})


def header(**changes):
    return lambda _, metadata: metadata["header"].update(changes)


def architecture(**changes):
    return lambda _, metadata: metadata["header"]["architecture"].update(changes)


TAMPERED = {
    "missing block tensor": (drop("encoder.blocks.1.ls2.gamma"), "missing tensors"),
    "missing embedding": (drop("encoder.patch_embed.proj.weight"), "no architecture"),
    "missing extra": (drop("pca.mean"), "missing extra"),
    "unexpected encoder tensor": (put("encoder.pos_embed", torch.ones(1)), "unexpected"),
    "positions that the header lacks": (
        put("encoder.positions.table", torch.ones(1, 16, 2, 2, 2)),
        "learned",
    ),
    "rotations that the header lacks": (put("encoder.positions.frequencies", torch.ones(3, 4)), "rope"),
    "positions that the file lacks": (architecture(positions="learned"), "missing tensors"),
    "another feed-forward layer": (architecture(feed_forward="swiglu"), "feed_forward = mlp"),
    "a size that it does not have": (architecture(size="small"), "embed_dim 384, and 16|depth 12, and 2"),
    "unlisted extra": (put("pca.more", torch.ones(1)), "unexpected"),
    "wrong shape": (put("encoder.norm.bias", torch.ones(17)), "norm.bias of shape"),
    "wrong type": (put("encoder.norm.bias", torch.ones(16).half()), "float16"),
    "not finite": (put("encoder.norm.bias", torch.full((16,), torch.nan)), "NaN"),
    "other values": (put("encoder.norm.bias", torch.ones(16)), "checksum"),
    "other extra values": (put("pca.mean", torch.ones(16)), "checksum"),
    "another depth": (architecture(depth=3), "depth = 2"),
    "another MLP": (architecture(mlp_ratio=3), "mlp_dim = 32"),
    "no registers": (architecture(registers=0), "registers = 1"),
    "impossible heads": (architecture(heads=3), "invalid header"),
    "unknown architecture key": (architecture(rope=True), "invalid header"),
    "newer format": (header(format_version=2), "format 2"),
    "anisotropic": (header(voxel_um=[0.25, 0.1, 0.1]), "three equal voxel sizes"),
    "another voxel size": (header(voxel_um=[0.2, 0.2, 0.2]), "checksum"),
    "unknown header key": (header(colour="red"), "header keys"),
    "no header": (lambda _, metadata: metadata.pop("header"), "no SpatialDINO header"),
    "names of extra tensors": (lambda _, metadata: metadata.update(extra=[[1]]), "no SpatialDINO header"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_tampered_file_is_refused(path, case):
    change, message = TAMPERED[case]
    rewrite(path, change)
    with pytest.raises(BadInputError, match=message):
        load_encoder(path)


GLOBAL = {"scale": "global", "low_counts": 0.0, "high_counts": 100.0}
OUT_OF_RANGE = {
    "nm taken for µm": (header(voxel_um=[104, 104, 104]), r"voxel_um\.0 = 104; .*less than or equal to 10\b"),
    "one voxel size": (header(voxel_um=0.104), "voxel_um = 0.104"),
    "a voxel of no size": (header(voxel_um=[0, 0, 0]), "voxel_um.0 = 0"),
    "no number": (header(voxel_um=[float("nan")] * 3), "voxel_um.0 = nan"),
    "a word": (header(voxel_um=["small"] * 3), "voxel_um.0 = 'small'"),
    "depth": (architecture(depth=10**7), "architecture.depth = 10000000"),
    "no depth": (architecture(depth=0), "architecture.depth = 0"),
    "half a block": (architecture(depth=2.5), "architecture.depth = 2.5"),
    "width": (architecture(embed_dim=2**40), "architecture.embed_dim"),
    "heads": (architecture(heads=-2), "architecture.heads = -2"),
    "patch": (architecture(patch_voxels=4096), "architecture.patch_voxels = 4096"),
    "channels": (architecture(channels=10**6), "architecture.channels"),
    "registers": (architecture(registers=10**9), "architecture.registers"),
    "test-time registers": (architecture(test_time_registers=10**9), "architecture.test_time_registers"),
    "grid": (architecture(position_grid=[10**5] * 3), "architecture.position_grid.0"),
    "base": (architecture(position_base=float("inf")), "architecture.position_base = inf"),
    "hidden width": (architecture(mlp_ratio=1e30), "architecture.mlp_ratio"),
    "LayerScale": (architecture(layer_scale=float("inf")), "architecture.layer_scale"),
    "another architecture": (header(architecture=[1]), r"architecture = \[1\]"),
    "field of view": (header(field_of_view_voxels=[10**9] * 3), "field_of_view_voxels.0"),
    "no field of view": (header(field_of_view_voxels=[0, 0, 0]), "field_of_view_voxels.0"),
    "half a patch": (header(field_of_view_voxels=[18, 18, 18]), "whole patches of 4 voxels"),
    "no cube": (header(field_of_view_voxels=[16, 16, 8]), "cube of whole patches"),
    "another scale": (header(normalisation={"scale": "none"}), "normalisation.scale = 'none'"),
    "scale of nothing": (header(normalisation={"low": 3}), "normalisation.low = 3"),
    "tails": (header(normalisation={"tail_fraction": 0.7}), "normalisation.tail_fraction = 0.7"),
    "endless counts": (
        header(normalisation=GLOBAL | {"high_counts": float("inf")}),
        "normalisation.high_counts",
    ),
    "provenance": (header(provenance=[1]), r"provenance = \[1\]"),
    "names of channels": (header(channels="488nm"), "channels = '488nm'"),
    "a nameless image": (header(channels=[[]]), r"channels.0 = \[\]"),
}


@pytest.mark.parametrize("case", OUT_OF_RANGE)
def test_header_out_of_range_is_refused_by_name_before_a_tensor_is_read(path, case):
    change, message = OUT_OF_RANGE[case]
    rewrite(path, change)
    with pytest.raises(BadInputError, match=message) as refusal:
        read_header(path)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 600
    with pytest.raises(BadInputError, match=message):
        load_encoder(path)


def test_channels_of_an_encoder_of_several_are_all_named():
    two = replace(SMALL, channels=2)
    assert replace(HEADER, architecture=two, channels=(("488nm",), ("560nm",))).channels[1] == ("560nm",)
    with pytest.raises(ValueError, match="none or 2"):
        replace(HEADER, architecture=two, channels=(("488nm",),))


def test_damaged_file_is_refused(path, tmp_path):
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(BadInputError, match="no readable safetensors"):
        load_encoder(path)
    flipped = bytearray(content)
    flipped[-40] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(BadInputError):
        load_encoder(path)
    with pytest.raises(BadInputError, match="no readable safetensors"):
        load_encoder(tmp_path / "absent.safetensors")


def test_failed_write_keeps_the_old_file(path, encoder):
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_encoder(path, encoder, replace(HEADER, provenance={"set": {1}}), EXTRA)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_header_must_describe_the_encoder(tmp_path, encoder):
    other = replace(HEADER, architecture=EncoderParameters())
    with pytest.raises(BadInputError, match="an encoder of"):
        save_encoder(tmp_path / "x.safetensors", encoder, other)
    with pytest.raises(BadInputError, match="extra tensor"):
        save_encoder(tmp_path / "x.safetensors", encoder, HEADER, {"encoder.more": torch.ones(1)})
