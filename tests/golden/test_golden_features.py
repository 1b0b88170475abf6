"""Golden values of features: the encoder, its weights and foreign ones, attention, streaming, foreground."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from golden import Stage
from safetensors import safe_open
from safetensors.torch import save_file
from small_models import architecture, deskewed_movie, encoder, flat, refused, shards, spots, weights_file

from spatialdino_core.encoder import header as header_room
from spatialdino_core.encoder import weights as weights_room
from spatialdino_core.encoder.conversion import convert
from spatialdino_core.encoder.header import BASIS_TENSORS
from spatialdino_core.encoder.importers import import_weights, main, read_tensors
from spatialdino_core.encoder.inflate import inflate_positions, inflate_rotations, resize_patch
from spatialdino_core.encoder.layouts import ForeignEncoder, read_foreign
from spatialdino_core.encoder.parameters import EncoderParameters, ImportParameters
from spatialdino_core.encoder.precision import arithmetic
from spatialdino_core.encoder.streaming import StreamingEncoder
from spatialdino_core.encoder.vit import VisionTransformer3D, build_encoder, draw_branch_factors
from spatialdino_core.features import stage as features_stage
from spatialdino_core.features.basis import fit_basis, project
from spatialdino_core.features.foreground import fit_foreground, pseudo_labels
from spatialdino_core.features.grid import on_voxels, patch_means
from spatialdino_core.features.model import finish_model
from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.features.shares import devices, owned
from spatialdino_core.features.stage import extract_features
from spatialdino_core.features.upsample import guided_on_voxels
from spatialdino_core.features.windows import encode_windows, whole_patches
from spatialdino_core.kernels import attention
from spatialdino_core.kernels.attention_cpu import attend_bfloat16
from spatialdino_core.kernels.attention_sdpa import attend_cpu, on_gpu, with_log_weight
from spatialdino_core.movies.features import class_tokens, object_features
from spatialdino_core.movies.part import Part
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore
from spatialdino_core.sinder.parameters import RepairParameters
from tests.unit.encoder import foreign_files

STAGE = Stage(
    "features",
    (
        "features/*.py",
        "encoder/**/*.py",
        "kernels/attention.py",
        "kernels/attention_cpu.py",
        "kernels/attention_sdpa.py",
    ),
)

KINDS: dict[str, dict[str, Any]] = {
    "none": dict(channels=2, mlp_ratio=2.5, test_time_registers=1),
    "sincos": dict(
        embed_dim=20, positions="sincos", feed_forward="swiglu", mlp_ratio=3.3, position_base=30.0
    ),
    "learned": dict(positions="learned", position_grid=(2, 3, 2), registers=2, depth=1),
    "rope": dict(embed_dim=28, positions="rope", registers=0, norm_eps=1e-2, position_base=20.0),
}

TOLD = ("channels", "embed_dim", "depth", "heads", "patch_voxels", "feed_forward", "mlp_ratio", "positions")
TOLD += ("registers", "test_time_registers", "norm_eps")


def volume(seed: int, *shape: int) -> torch.Tensor:
    """Noise in [0, 1]."""
    return torch.from_numpy(np.random.default_rng(seed).random(shape, np.float32))


@STAGE.scene
def encoders(_: Path) -> Mapping[str, Any]:
    """Fresh weights of each architecture, and what disturbed ones answer."""
    found: dict[str, Any] = {}
    for name, changes in KINDS.items():
        wanted = architecture(drop_path=0.3, **changes)
        fresh = build_encoder(wanted, torch.Generator().manual_seed(3))
        model = encoder(**changes)
        voxels = volume(1, 2, wanted.channels, 8, 12, 16)
        masks = torch.from_numpy(np.random.default_rng(2).random((2, 24)) < 0.3)
        factors = draw_branch_factors(wanted, 2, torch.Generator().manual_seed(4))
        depths = tuple(range(wanted.depth))
        whole = model(voxels, class_attention=True, depths=depths)
        masked = model(voxels, masks, branch_factors=factors, checkpointing=True)
        found[name] = {
            "widths": [wanted.mlp_dim, wanted.head_dim, model.first_patch, *whole.grid],
            "fresh": {key: value.std(correction=0) for key, value in fresh.state_dict().items()},
            "factors": factors,
            "outputs": [whole.class_token, whole.patch_tokens, whole.class_attention, *whole.intermediate],
            "masked": [masked.class_token, masked.patch_tokens],
            "told": weights_room.infer_architecture(model.state_dict()),
        }
    model = encoder(**KINDS["rope"])
    turned = model.to(torch.bfloat16).positions.frequencies
    found["kept"] = [turned, str(turned.dtype)]
    found["refused"] = [
        refused(model, volume(1, *shape))
        for shape in ((1, 1, 8, 8, 10), (1, 2, 8, 8, 8), (1, 8, 8, 8), (1, 1, 8, 0, 8))
    ]
    found["refused"] += [
        refused(encoder(), volume(1, 1, 1, 8, 8, 8), depths=depths)
        for depths in ((1, 0), (2,), (0, 0), (-1,))
    ]
    found["refused"].append(refused(encoder().blocks[0].attn, torch.zeros(1, 2, 12), torch.zeros(2, 2, 6)))
    return found


@STAGE.scene
def architectures(_: Path) -> Mapping[str, Any]:
    """What sizes stand for, and what cannot be."""
    cpu = torch.device("cpu")
    odd = [dict(heads=5), dict(embed_dim=10, positions="rope"), dict(embed_dim=14, positions="rope")]
    odd += [dict(embed_dim=4, positions="rope", heads=1), dict(embed_dim=6, heads=1, positions="rope")]
    odd += [dict(embed_dim=4, positions="sincos"), dict(embed_dim=6, positions="sincos")]
    return {
        "sizes": [
            (sized.embed_dim, sized.depth, sized.heads)
            for sized in (EncoderParameters(size=size) for size in ("tiny", "small", "base"))
        ],
        "odd": [refused(architecture, **changes) for changes in odd],
        "arithmetic": [
            str(arithmetic(precision, device))
            for precision in ("auto", "float32", "bfloat16")
            for device in (cpu, torch.device("cuda"))
        ],
    }


def altered(source: Path, target: Path, changes: dict[str, Any], header: dict[str, Any]) -> Path:
    """A weights file with other tensors (None: without) and other metadata."""
    with safe_open(source, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        metadata = json.loads(file.metadata()[header_room.METADATA_KEY])
    tensors = {name: tensor for name, tensor in (tensors | changes).items() if tensor is not None}
    extra = header.pop("extra", metadata["extra"])
    described = {key: value for key, value in (metadata["header"] | header).items() if value is not None}
    text = json.dumps(metadata | {"extra": extra, "header": described})
    save_file(tensors, target, {header_room.METADATA_KEY: text})
    return target


@STAGE.scene
def weights(folder: Path) -> Mapping[str, Any]:
    """A file of weights there and back; which altered ones are refused, and whose fingerprint changes."""
    model = encoder(**KINDS["rope"])
    extra = {"pca.mean": torch.arange(3.0)}
    path = weights_file(folder / "whole.safetensors", model, extra, 0.2, 16)
    again, header, kept = weights_room.load_encoder(path)
    token, wide = model.cls_token.detach(), torch.zeros(1, 1, 29)
    cases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "as it was": ({}, {}),
        "missing": ({"encoder.cls_token": None}, {}),
        "unexpected": ({"encoder.other": wide}, {}),
        "shape": ({"encoder.cls_token": wide}, {}),
        "type": ({"encoder.cls_token": token.double()}, {}),
        "not finite": ({"encoder.cls_token": token * torch.nan}, {}),
        "altered": ({"encoder.cls_token": token * 1.01}, {}),
        "altered extra": ({"pca.mean": torch.arange(1.0, 4)}, {}),
        "no extra": ({"pca.mean": None}, {}),
        "no block": ({"encoder.blocks.0.mlp.fc2.weight": None}, {}),
        "no embedding": ({"encoder.patch_embed.proj.weight": None}, {}),
        "depth": ({}, {"architecture": asdict(replace(model.architecture, depth=3))}),
        "format": ({}, {"format_version": 2}),
        "keys": ({}, {"provenance": None}),
        "more keys": ({}, {"other": 1}),
        "field of view": ({}, {"field_of_view_voxels": [16, 16]}),
        "voxels": ({}, {"voxel_um": [0.2, 0.2, 0.200001]}),
        "registers": ({}, {"architecture": asdict(replace(model.architecture, test_time_registers=1))}),
        "provenance": ({}, {"provenance": {"a": 1}}),
    }
    files = {name: altered(path, folder / f"{name}.safetensors", *case) for name, case in cases.items()}
    (folder / "cut.safetensors").write_bytes(path.read_bytes()[:-40])
    save_file({"a": token}, folder / "bare.safetensors")
    files |= {name: folder / f"{name}.safetensors" for name in ("cut", "bare", "absent")}
    whole = weights_room.weights_hash(path)
    readable = [name for name in files if name not in ("cut", "bare", "absent")]
    sizes = [(0.2, 0.2, 0.2), (0.2, 0.2, 0.3), (0.0, 0.0, 0.0), (1, 1, 1 + 2e-6), (1, 1 + 5e-7, 1)]
    sizes += [(1.0, 1.0, 1 + 0.95e-6), (1.0, 1 - 1.05e-6, 1.0), (-1.0, -1.0, -1.0), (0.01, 0.01, 0.01)]
    other = encoder(embed_dim=8)
    return {
        "again": [flat(list(again.state_dict().values())), kept["pca.mean"]],
        "header": [
            {name: value for name, value in asdict(each).items() if name not in header_room.LATER_KEYS}
            for each in (header, header_room.read_header(path))
        ],
        "trainable": all(weight.requires_grad for weight in again.parameters()),
        "refused": {name: refused(weights_room.load_encoder, file) for name, file in files.items()},
        "header refused": {name: refused(header_room.read_header, file) for name, file in files.items()},
        "same": {name: weights_room.weights_hash(files[name]) == whole for name in readable},
        "voxel sizes": [
            refused(header_room.WeightsHeader, **(vars(header) | {"voxel_um": size})) for size in sizes
        ],
        "not saved": [
            refused(weights_room.save_encoder, folder / "x", model, header, {name: token.clone()})
            for name in ("pca", "pca.mean", "encoder.mean")
        ]
        + [refused(weights_room.save_encoder, folder / "x", other, header)],
    }


def importing_settings(**changes: Any) -> ImportParameters:
    """Every setting of an import."""
    values: dict[str, Any] = dict(voxel_um=0.3, field_of_view_voxels=None, patch_voxels=6, heads=3)
    values |= dict(positions=None, test_time_registers=1, tail_fraction=0.001)
    values |= dict(image_mean=(0.4, 0.45, 0.5), image_std=(0.2, 0.25, 0.3))
    return ImportParameters(**(values | changes))


OF_VOLUMES = {"patch_voxels": None, "image_mean": None, "image_std": None}


@STAGE.scene
def foreign(folder: Path) -> Mapping[str, Any]:
    """Encoders of all known layouts, and files that are none."""
    checkpoint = {f"teacher.encoder.{k}": v for k, v in foreign_files.spatialdino(registers=1).items()}
    gated3 = foreign_files.dinov3(feed_forward="split")
    plain3 = foreign_files.dinov3()
    full_heads = foreign_files.dinov3(width=128, heads=2, depth=1, registers=1)
    zeros = {"tt_register_tokens": torch.zeros(1, 2, 24)}
    states: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "3D": (foreign_files.spatialdino(positions=2) | zeros, OF_VOLUMES),
        "3D dropped": (
            foreign_files.spatialdino(positions=2, feed_forward="swiglu"),
            OF_VOLUMES | {"positions": "none"},
        ),
        "3D checkpoint": (
            checkpoint | {"optimiser": torch.zeros(2)},
            OF_VOLUMES | {"field_of_view_voxels": 12, "positions": "none"},
        ),
        "2D": (foreign_files.dinov2(registers=1), {"field_of_view_voxels": 18}),
        "2D resized": (foreign_files.dinov2(feed_forward="swiglu", patch=5), {"field_of_view_voxels": 30}),
        "2D rope": (plain3, {"heads": 2, "field_of_view_voxels": 24}),
        "2D rope gated": (gated3 | {"local_cls_norm.weight": torch.ones(3)}, {"heads": 2, "patch_voxels": 8}),
        "hub": (foreign_files.hub(full_heads), {"heads": None, "field_of_view_voxels": 12}),
        "hub gated": (
            foreign_files.hub(foreign_files.dinov3(width=64, heads=1, depth=1, feed_forward="split")),
            {"heads": None, "field_of_view_voxels": 12},
        ),
    }
    found: dict[str, Any] = {}
    for name, (state, changes) in states.items():
        read = read_foreign(state, "here")
        model, side, notes = convert(read, importing_settings(**changes))
        patch = model.architecture.patch_voxels
        output = model.eval()(volume(5, 1, 1, patch, 2 * patch, 2 * patch))
        found[name] = {
            "kind": read.kind,
            "architecture": [getattr(model.architecture, name) for name in TOLD],
            "side": side,
            "notes": [len(read.notes), len(notes)],
            "weights": flat(list(model.state_dict().values())),
            "embedding": model.patch_embed.proj.weight,
            "tokens": [output.class_token, output.patch_tokens],
        }
    masked = dict(plain3) | {"blocks.0.attn.qkv.bias_mask": torch.full((96,), 0.5)}
    ones = {"tt_register_tokens": torch.ones(1, 2, 24)}
    two, three = foreign_files.dinov2(), foreign_files.spatialdino(positions=2)
    hub = foreign_files.hub(full_heads)
    odd_width = foreign_files.dinov2(feed_forward="swiglu", width=24)
    for key in [key for key in odd_width if "mlp" in key]:
        half = len(odd_width[key]) // 2
        odd_width[key] = (
            torch.cat([odd_width[key][: half - 1], odd_width[key][half:-1]])
            if "w12" in key
            else (odd_width[key][:, :-1] if odd_width[key].ndim == 2 else odd_width[key])
        )
    refusals: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "nothing": ({"a": torch.zeros(2)}, {}),
        "positions": (two | {"pos_embed": torch.zeros(1, 10, 20)}, {}),
        "no token": ({k: v for k, v in two.items() if k != "cls_token"}, {}),
        "mask": (masked, {"heads": 2}),
        "registers": (three | ones, OF_VOLUMES),
        "no cube": (three | {"pos_embed": torch.zeros(1, 8, 24)}, OF_VOLUMES),
        "no square": (two | {"pos_embed": torch.zeros(1, 11, 24)}, {"field_of_view_voxels": 18}),
        "no whole patches": (two, {"field_of_view_voxels": 20}),
        "no bias": ({k: v for k, v in two.items() if k != "patch_embed.proj.bias"}, {}),
        "colours": (two, {"image_mean": (0.5,), "image_std": (0.5,)}),
        "heads unknown": (two, {"heads": None, "field_of_view_voxels": 18}),
        "heads": (two, {"heads": 5, "field_of_view_voxels": 18}),
        "hidden": (odd_width, {"field_of_view_voxels": 18}),
        "no block": ({k: v for k, v in two.items() if "fc2" not in k}, {"field_of_view_voxels": 18}),
        "no norm": ({k: v for k, v in two.items() if k != "norm.bias"}, {"field_of_view_voxels": 18}),
        "no query": ({k: v for k, v in hub.items() if "q_proj.bias" not in k}, {"heads": 2}),
    }
    found["refused"] = {
        name: refused(lambda s, c: convert(read_foreign(s, ""), importing_settings(**c)), state, changes)
        for name, (state, changes) in refusals.items()
    }
    path = folder / "published.pth"
    torch.save({"model": states["2D"][0], "step": torch.tensor(3)}, path)
    save_file(states["2D"][0], folder / "published.safetensors")
    torch.save([torch.zeros(1)], folder / "list.pth")
    torch.save({"a": 1}, folder / "plain.pth")
    (folder / "damaged.pth").write_bytes(b"no weights")
    header = import_weights(path, folder / "ours.safetensors", importing_settings(field_of_view_voxels=18))
    options = "--voxel-um 0.3 --patch-voxels 6 --heads 3 --field-of-view-voxels 18 --test-time-registers 1"
    options += " --tail-fraction 0.002 --image-mean 0.4 0.45 0.5 --image-std 0.2 0.25 0.3 --positions learned"
    both = [
        main([str(f), "--out", str(folder / "cli.safetensors"), *options.split()])
        for f in (folder / "published.safetensors", folder / "damaged.pth")
    ]
    command = header_room.read_header(folder / "cli.safetensors")
    found["file"] = {
        "header": [header.voxel_um, header.field_of_view_voxels, header.normalisation["tail_fraction"]],
        "kind": header.provenance["imported"]["kind"],
        "weights": flat(
            list(weights_room.load_encoder(folder / "ours.safetensors")[0].state_dict().values())
        ),
        "command": [*both, header.architecture == command.architecture],
        "tail": command.normalisation["tail_fraction"],
        "unreadable": [refused(read_tensors, f) for f in sorted(folder.glob("*.pth"))],
    }
    return found


@STAGE.scene
def inflation(_: Path) -> Mapping[str, Any]:
    """Resizing of patches, positions and rotations by themselves."""
    patch = volume(6, 2, 5, 5).double()
    positions = volume(7, 9, 4)
    return {
        "patches": [resize_patch(patch, side) for side in (3, 5, 8)],
        "positions": [inflate_positions(positions, grid) for grid in ((2, 3, 3), (1, 3, 5), (2, 4, 3))],
        "rotations": inflate_rotations(torch.tensor([1.0, 3.0, 10.0]), (2, 5, 7)),
        "refused": refused(inflate_positions, volume(7, 8, 4), (2, 3, 3)),
        "notes": len(ForeignEncoder("DINOv2", {}).notes),
    }


@STAGE.scene
def attentions(_: Path) -> Mapping[str, Any]:
    """All backends that a CPU has, and which of them pass the test at the start."""
    query, key, value = (2 * volume(n, 2, rows, 5) - 1 for n, rows in ((8, 9), (9, 13), (10, 13)))
    weight = 3 * volume(11, 2, 13)
    parts = [(key[:, a:b], value[:, a:b], weight[:, a:b]) for a, b in ((0, 4), (4, 5), (5, 13))]
    reference = attention.attend_reference

    def wrong(scale: float, shift: float) -> attention.Attend:
        def attend(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
            output, log_sum_exp = reference(*arguments)
            return output * (1 + scale), log_sum_exp + shift

        return attend

    tests = [(0.9e-5, 0.0), (1.1e-5, 0.0), (0.0, 0.9e-4), (0.0, 1.1e-4), (0.0, -1.1e-4), (np.nan, 0.0)]
    halves = [
        (0.9e-2, torch.float16),
        (1.8e-3, torch.float16),
        (0.9e-2, torch.bfloat16),
        (2e-2, torch.bfloat16),
    ]
    halves += [(0.9e-10, torch.float64), (1.1e-10, torch.float64)]
    spread = with_log_weight(query.bfloat16(), key.bfloat16(), weight, 0.3)
    choices = [
        ("auto", torch.float32),
        ("sdpa", torch.float32),
        ("cpu", torch.bfloat16),
        ("sdpa", torch.bfloat16),
    ]
    return {
        "reference": [*reference(query, key, value), *reference(query, key, value, weight)],
        "double": [str(t.dtype) for t in reference(query.double(), key, value)],
        "tiles": attention.attend_in_tiles(query, key, value, weight),
        "many": attention.attend_in_tiles(
            volume(12, 1, 1030, 2), volume(13, 1, 4100, 2), volume(14, 1, 4100, 2)
        ),
        "parts": attention.attend_in_parts(reference, query, parts),
        "library": [*attend_cpu(query, key, value), *attend_cpu(query, key, value, weight)],
        "half": list(attend_cpu(query.double(), key.double(), value.double(), weight[:1])),
        "spread": [spread[0].float(), spread[1].float().sum(-1), spread[1][..., 5:].float()],
        "whole": with_log_weight(query, key, weight[:1], 0.3),
        "gpu": list(on_gpu()),
        "passes": [attention.self_test(wrong(*t), "cpu", torch.float32, 8) is None for t in tests]
        + [attention.self_test(wrong(s, 0.0), "cpu", dtype, 8) is None for s, dtype in halves],
        "fails": attention.self_test(lambda *_: 1 / 0, "cpu", torch.float32, 8) is None,
        "chosen": [attention.choose_backend(w, "cpu", dtype, 16).name for w, dtype in choices],
        "refused": [
            refused(attention.choose_backend, "triton", "cpu", torch.float32, 16),
            refused(attention.attend_in_parts, reference, query, []),
            refused(attend_bfloat16, query, key, value),
        ],
    }


@STAGE.scene
def half_precision(_: Path) -> Mapping[str, Any]:
    """bfloat16 of numbers that it holds exactly, so that no processor rounds them otherwise."""
    generator = np.random.default_rng(15)
    query = torch.from_numpy(generator.integers(-3, 4, (2, 1030, 4))).bfloat16()
    key = torch.from_numpy(generator.integers(-3, 4, (2, 1500, 4))).bfloat16()
    value = torch.zeros(2, 1500, 8).bfloat16()
    value[:, torch.arange(8) * 180, torch.arange(8)] = 4.0  # one key each: nothing is summed
    weight = torch.from_numpy(generator.integers(0, 9, (2, 1500)) / 2.0)
    found: dict[str, Any] = {}
    for name, weights_ in (("plain", None), ("weighted", weight)):
        output, log_sum_exp = attend_bfloat16(query, key, value, weights_)
        true = attention.attend_reference(query.double(), key.double(), value.double(), weights_)
        found[name] = [output[:, ::7], log_sum_exp, bool((log_sum_exp - true[1]).abs().max() < 3e-6)]
    return found


@STAGE.scene
def streaming(folder: Path) -> Mapping[str, Any]:
    """Whole frames in all stores, with and without what may be merged, empty or positioned."""
    settings = type(FeatureParameters().streaming)
    found: dict[str, Any] = {}
    frame = np.random.default_rng(16).random((1, 12, 16, 20), np.float32)
    frame[:, 4:, :8, 4:12] = 0.25  # equal patches
    valid = np.random.default_rng(17).random((3, 4, 5)) < 0.8

    def streamed(model: VisionTransformer3D, voxels: np.ndarray, mask: Any = None, **changes: Any) -> Any:
        values = dict(
            store="device", budget_mb=None, query_block_tokens=7, key_block_tokens=5, backend="auto"
        )
        values |= dict(merge_identical=True) | changes
        stream = StreamingEncoder(model, settings(**values), precision="float32", folder=folder)
        output = stream(voxels, mask, class_attention=True)
        report = output.report
        numbers = [report.store, report.patches, report.tokens, report.distinct_tokens, report.precision]
        return [output.patch_tokens, output.class_token, output.class_attention, *numbers]

    for name, changes in KINDS.items():
        model = encoder(**(changes | {"channels": 1}))
        found[name] = streamed(model, frame)
        found[f"{name}, partly"] = streamed(model, frame, valid, store="disk", query_block_tokens=11)
    plain = encoder()
    found["apart"] = streamed(plain, frame, valid, store="cpu", merge_identical=False)
    found["once"] = streamed(plain, frame, valid, store="cpu", key_block_tokens=1000, backend="sdpa")
    grains = encoder(patch_voxels=1, embed_dim=16, depth=1, registers=0)
    for number in (5207, 5208):  # 999,936 and 1,000,128 bytes
        line = np.random.default_rng(18).permutation(number).reshape(1, 1, 1, -1).astype(np.float32) / number
        sizes = dict(store="auto", budget_mb=1, query_block_tokens=2000, key_block_tokens=3000)
        found[f"{number} patches"] = streamed(grains, line, **sizes)
    found["without attention"] = StreamingEncoder(plain, settings())(frame).class_attention is None
    whole = StreamingEncoder(plain, settings())
    found["refused"] = [
        refused(whole, frame[0]),
        refused(whole, frame[:, :-1]),
        refused(whole, np.concatenate([frame] * 2)),
        refused(whole, frame, valid[:2]),
        refused(whole, frame, valid.astype(np.uint8)),
        refused(whole, frame, valid & False),
    ]
    return found


@STAGE.scene
def windows(_: Path) -> Mapping[str, Any]:
    """Windows of several overlaps on a volume that they do not divide."""
    model = encoder(channels=2, registers=0)
    frame = volume(19, 2, 12, 28, 40)
    valid = torch.from_numpy(np.random.default_rng(20).random((3, 7, 10)) < 0.6)
    valid[:, :, 6:] = False
    found: dict[str, Any] = {}
    for overlap, batch in ((0.0, 1), (0.3, 3), (0.5, 8), (0.9, 5)):
        seen = encode_windows(model, frame, valid, window_voxels=16, overlap=overlap, batch=batch)
        found[str(overlap)] = [seen.tokens[:, valid], seen.attention[:, valid], seen.class_token]
        found[str(overlap)].append(int(seen.tokens.isfinite().sum()))
    found["completed"] = [whole_patches(volume(21, 3, 5, 8).numpy(), 4), whole_patches(np.ones((4, 8, 4)), 4)]
    small = (volume(19, 2, 12, 28, 38), valid, 16), (frame, valid[:2], 16), (frame, valid, 18)
    found["refused"] = [
        refused(encode_windows, model, v, m, window_voxels=w, overlap=0.5, batch=2) for v, m, w in small
    ]
    return found


@STAGE.scene
def grids(_: Path) -> Mapping[str, Any]:
    """Between patches and voxels, whose sizes differ along all axes."""
    generator = np.random.default_rng(22)
    coarse = generator.random((2, 3, 4, 5)).astype(np.float32)
    guide = generator.random((7, 11, 13)).astype(np.float32)
    valid = generator.random(guide.shape) < 0.7
    voxel, spacing, origin = (0.3, 0.2, 0.25), (0.8, 0.6, 0.7), (0.35, 0.2, 0.3)
    means = patch_means(guide, valid, voxel, spacing, origin, (3, 4, 5))
    means[1, 2] = np.nan
    flat_guide = np.full_like(guide, 0.5)
    return {
        "linear": on_voxels(coarse[0], spacing, origin, (7, 11, 13), voxel),
        "means": means,
        "guided": [
            guided_on_voxels(coarse, spacing, origin, guide, means, voxel, guide_range=width)
            for width in (0.05, 0.5)
        ],
        "flat": guided_on_voxels(
            coarse, spacing, origin, flat_guide, means * 0 + 0.5, voxel, guide_range=0.1
        ),
        "one patch": guided_on_voxels(
            coarse[:, :1, :1], spacing, origin, guide, means[:1, :1], voxel, guide_range=0.1
        ),
        "shares": [owned(range(3, 12), rank, 4) for rank in range(4)],
        "devices": [str(device) for device in devices(torch.device("cpu"), 2)],
    }


def fitted(*arguments: Any) -> Mapping[str, Any]:
    """A foreground model in numbers, and what it makes of its own patches."""
    model = fit_foreground(*arguments)
    probability = model.probability(arguments[0], model.activation.of(arguments[1]))
    density = None if model.density is None else {k: np.array(v) for k, v in asdict(model.density).items()}
    return {
        "summary": model.summary(),
        "activation": asdict(model.activation),
        "density": density,
        "probability": probability,
        "extreme": model.activation.of(np.array([-1e9, 0.0, 1e9])),
    }


@STAGE.scene
def foregrounds(_: Path) -> Mapping[str, Any]:
    """Both ways, the choice between them at its border, and too little to choose from."""
    generator = np.random.default_rng(23)
    number = 600
    content = generator.gamma(1.5, 1.0, number)
    noise = generator.normal(size=(number, 3))
    turned = noise @ np.array([[1.0, 0.4, 0.0], [0.0, 0.7, 0.2], [0.3, 0.0, 0.5]])
    telling = turned + 0.5 * content[:, None] * np.array([1.0, -0.4, 0.1])
    sums = 40 + 2.0 * content + generator.normal(size=number)
    blocks = np.arange(number) // 7
    found: dict[str, Any] = {
        "density": fitted(telling, sums + 9 * noise[:, 0], content, blocks, 90.0),
        "activation": fitted(turned, sums, content, blocks, 90.0),
        "falling": fitted(turned, -sums, content, blocks, 85.0),
        "flat axis": fitted(np.column_stack([telling, 0 * content]), sums, content, blocks, 85.0),
        "against": fitted(turned, 0 * sums + 1, content, blocks, 85.0),
        "lone axis": fitted(telling[:, :1], sums, content, blocks, 75.0),
        "alike": fitted(turned, sums, 0 * content, blocks, 90.0),
    }
    found["border"] = [
        fit_foreground(
            turned + share * content[:, None] * np.array([1.0, 0.4, -0.2]), sums, content, blocks, 90.0
        ).chosen
        for share in np.linspace(0.1, 1.5, 12)
    ]
    ranked = np.arange(160.0)
    few = {}
    for odd in (8, 7, 9):  # of 16 bright patches, as many in odd blocks; 8 are enough
        parity = np.r_[np.arange(144) % 2, np.arange(16) < odd].astype(int)
        few[odd] = fit_foreground(turned[:160], sums[:160], ranked, parity, 90.0).chosen
    found["few"] = few
    found["labels"] = [
        np.array(pseudo_labels(ranked[:n] ** 2, q)).astype(int).sum(1)
        for n, q in ((160, 90.0), (33, 75.0), (0, 90.0))
    ]
    found["many"] = [
        fit_foreground(np.zeros((n, 1)), np.ones(n), np.ones(n), np.zeros(n, int), 90.0).patches
        for n in (200_000, 200_001)
    ]
    return found


@STAGE.scene
def bases(_: Path) -> Mapping[str, Any]:
    """Principal components of patches that have data."""
    model = encoder(channels=2)
    crops = [np.stack([spots(seed, (17, 22, 19), 9), spots(seed + 50, (17, 22, 19), 5)]) for seed in range(5)]
    for crop, contrast in zip(crops, (0, 0.9e-3, 1.1e-3, 0, 0), strict=True):
        crop[:, :10, :12] = 0.3
        crop[1, 4, 4, 4] += contrast
    basis = fit_basis(model, crops, 12, most=4)
    tokens = model(torch.from_numpy(crops[1][None, :, :8, :12, :16])).patch_tokens[0].T.reshape(12, 2, 3, 4)
    return {
        **basis,
        "projected": project(tokens, basis, 4),
        "refused": refused(fit_basis, model, [np.zeros((2, 12, 12, 12), np.float32)], 12),
    }


def feature_settings(**changes: Any) -> FeatureParameters:
    """Every setting of the stage."""
    values: dict[str, Any] = dict(components=5, keep="components", context="window", precision="float32")
    values |= dict(
        overlap=0.5, window_batch=3, calibration_frames=2, bright_percentile=80.0, detail_voxels=1.1
    )
    values |= dict(high_resolution=(), upsampling="guided", guide_range=0.2, processes=1)
    values["streaming"] = dict(
        store="cpu",
        budget_mb=None,
        query_block_tokens=31,
        key_block_tokens=47,
        backend="sdpa",
        merge_identical=True,
    )
    return FeatureParameters(**(values | changes))


def finished_weights(path: Path, window: int = 16, **changes: Any) -> Path:
    """A tiny encoder with a basis."""
    model = encoder(strength=0.15, **changes)
    shape = (model.architecture.channels, 16, 16, 16)
    crops = [np.broadcast_to(spots(seed, shape[1:], 6), shape) for seed in range(4)]
    return weights_file(path, model, fit_basis(model, crops, 16, most=4), 0.22, window)


def written(folder: Path, maps: int) -> dict[str, Any]:
    """What the stage left in a folder, but for checksums and software."""
    record = StageRecord.read(folder / "features.json")
    features, foreground = (FrameStore(folder / name) for name in record.stores[:2])
    frames = sorted(record.checksums)
    ledgers = [
        path for path in sorted((folder / "ledger").glob("features*.jsonl")) if "high" not in path.name
    ]
    lines = [json.loads(line) for path in ledgers for line in path.read_text().splitlines()]
    kept = json.loads((folder / "ledger" / "foreground.json").read_text())["value"]
    places = np.array([[1.3, 3.1, 4.2], [2.0, 2.0, 3.0], [4.0, 6.0, 9.5], [1.9, 5.5, 30.0]])
    about = {key: record.about[key] for key in ("foreground", "explained_variance")}
    context = record.about["context"]
    found = {
        "frames": frames,
        "stores": record.stores,
        "where": [
            features.shape,
            features.voxel_um,
            features.origin_um,
            foreground.shape,
            foreground.origin_um,
        ],
        "channels": [features.about["layout"]["channels"], foreground.about["layout"]["channels"]],
        "features": [features.read(frame, slice(None)) for frame in frames],
        "maps": [foreground.read(frame, slice(None)) for frame in frames],
        "class tokens": class_tokens(features.path),
        "objects": [
            object_features(features, frames[-1], p).round(4) for p in (places, places[:1], places[:0])
        ],
        "about": about,
        "context": [context["kind"], context.get("difference_from_windows")],
        "fraction": {line["frame"]: line["facts"]["foreground_fraction"] for line in lines},
        "activation": kept["foreground"]["activation"],
    }
    if maps:
        fine = FrameStore(folder / record.stores[2])
        found["fine"] = [fine.read(frame, slice(None)) for frame in frames]
        found["fine grid"] = [fine.shape, fine.voxel_um, fine.origin_um, fine.about["layout"]["channels"]]
    return found


@STAGE.scene
def movies(folder: Path) -> Mapping[str, Any]:
    """The stage: windows and whole frames, one channel and two, parts and shares, and what it refuses."""
    movie = deskewed_movie(folder / "cell", (17, 29, 26), 3, 2, 40)
    output = folder / "cell" / "features.json"
    options: dict[str, Any] = dict(device="cpu", version="1")
    one = finished_weights(folder / "one.safetensors")
    found: dict[str, Any] = {}
    maps = feature_settings(high_resolution=("activation", "component_1", "foreground"))
    extract_features(movie, one, output, maps, **options)
    found["windows"] = written(folder / "cell", 3)
    extract_features(movie, one, output, replace(maps, upsampling="trilinear"), **options)
    found["linear"] = written(folder / "cell", 3)["fine"]

    two = finished_weights(folder / "two.safetensors", channels=2, embed_dim=28, positions="rope")
    whole = feature_settings(context="global", keep="all", calibration_frames=1, processes=2, window_batch=2)
    with pytest.MonkeyPatch.context() as patch:
        # Processes of one's own take seconds to start; what each of them does is the same here.
        patch.setattr(features_stage, "run_shares", lambda do, shares: [do(share) for share in shares])
        for part in (Part(0, 0), Part(0, 2), Part(2, 3), Part()):
            extract_features(movie, two, output, whole, part=part, **options)
    found["whole"] = written(folder / "cell", 0)
    found["no longer"] = (folder / "cell" / "features_high.ome.zarr").exists()

    empty = deskewed_movie(folder / "empty", (9, 9, 10), 1, 1, 0)
    few = finished_weights(folder / "few.safetensors", window=8, embed_dim=6, heads=1, patch_voxels=8)
    extract_features(
        empty, few, folder / "empty" / "features.json", feature_settings(components=9), **options
    )
    found["uniform"] = written(folder / "empty", 0)
    group: Any = zarr.open_group(folder / "empty" / "features.zarr", mode="r")
    found["arrays"] = sorted(group.array_keys())

    broken = weights_room.load_encoder(one)
    with torch.no_grad():
        broken[0].norm.weight.mul_(1e38)
    weights_file(folder / "broken.safetensors", broken[0], broken[2], 0.22, 16)
    weights_file(folder / "bare.safetensors", broken[0], {}, 0.22, 16)
    altered(one, folder / "long.safetensors", {}, {"field_of_view_voxels": [16, 16, 20]})
    three = finished_weights(folder / "three.safetensors", channels=3)
    names = [folder / f"{name}.safetensors" for name in ("broken", "bare", "long")]
    found["refused"] = [
        refused(extract_features, movie, file, output, feature_settings(), **options)
        for file in (*names, three)
    ]
    unknown = feature_settings(high_resolution=("component_5",))
    found["refused"].append(refused(extract_features, movie, one, output, unknown, **options))
    return found


@STAGE.scene
def finished(folder: Path) -> Mapping[str, Any]:
    """Weights that are taken as they are, and weights that get their basis from crops."""
    path = finished_weights(folder / "one.safetensors")
    index = shards(folder, "cell", [spots(seed, (18, 17, 19), 5)[None] for seed in range(4)], 0.22)
    settings = RepairParameters(max_crops=2, batch_size=1, min_outlier_rate=0.9)
    ends = {}
    for name, given in (("taken", []), ("fitted", [index])):
        out, report = folder / f"{name}.safetensors", folder / f"{name}.json"
        finish_model(path, given, out, report, settings, seed=1, device="cpu", key="k", source="train")
        ends[name] = [weights_room.load_encoder(out)[2][tensor] for tensor in BASIS_TENSORS]
    return {"bases": ends, "decision": json.loads((folder / "fitted.json").read_text())["decision"]}


def test_results_of_features_are_as_they_were(tmp_path: Path, write_golden: bool) -> None:
    torch.set_num_threads(1)
    STAGE.check(tmp_path, write=write_golden)
