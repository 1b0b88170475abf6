"""Every attention backend against a full softmax in float64, whole and in parts, with poisoned outputs."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from spatialdino_core.errors import BadInputError
from spatialdino_core.kernels import attention as module
from spatialdino_core.kernels import attention_cpu, attention_sdpa, attention_triton
from spatialdino_core.kernels.attention import (
    attend_in_parts,
    attend_in_tiles,
    attend_reference,
    choose_backend,
    merge,
)

ON_CPU = {
    "reference": (attend_in_tiles, torch.float32),
    "sdpa-cpu": (attention_sdpa.attend_cpu, torch.float32),
    "sdpa-cpu bfloat16": (attention_sdpa.attend_cpu, torch.bfloat16),
    "cpu": (attention_cpu.attend_bfloat16, torch.bfloat16),
}
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
EMPTY = -1e4  # log-weight of a key that counts nothing


def tensors(keys, queries=None, heads=2, width=64, dtype=torch.float32, spread=1.0, seed=0):
    """Query, key and value; runs of 128 values have something in common, so that a lost run shows."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(heads, tokens, width) for tokens in (queries or keys, keys, keys)]
    query, key, value = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    common = torch.randn(heads, -(-keys // 128), width, generator=generator) * 3
    return query * spread, key, value + common.repeat_interleave(128, 1)[:, :keys].to(dtype)


def truth_of(query, key, value, log_weight=None):
    """Row by row in numpy, float64: softmax(q k / sqrt(d) + w) v and the logarithm of the sum."""
    query, key, value = (x.double().numpy() for x in (query, key, value))
    outputs, sums = np.empty((*query.shape[:2], value.shape[-1])), np.empty(query.shape[:2])
    for head in range(len(query)):
        weights = 0 if log_weight is None else log_weight[head % len(log_weight)].double().numpy()
        for low in range(0, query.shape[1], 512):
            rows = slice(low, low + 512)
            scores = query[head, rows] @ key[head].T / np.sqrt(query.shape[-1]) + weights
            top = scores.max(1, keepdims=True)
            shares = np.exp(scores - top)
            sums[head, rows] = top[:, 0] + np.log(shares.sum(1))
            outputs[head, rows] = shares @ value[head] / shares.sum(1, keepdims=True)
    return outputs, sums


def error_of(found, truth):
    """Largest relative error of a row."""
    difference = np.linalg.norm(found.double().numpy() - truth, axis=-1)
    return (difference / np.linalg.norm(truth, axis=-1)).max()


def cut(key, value, size, log_weight=None):
    return [
        (
            key[:, low : low + size],
            value[:, low : low + size],
            None if log_weight is None else log_weight[:, low : low + size],
        )
        for low in range(0, key.shape[1], size)
    ]


@pytest.fixture
def poisoned(monkeypatch):
    """Memory that is not written shows: uninitialised tensors are full of NaN."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_poison_works(poisoned):
    assert torch.empty(1000).isnan().all()


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize(("tokens", "size"), [(4096, 4096), (4096, 1024), (5000, 1700), (4097, 4096)])
def test_equals_full_softmax_in_float64(name, tokens, size, poisoned):
    attend, dtype = ON_CPU[name]
    query, key, value = tensors(tokens, dtype=dtype, heads=1)
    truth, sums = truth_of(query, key, value)
    found, log_sum_exp = attend_in_parts(attend, query, cut(key, value, size))
    assert found.dtype == log_sum_exp.dtype == torch.float32
    assert np.linalg.norm(found.double().numpy() - truth) / np.linalg.norm(truth) < TOLERANCE[dtype]
    assert error_of(found, truth) < 3 * TOLERANCE[dtype]
    np.testing.assert_allclose(log_sum_exp, sums, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["sdpa-cpu", "cpu"])
def test_equals_full_softmax_on_twelve_thousand_tokens(name, poisoned):
    attend, dtype = ON_CPU[name]
    query, key, value = tensors(12_001, 3_000, heads=1, dtype=dtype)
    found, _ = attend_in_parts(attend, query, cut(key, value, 5_000))
    assert error_of(found, truth_of(query, key, value)[0]) < 3 * TOLERANCE[dtype]


@pytest.mark.parametrize("name", ON_CPU)
def test_a_skipped_block_of_keys_shows(name):
    """What the test above must see: one of seventeen blocks left out."""
    attend, dtype = ON_CPU[name]
    query, key, value = tensors(4096 + 256, 300, heads=1, dtype=dtype)
    parts = cut(key, value, 256)
    found, _ = attend_in_parts(attend, query, parts[:5] + parts[6:])
    assert error_of(found, truth_of(query, key, value)[0]) > 5 * TOLERANCE[dtype]


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("per_head", [True, False])
@pytest.mark.parametrize("width", [64, 32, 20])
def test_log_weights_count_keys(name, per_head, width, poisoned):
    """Weights from 1 to e^14, and keys of no weight; differing per head or not."""
    attend, dtype = ON_CPU[name]
    query, key, value = tensors(700, 90, heads=3, width=width, dtype=dtype)
    log_weight = torch.rand(3 if per_head else 1, 700, generator=torch.Generator().manual_seed(1)) * 14
    log_weight[:, 5::7] = EMPTY
    value[:, 5::7] = 1e3  # would show
    truth, sums = truth_of(query, key, value, log_weight)
    found, log_sum_exp = attend_in_parts(attend, query, cut(key, value, 333, log_weight))
    assert error_of(found, truth) < 2 * TOLERANCE[dtype]
    np.testing.assert_allclose(log_sum_exp, sums, rtol=1e-6, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("name", ON_CPU)
def test_a_key_of_weight_n_is_n_keys(name):
    attend, dtype = ON_CPU[name]
    query, key, value = tensors(40, 30, dtype=dtype)
    count = torch.arange(1, 41)
    repeated = [x.repeat_interleave(count, 1) for x in (key, value)]
    once, once_sum = attend(query, key, value, count.float().log()[None])
    often, often_sum = attend(query, *repeated, None)
    assert error_of(once, often.double().numpy()) < 2 * TOLERANCE[dtype]
    torch.testing.assert_close(once_sum, often_sum, atol=2 * TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("name", ON_CPU)
def test_large_scores_overflow_nowhere(name):
    attend, dtype = ON_CPU[name]
    query, key, value = tensors(600, 100, dtype=dtype, spread=60.0)
    found, _ = attend_in_parts(attend, query, cut(key, value, 77))
    truth, sums = truth_of(query, key, value)
    assert sums.max() > 150
    relative = np.linalg.norm(found.double().numpy() - truth) / np.linalg.norm(truth)
    assert relative < (0.25 if dtype == torch.bfloat16 else 5e-5)


def test_merging_does_not_depend_on_the_order():
    query, key, value = tensors(900, 50)
    parts = cut(key, value, 123)
    forward, backward = (attend_in_parts(attend_reference, query, order)[0] for order in (parts, parts[::-1]))
    assert error_of(forward, backward.double().numpy()) < 2e-6
    with pytest.raises(ValueError, match="no key"):
        attend_in_parts(attend_reference, query, [])


def test_merge_keeps_what_outweighs_by_far():
    output, log_sum_exp = torch.full((1, 1, 4), 2.0), torch.tensor([[300.0]])
    merge(output, log_sum_exp, torch.full((1, 1, 4), 1e6), torch.tensor([[EMPTY]]))
    assert (output == 2).all()
    assert log_sum_exp == 300


def test_columns_carry_log_weights_without_loss():
    """Three bfloat16 columns hold what a float32 holds."""
    query, key, _ = tensors(500, 1, dtype=torch.bfloat16)
    log_weight = torch.rand(2, 500) * 16
    _, wide = attention_sdpa.with_log_weight(query, key, log_weight, 64**-0.5)
    carried = wide[..., 64:].double().sum(-1) / 8
    assert (carried / log_weight.double() - 1).abs().max() < 2**-22


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wanted", ["auto", "sdpa", "cpu"])
def test_backends_pass_their_self_test_here(wanted, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        name = choose_backend(wanted, "cpu", dtype, 64).name
    ours = dtype == torch.bfloat16 and wanted != "sdpa"
    assert name == ("cpu" if ours else "sdpa-cpu")


def forgets_keys(query, key, value, log_weight):
    """As the first kernel of the public reference: the first tile of keys only."""
    return attend_reference(
        query, key[:, :128], value[:, :128], None if log_weight is None else log_weight[:, :128]
    )


def wrong_sum(query, key, value, log_weight):
    output, log_sum_exp = attend_reference(query, key, value, log_weight)
    return output, log_sum_exp / np.log(2)


def shifted_sum(query, key, value, log_weight):
    """Merging such parts shows nothing; merging one of them with another backend's would."""
    output, log_sum_exp = attend_reference(query, key, value, log_weight)
    return output, log_sum_exp + 1


def ignores_weights(query, key, value, log_weight):
    return attend_reference(query, key, value, None)


def raises(*_):
    raise RuntimeError("no such operator")


@pytest.mark.parametrize("broken", [forgets_keys, wrong_sum, shifted_sum, ignores_weights, raises])
def test_a_broken_operator_is_passed_over_loudly(broken, monkeypatch):
    monkeypatch.setattr(attention_sdpa, "attend_cpu", broken)
    module._chosen.cache_clear()
    with pytest.warns(RuntimeWarning, match="'sdpa-cpu' fails its self-test on cpu"):
        assert choose_backend("sdpa", "cpu", torch.float32, 32).name == "reference"
    module._chosen.cache_clear()


def test_triton_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.warns(RuntimeWarning, match="triton"), pytest.raises(BadInputError, match="backend: auto"):
        choose_backend("triton", "cpu", torch.float32, 48)


TRITON = """
import sys
sys.path[:0] = [{here!r}, {root!r}]
import numpy as np, torch
from test_kernels_attention import EMPTY, TOLERANCE, attention_triton, cut, error_of, tensors, truth_of
from spatialdino_core.kernels.attention import attend_in_parts, choose_backend
from functools import partial
empty = torch.Tensor.new_empty
torch.Tensor.new_empty = lambda *a, **k: empty(*a, **k).fill_(torch.nan)
for dtype in (torch.float32, torch.bfloat16):
    for keys, queries, heads, width in ((150, 70, 2, 64), (128, 64, 1, 32), (129, 33, 2, 20), (1, 1, 1, 16)):
        for weighted in (False, True):
            query, key, value = tensors(keys, queries, heads=heads, width=width, dtype=dtype)
            weights = torch.rand(heads, keys) * 9 if weighted else None
            if weighted and keys > 5:
                weights[:, 5] = EMPTY
            attend = partial(attention_triton.attend_triton, query_tile=32, key_tile=16)
            found, sums = attend(query, key, value, weights)
            truth, true_sums = truth_of(query, key, value, weights)
            assert error_of(found, truth) < TOLERANCE[dtype], (dtype, keys, weighted, error_of(found, truth))
            np.testing.assert_allclose(sums, true_sums, rtol=1e-6, atol=TOLERANCE[dtype])
strided = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in tensors(100, 40, width=32)]
found, _ = attend_in_parts(partial(attention_triton.attend_triton, query_tile=16, key_tile=32),
    strided[0], cut(*strided[1:], 37, torch.zeros(1, 100)))
assert error_of(found, truth_of(*strided)[0]) < 1e-5
assert choose_backend("triton", "cpu", torch.bfloat16, 32).name == "triton"
print("fine")
"""


def test_triton_in_its_interpreter():
    """Keys several times the tile; in a process of its own, because the interpreter is chosen at import."""
    pytest.importorskip("triton")
    here, root = Path(__file__).parent, Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", TRITON.format(here=str(here), root=str(root))],
        env={"TRITON_INTERPRET": "1", "PATH": "", "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
    )
    assert done.stdout.strip() == "fine", done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", [*attention_sdpa.GPU_ORDER, "triton"])
@pytest.mark.parametrize(("tokens", "size"), [(5000, 1700), (70_000, 70_000), (70_000, 33_000)])
def test_gpu_backends_equal_float64(name, tokens, size):
    attend = {**attention_sdpa.on_gpu(), "triton": attention_triton.attend_triton}[name]
    query, key, value = tensors(tokens, dtype=torch.bfloat16)
    found, _ = attend_in_parts(
        attend, query.cuda(), [(k.cuda(), v.cuda(), None) for k, v, _ in cut(key, value, size)]
    )
    rows = torch.linspace(0, tokens - 1, 256).long()
    assert error_of(found.cpu()[:, rows], truth_of(query[:, rows], key, value)[0]) < 3e-2
