"""The rows of the probe as its products take them, and the losses of its models: beside NumPy and float64."""

import numpy as np
import pytest
import torch

from diptych.errors import InputError
from diptych.evaluate.probe import design as module
from diptych.evaluate.probe.design import Design
from diptych.evaluate.probe.losses import sigmoid_residuals_, softmax_residuals_

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
TALL, WIDE = RNG.standard_normal((50, 5)) + 2, RNG.standard_normal((6, 9)) + 2
KINDS = {"kept": (TALL, True), "read again": (TALL, False), "wide": (WIDE, None)}


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "READ_ROWS", 16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("intercept", [True, False])
def test_logits_are_those_of_the_features(small_parts, kind, intercept):
    table, keep = KINDS[kind]
    rows = Design(table, CPU, intercept, keep)
    weights, bias = RNG.standard_normal((3, table.shape[1])), RNG.standard_normal(3) * intercept
    point = rows.coordinates(torch.from_numpy(weights), torch.from_numpy(bias))
    assert point.dtype == torch.float64 and point.shape == (3, rows.rank + 1)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        found = []
        for start in range(0, len(table), 16):
            part = rows.rows(start, min(start + 16, len(table)), dtype)
            logits = part @ rows.to_products(point[:, :-1], dtype).T
            assert part.dtype == logits.dtype == dtype
            found.append(logits.double() + point[:, -1])
        np.testing.assert_allclose(torch.cat(found), table @ weights.T + bias, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_go_the_way_back(kind):
    table, keep = KINDS[kind]
    rows = Design(table, CPU, keep=keep)
    coordinates = torch.from_numpy(RNG.standard_normal((2, 3, rows.rank)))
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        given = rows.to_products(coordinates, dtype)
        gradient = torch.from_numpy(RNG.standard_normal(given.shape)).to(dtype)
        back = rows.from_products(gradient)
        assert back.dtype == torch.float64
        assert float((given * gradient).sum()) == pytest.approx(float((coordinates * back).sum()), abs=tolerance)


@pytest.mark.parametrize("table", [TALL, TALL * 1e-3, TALL[:5], WIDE], ids=["tall", "small", "square", "wide"])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_basis_is_that_of_the_covariance(table, intercept):
    rows = Design(table, CPU, intercept)
    centred = table - table.mean(axis=0) * intercept
    np.testing.assert_allclose(rows.mean, table.mean(axis=0) * intercept)
    np.testing.assert_allclose(rows.basis.T @ rows.basis, np.eye(rows.rank), atol=1e-12)
    values = np.linalg.svd(centred, compute_uv=False) ** 2 / len(table)
    np.testing.assert_allclose(rows.variances[:-1], values, atol=1e-12)
    assert float(rows.variances[-1]) == 1  # of the bias
    np.testing.assert_allclose(((centred @ rows.basis.numpy()) ** 2).mean(axis=0), values, atol=1e-12)


@pytest.mark.parametrize("place", [0, 20, 49])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("keep", [True, False])
def test_the_longest_row_wherever_it_stands(small_parts, place, intercept, keep):
    table = TALL.copy()
    table[place] *= 10
    centre = table.mean(axis=0) if intercept else 0
    expected = np.linalg.norm(table - centre, axis=1)
    assert Design(table, CPU, intercept, keep).longest == pytest.approx(expected[place]) == pytest.approx(max(expected))


def test_rows_that_are_all_alike_have_no_length():
    assert Design(np.full((9, 2), 0.25), CPU).longest == 0


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, np.longdouble, np.int32, np.uint8, bool, ">f4", ">i2"]
)
def test_the_mean_is_that_of_all_parts_in_any_number_type(small_parts, dtype):
    table = (RNG.standard_normal((50, 4)) * 3 + 9).astype(dtype)
    rows = Design(table, CPU)
    np.testing.assert_allclose(rows.mean, table.astype(np.float64).mean(axis=0), rtol=1e-12)
    assert rows.mean.dtype == torch.float64 and (rows.num_rows, rows.width) == (50, 4)
    with pytest.raises(InputError, match="NaN or infinity"):
        Design(np.where(np.arange(200).reshape(50, 4) == 150, np.inf, table), CPU)


@pytest.mark.parametrize("num_outputs", [1, 16, 17, 300, 1000, 10**6])
@pytest.mark.parametrize("num_rows", [1, 255, 256, 20_000])
def test_chunks_hold_every_row_once_and_fit_into_a_processors_cache(num_outputs, num_rows):
    rows = Design(np.zeros((num_rows, 1)), CPU)
    chunks = rows.chunks(num_outputs)
    assert [row for start, stop in chunks for row in range(start, stop)] == list(range(num_rows))
    sizes = [stop - start for start, stop in chunks]
    most = min(max(256, 262_144 // num_outputs), 16_384)
    assert set(sizes[:-1]) <= {most} and sizes[-1] <= most


def test_a_copy_is_kept_where_there_is_just_room(monkeypatch):
    for room, kept in ((50 * 5 * 4, True), (50 * 5 * 4 - 1, False)):
        monkeypatch.setattr(module, "_KEPT_BYTES", room)
        part = Design(TALL, CPU).rows(0, 50, torch.float32)
        turned = (TALL - TALL.mean(axis=0)) @ Design(TALL, CPU).basis.numpy()
        assert np.allclose(part, turned if kept else TALL - TALL.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("table", [WIDE, TALL[:5]], ids=["wide", "square"])
def test_no_more_rows_than_columns_are_kept_in_both_precisions(table):
    rows = Design(table, CPU)
    turned = (table - table.mean(axis=0)) @ rows.basis.numpy()
    for dtype in (torch.float64, torch.float32):
        found = rows.rows(0, len(table), dtype)
        assert found.dtype == dtype and found.shape == (len(table), rows.rank)
        np.testing.assert_allclose(found, turned, atol=1e-6)


def test_on_a_gpu_half_of_what_is_free_may_hold_the_copy(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (101, 1000))  # free and total, as the driver says it
    assert module.kept_bytes(torch.device("cuda")) == 50 and module.kept_bytes(CPU) == 2 << 30


def test_the_basis_may_come_from_some_of_the_rows(monkeypatch):
    """From the first to the last, evenly: rows of another kind at one end alone must not be missed."""
    monkeypatch.setattr(module, "BASIS_ROWS", 10)
    table = np.zeros((1000, 2))
    table[:, 0] = np.where(np.arange(1000) % 2, 1e-3, -1e-3)
    table[0, 1], table[-1, 1] = 5, -5
    rows = Design(table, CPU)
    np.testing.assert_allclose(rows.basis.abs(), [[0, 1], [1, 0]], atol=1e-3)
    assert float(rows.variances[0]) == pytest.approx(2 * 25 / 10)  # two of the ten rows
    wide = Design(RNG.standard_normal((40, 30)), CPU)  # as many rows as the basis needs, however few are usual
    assert wide.rank == 30 and float(wide.variances.min()) > 1e-6


# ---------------------------------------------------------------------- losses


LOGITS = torch.from_numpy(RNG.standard_normal((2, 4, 30)))
LABELS = torch.from_numpy(RNG.integers(0, 4, 30))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 40.0, 1e4])
@pytest.mark.parametrize("shift", [0.0, -3e4, 3e4])
def test_logits_of_any_size_give_the_losses_of_a_softmax(dtype, scale, shift):
    logits = (LOGITS * scale + shift).to(dtype)
    exact = logits.double().clone().requires_grad_()
    each = torch.stack([torch.nn.functional.cross_entropy(one.T, LABELS, reduction="sum") for one in exact])
    each.sum().backward()
    loss = softmax_residuals_(logits, LABELS)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, each.detach(), rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=0)
    torch.testing.assert_close(logits.double(), exact.grad, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)


def test_the_residual_of_a_sure_prediction_keeps_its_digits():
    """p - 1 would be 0 here; the sum of the others' probabilities is exp(-50)."""
    logits = torch.tensor([[[50.0], [0.0]]])
    loss = softmax_residuals_(logits, torch.tensor([0]))
    assert float(loss) == pytest.approx(np.exp(-50), rel=1e-5)
    assert logits.flatten().tolist() == pytest.approx([-np.exp(-50), np.exp(-50)], rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 40.0, 1e4])
def test_logits_of_any_size_give_the_losses_of_independent_classes(scale):
    signs = torch.from_numpy(RNG.integers(-1, 2, (4, 30)).astype(np.int8))
    logits = LOGITS * scale
    exact = logits.clone().requires_grad_()
    each = (torch.logaddexp(torch.zeros(()).double(), -signs * exact) * (signs != 0)).sum(dim=(1, 2))
    each.sum().backward()
    torch.testing.assert_close(sigmoid_residuals_(logits, signs), each.detach(), rtol=1e-9, atol=0)
    torch.testing.assert_close(logits, exact.grad, rtol=1e-9, atol=1e-15)
    sure = torch.tensor([[[-60.0, 60.0]]], dtype=torch.float64)
    assert float(sigmoid_residuals_(sure, torch.tensor([[-1, 1]], dtype=torch.int8))) == pytest.approx(2 * np.exp(-60))
