"""The stage on small movies: what lies in the stores, what it depends on, and odd frames."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spatialdino_core.crops.normalise import bounds_of, normalise
from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.encoder.weights import load_encoder
from spatialdino_core.errors import BadInputError
from spatialdino_core.features import stage
from spatialdino_core.features.encoding import MovieEncoder
from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.features.shares import devices, run_shares
from spatialdino_core.features.stage import extract_features
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.features import class_tokens, object_features
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore
from tests.unit.features.conftest import Make, frames, small_encoder

PARAMETERS = FeatureParameters(components=6, bright_percentile=85)


def extract(
    deskewed: Path, weights: Path, parameters: FeatureParameters = PARAMETERS, code: str = ""
) -> StageRecord:
    output = deskewed.parent / "features.json"
    extract_features(deskewed, weights, output, parameters, device="cpu", version=code)
    return StageRecord.read(output)


def computed(folder: Path) -> int:
    lines = (folder / "ledger" / "features.jsonl").read_text().splitlines()
    return sum(json.loads(line)["key"] != "" for line in lines)


def test_stores_hold_projected_tokens_of_the_normalised_frame(movie: Make, weights: Make) -> None:
    """Against the encoder by hand, on a frame that is one window."""
    stacks, model = frames(2, shape=(32, 32, 32)), weights()
    record = extract(movie(stacks), model)
    encoder, _, extra = load_encoder(model)
    bounds = bounds_of([stacks[0]], NormalisationParameters())
    image = torch.as_tensor(normalise(stacks[1], bounds))[None]
    with torch.inference_mode():
        output = encoder.eval()(image, class_attention=True)
    tokens = output.patch_tokens[0]
    expected = ((tokens - extra["pca.mean"]) @ extra["pca.components"][:6].T).T.reshape(6, 4, 4, 4)
    folder = next(p for p in model.parent.iterdir() if p.is_dir())
    store = FrameStore(folder / record.stores[0])
    np.testing.assert_allclose(store.read(1, slice(None)), expected, atol=5e-3)
    np.testing.assert_allclose(class_tokens(store.path)[1], output.class_token[0], atol=1e-5)
    sums = (tokens.sum(1) + 64 * output.class_attention[0].sum(0)).reshape(4, 4, 4)
    active = FrameStore(folder / record.stores[1]).read(1).astype(np.float32)
    assert abs(np.corrcoef(active.ravel(), sums.numpy().ravel())[0, 1]) > 0.999
    assert store.about["layout"]["channels"] == [f"component_{k}" for k in range(6)]
    np.testing.assert_allclose(store.origin_um, (1.35, 2.35, 3.35))
    assert record.about["explained_variance"] == pytest.approx(extra["pca.explained_variance"][:6].tolist())


def test_particles_are_foreground(movie: Make, weights: Make) -> None:
    deskewed = movie(frames(1))
    record = extract(deskewed, weights())
    chosen = record.about["foreground"]
    assert chosen["chosen"] in ("activation", "density")
    assert set(chosen["evidence"]) == {"activation", "density"}
    assert chosen["evidence"][chosen["chosen"]]["auroc"] > 0.8
    json.dumps(record.about)
    active, found = read_maps(deskewed)
    assert np.median(active[found < 0.5]) == pytest.approx(0, abs=0.5)


def test_all_features_on_request(movie: Make, weights: Make) -> None:
    record = extract(movie(frames(1)), weights(), replace(PARAMETERS, keep="all", components=999))
    store = FrameStore(next(iter(movie(frames(1)).parent.glob("features.zarr"))))
    assert store.shape[1] == 16
    assert store.about["layout"]["channels"][3] == "token_3"
    assert len(record.about["explained_variance"]) == 16


def test_components_of_an_object_are_one_file_and_mostly_one_chunk(movie: Make, weights: Make) -> None:
    deskewed = movie(frames(1))
    extract(deskewed, weights())
    folder = deskewed.parent / "features.zarr" / "0"
    assert len([p for p in (folder / "c").rglob("*") if p.is_file()]) == 1
    chunks = json.loads((folder / "zarr.json").read_text())["codecs"][0]["configuration"]["chunk_shape"]
    assert chunks == [1, 6, 6, 7, 8]


def test_bytes_are_the_same_again(movie: Make, weights: Make) -> None:
    first = extract(movie(frames(2), "a"), weights())
    second = extract(movie(frames(2), "b"), weights())
    assert first.checksums == second.checksums
    assert first.about["foreground"] == second.about["foreground"]


def test_what_is_finished_is_not_computed_again(movie: Make, weights: Make) -> None:
    deskewed, model = movie(frames(3)), weights()
    before = extract(deskewed, model)
    assert computed(deskewed.parent) == 3
    same = extract(deskewed, model, replace(PARAMETERS, processes=1, upsampling="trilinear"))
    assert computed(deskewed.parent) == 3
    assert before.checksums == same.checksums
    extract(deskewed, model, replace(PARAMETERS, overlap=0.25))
    assert computed(deskewed.parent) == 6


def test_processes_own_whole_frames_and_none_twice(
    movie: Make, weights: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What processes do, done in turn, on what reaches a process; starting them is tested below."""

    def in_turn(do: Any, shares: list[Any]) -> None:
        for share in shares:
            do(pickle.loads(pickle.dumps(share)))

    monkeypatch.setattr(stage, "run_shares", in_turn)
    alone = extract(movie(frames(5), "alone"), weights())
    deskewed = movie(frames(5), "shared")
    shared = extract(deskewed, weights(), replace(PARAMETERS, processes=2))
    assert shared.checksums == alone.checksums
    assert computed(deskewed.parent) == 5
    assert [p.name for p in (deskewed.parent / "ledger").glob("features*")] == ["features.jsonl"]


def test_shares_are_done_in_processes_of_their_own(tmp_path: Path) -> None:
    run_shares(os.mkdir, [tmp_path / "0", tmp_path / "1"])
    assert (tmp_path / "0").is_dir()
    assert (tmp_path / "1").is_dir()
    with pytest.raises(FileExistsError):
        run_shares(os.mkdir, [tmp_path / "2", tmp_path / "1"])
    assert (tmp_path / "2").is_dir(), "an error in one process does not end the other"


def test_a_killed_process_leaves_its_frames_to_the_next_job(movie: Make, weights: Make) -> None:
    deskewed = movie(frames(3))
    before = extract(deskewed, weights())
    ledger = deskewed.parent / "ledger" / "features.jsonl"
    ledger.rename(ledger.with_name("features-1.jsonl"))
    assert extract(deskewed, weights()).checksums == before.checksums
    assert computed(deskewed.parent) == 3, "nothing is computed again"
    assert not ledger.with_name("features-1.jsonl").exists()


def test_a_gpu_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices(torch.device("cuda"), 2) == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert devices(torch.device("cpu"), 3) == [torch.device("cpu")] * 3
    with pytest.raises(BadInputError, match=r"features\.processes"):
        devices(torch.device("cuda"), 3)


def test_the_next_frame_is_read_while_one_is_encoded(
    movie: Make, weights: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threading import Event

    reads = [Event() for _ in range(3)]
    read, encode = MovieEncoder.read, MovieEncoder.encode

    def noted(self: MovieEncoder, frame: int) -> Any:
        reads[frame].set()
        return read(self, frame)

    def waiting(self: MovieEncoder, frame: Any, *context: Any) -> Any:
        if started and frame.number < 2:
            assert reads[frame.number + 1].wait(20), "the next frame is not read in the meantime"
        return encode(self, frame, *context)

    started: list[bool] = []
    monkeypatch.setattr(MovieEncoder, "read", noted)
    monkeypatch.setattr(MovieEncoder, "encode", waiting)
    original = stage._frame_job

    def job(*arguments: Any) -> Any:
        for event in reads:
            event.clear()
        started.append(True)
        return original(*arguments)

    monkeypatch.setattr(stage, "_frame_job", job)
    assert len(extract(movie(frames(3)), weights()).checksums) == 3


def read_maps(deskewed: Path, frame: int = 0) -> np.ndarray:
    return FrameStore(deskewed.parent / "foreground.ome.zarr").read(frame, slice(None)).astype(np.float32)


@pytest.mark.parametrize("value", [0, 100])
def test_a_movie_without_contrast_has_no_foreground(movie: Make, weights: Make, value: int) -> None:
    deskewed = movie([np.full((1, 32, 32, 48), value, np.uint16)])
    record = extract(deskewed, weights())
    assert record.about["foreground"]["chosen"] == "none"
    features = FrameStore(deskewed.parent / "features.zarr").read(0, slice(None)).astype(np.float32)
    np.testing.assert_allclose(features, np.broadcast_to(features[:, :1, :1, :1], features.shape), atol=2e-3)
    assert (read_maps(deskewed)[1] == 0).all()


def test_an_empty_frame_amid_others_has_finite_features_and_no_particle(movie: Make, weights: Make) -> None:
    stacks = frames(3)
    stacks[1][:] = 0
    deskewed = movie(stacks)
    extract(deskewed, weights())
    maps = read_maps(deskewed, 1)
    assert np.isfinite(maps).all()
    np.testing.assert_allclose(maps[0], maps[0, 0, 0, 0], atol=1e-2)


def test_a_tiny_frame(movie: Make, weights: Make) -> None:
    """Less than a patch along an axis: completed to one patch, no foreground model."""
    deskewed = movie([frames(1)[0][:, :5, :20, :11]])
    record = extract(deskewed, weights())
    assert FrameStore(deskewed.parent / "features.zarr").shape == (1, 6, 1, 3, 2)
    assert record.about["foreground"]["chosen"] == "none"


def test_a_channel_or_all_channels_enter(movie: Make, weights: Make) -> None:
    two = movie(frames(1, channels=2), "two")
    first = extract(two, weights())
    one = movie([stack[:1] for stack in frames(1, channels=2)], "one")
    assert extract(one, weights()).checksums == first.checksums
    both = extract(two, weights(channels=2, name="two.safetensors"))
    assert both.checksums != first.checksums
    with pytest.raises(BadInputError, match=r"1 channel.*2 channels of the weights"):
        extract(one, weights(channels=2, name="two.safetensors"))


def test_features_that_are_not_finite_end_the_movie(
    movie: Make, weights: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(type(small_encoder())):  # type: ignore[misc]
        def forward(self, *arguments: Any, **named: Any) -> Any:
            output = super().forward(*arguments, **named)
            output.patch_tokens[0, 0] = torch.nan
            return output

    from spatialdino_core.features import encoding

    load = encoding.load_encoder

    def broken(path: Path) -> Any:
        encoder, header, extra = load(path)
        encoder.__class__ = Broken
        return encoder, header, extra

    monkeypatch.setattr(encoding, "load_encoder", broken)
    with pytest.raises(BadInputError, match="frame 0: found NaN"):
        extract(movie(frames(1)), weights())


def test_weights_without_a_basis_are_refused(movie: Make, weights: Make) -> None:
    from spatialdino_core.encoder.weights import save_encoder

    path = weights()
    encoder, header, _ = load_encoder(path)
    save_encoder(path, encoder, header)
    with pytest.raises(BadInputError, match=r"pca\.mean"):
        extract(movie(frames(1)), path)


def test_features_of_objects_are_those_around_them(movie: Make, weights: Make) -> None:
    deskewed = movie(frames(1))
    extract(deskewed, weights())
    store = FrameStore(deskewed.parent / "features.zarr")
    whole = store.read(0, slice(None)).astype(np.float32)
    centre = np.array(store.origin_um) + np.array([2, 3, 4]) * store.voxel_um
    between = centre + np.array([0, 0.5, 0]) * store.voxel_um
    found = object_features(store, 0, np.stack([centre, between, centre - 100]))
    np.testing.assert_allclose(found[0], whole[:, 2, 3, 4], atol=1e-4)
    np.testing.assert_allclose(found[1], whole[:, 2, 3:5, 4].mean(1), atol=1e-4)
    np.testing.assert_allclose(found[2], whole[:, 0, 0, 0], atol=1e-4)
    assert object_features(store, 0, np.empty((0, 3))).shape == (0, 6)


@pytest.mark.parametrize("context", ["window", "global"])
def test_fill_enters_no_statistics_and_no_context_of_the_frame(
    movie: Make, weights: Make, monkeypatch: pytest.MonkeyPatch, context: Any
) -> None:
    """A movie that has data in its first five of eight columns of patches, beside two kinds of fill."""
    opened = DeskewedMovie.__init__

    def half(self: DeskewedMovie, record: Path) -> None:
        opened(self, record)
        self.valid = np.broadcast_to(np.arange(64) < 40, self.valid.shape)

    monkeypatch.setattr(DeskewedMovie, "__init__", half)
    parameters, records = replace(PARAMETERS, context=context), []
    for name, fill in (("dark", 0), ("bright", 60_000)):
        stacks = frames(2)
        for stack in stacks:
            stack[..., 40:] = fill
        deskewed = movie(stacks, name)
        records.append(extract(deskewed, weights(), parameters))
        assert (FrameStore(deskewed.parent / "features.zarr").read(1, slice(None))[..., 5:] == 0).all()
        assert (read_maps(deskewed, 1)[..., 5:] == 0).all()
        assert records[-1].about["foreground"]["patches"] == 6 * 7 * 5
    if context == "global":
        assert records[0].checksums == records[1].checksums


def test_maps_on_the_grid_of_the_image(movie: Make, weights: Make) -> None:
    deskewed, model = movie(frames(2)), weights()
    wanted = replace(PARAMETERS, high_resolution=("foreground", "component_2"))
    record = extract(deskewed, model, wanted)
    assert "features_high.ome.zarr" in record.stores
    high = FrameStore(deskewed.parent / "features_high.ome.zarr")
    assert high.shape == (2, 2, 48, 56, 64)
    assert computed(deskewed.parent) == 2
    low = read_maps(deskewed)[1]
    means = high.read(0).astype(np.float32).reshape(6, 8, 7, 8, 8, 8).mean((1, 3, 5))
    assert np.corrcoef(means.ravel(), low.ravel())[0, 1] > 0.8
    extract(deskewed, model, replace(wanted, upsampling="trilinear"))
    assert computed(deskewed.parent) == 2
    extract(deskewed, model)
    assert not (deskewed.parent / "features_high.ome.zarr").exists()
    with pytest.raises(BadInputError, match="component_9"):
        extract(deskewed, model, replace(PARAMETERS, high_resolution=("component_9",)))


def test_the_whole_frame_as_context(movie: Make, weights: Make) -> None:
    """Against the plain encoder on a frame of several windows; the difference to windows is reported."""
    stacks, model = frames(1), weights()
    deskewed = movie(stacks)
    record = extract(deskewed, model, replace(PARAMETERS, context="global"))
    encoder, _, extra = load_encoder(model)
    image = torch.as_tensor(normalise(stacks[0], bounds_of([stacks[0]], NormalisationParameters())))[None]
    with torch.inference_mode():
        output = encoder.eval()(image, class_attention=True)
    expected = (output.patch_tokens[0] - extra["pca.mean"]) @ extra["pca.components"][:6].T
    found = FrameStore(deskewed.parent / "features.zarr").read(0, slice(None))
    np.testing.assert_allclose(found, expected.T.reshape(6, 6, 7, 8), atol=5e-3)
    np.testing.assert_allclose(
        class_tokens(deskewed.parent / "features.zarr")[0], output.class_token[0], atol=1e-4
    )
    context = record.about["context"]
    assert context["kind"] == "global"
    assert 0 < context["difference_from_windows"] < 2
    assert context["attention"]["tokens"] == 6 * 7 * 8 + 1
    ledger = (deskewed.parent / "ledger" / "features.jsonl").read_text()
    assert json.loads(ledger.splitlines()[0])["facts"]["attention"] == context["attention"]


def test_windows_as_large_as_the_frame_are_the_whole_frame(movie: Make, weights: Make) -> None:
    deskewed, model = movie(frames(1)), weights(window=64)
    context = extract(deskewed, model, replace(PARAMETERS, context="global")).about["context"]
    assert context["difference_from_windows"] < 1e-4


def test_settings_of_the_other_context_change_nothing(movie: Make, weights: Make) -> None:
    window = PARAMETERS.of_result
    assert replace(PARAMETERS, streaming={"query_block_tokens": 7}).of_result == window
    whole = replace(PARAMETERS, context="global")
    assert replace(whole, overlap=0.25).of_result == whole.of_result != window
    assert replace(whole, streaming={"query_block_tokens": 7}).of_result != whole.of_result
