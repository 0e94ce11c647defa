"""The rendering's arithmetic, against scipy and numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pairscape.model.networks.render import CHANNELS, Render, independence_residual, log_density, smoothing_matrix
from pairscape.pipeline.errors import InputError


def some_counts(n=5, bins=32, seed=0):
    """(n, bins, bins) int64 with empty and crowded bins, and no symmetry."""
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(0.3, 8, (n, bins, bins)) * np.linspace(2, 0.1, bins))


def numpy_log(counts):
    n = counts.sum(axis=(1, 2), keepdims=True)
    return (np.log10(counts / n + 1e-4) + 4) / 4


def numpy_residual(counts):
    counts = counts.astype(float)
    expected = counts.sum(2, keepdims=True) * counts.sum(1, keepdims=True) / counts.sum((1, 2), keepdims=True)
    return (counts - expected) / np.sqrt(expected + 0.25)


@settings(max_examples=60, deadline=None)
@given(st.integers(16, 64), st.floats(0.5, 16), st.integers(0, 99))
def test_smoothing_is_scipys_gaussian_filter(bins, sigma, seed):
    image = np.random.default_rng(seed).random((bins, bins))
    smooth = smoothing_matrix(bins, sigma).numpy()
    np.testing.assert_allclose(smooth @ image @ smooth.T, gaussian_filter(image, sigma), atol=1e-9)


@pytest.mark.parametrize("sigma", [0.5, 1, 2.7, 8, 16])
@pytest.mark.parametrize("bins", [16, 33, 64])
def test_a_rendered_image_is_smoothed_as_scipy_would(bins, sigma):
    counts = some_counts(bins=bins)
    drawn = Render(bins, channels="counts", sigma=sigma)(torch.from_numpy(counts)).numpy()[:, 0]
    wanted = np.stack([gaussian_filter(image.astype(float), sigma) for image in counts])
    np.testing.assert_allclose(drawn, wanted, rtol=1e-5, atol=1e-5 * counts.max())


def test_smoothing_keeps_the_number_of_cells():
    counts = some_counts()
    drawn = Render(32, channels="counts", sigma=16.0)(torch.from_numpy(counts))
    np.testing.assert_allclose(drawn.sum((1, 2, 3)), counts.sum((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("bins", "pool"), [(64, 2), (64, 4), (33, 3), (32, 1), (32, 32)])
def test_pooling_sums_bins(bins, pool):
    counts = some_counts(bins=bins)
    render = Render(bins, channels="counts", pool=pool)
    side = bins // pool
    wanted = np.array(
        [
            [[image[r * pool :][:pool, c * pool :][:, :pool].sum() for c in range(side)] for r in range(side)]
            for image in counts
        ]
    )
    np.testing.assert_array_equal(render(torch.from_numpy(counts)).numpy()[:, 0], wanted)
    assert render.out_bins == side


def test_the_log_channel_is_cnncs_with_the_true_number_of_cells():
    counts = some_counts()
    counts[0] = 0
    counts[0, 3, 4] = 43261
    drawn = log_density(torch.from_numpy(counts).float()).numpy()
    np.testing.assert_allclose(drawn, numpy_log(counts), atol=1e-5)
    assert drawn[0].min() == pytest.approx(0, abs=1e-6)
    assert drawn[0].max() == pytest.approx(1, abs=1e-4)


def test_the_residual_channel_is_zero_where_genes_are_independent():
    margin_b, margin_a = np.arange(1.0, 33), np.linspace(5, 1, 32)
    independent = np.outer(margin_b, margin_a)[None]
    np.testing.assert_allclose(independence_residual(torch.from_numpy(independent).float()), 0, atol=1e-3)
    counts = some_counts()
    drawn = independence_residual(torch.from_numpy(counts).float()).numpy()
    np.testing.assert_allclose(drawn, numpy_residual(counts), rtol=1e-3, atol=1e-4)
    assert np.abs(drawn).max() > 1


def test_channels_are_stacked_in_the_order_of_their_name():
    counts = torch.from_numpy(some_counts())
    both = Render(32, channels="log+residual")(counts)
    assert both.shape == (5, 2, 32, 32)
    torch.testing.assert_close(both[:, :1], Render(32, channels="log")(counts))
    torch.testing.assert_close(both[:, 1:], Render(32, channels="residual")(counts))
    for name, parts in CHANNELS.items():
        assert Render(32, channels=name).out_channels == len(parts) == Render(32, channels=name)(counts).shape[1]


def test_cells_without_either_gene_leave_the_corner():
    counts = some_counts()
    both_zero = counts[:, 0, 0] // 2
    render = Render(32, channels="counts", drop_both_zero=True)
    drawn = render(torch.from_numpy(counts), torch.from_numpy(both_zero)).numpy()[:, 0]
    wanted = counts.copy()
    wanted[:, 0, 0] -= both_zero
    np.testing.assert_array_equal(drawn, wanted)


def test_the_steps_run_in_order_pool_drop_smooth_channels():
    counts = some_counts(bins=64)
    both_zero = counts[:, 0, 0]
    wanted = counts.reshape(5, 32, 2, 32, 2).sum((2, 4)).astype(float)
    wanted[:, 0, 0] -= both_zero
    wanted = np.stack([gaussian_filter(image, 1.5) for image in wanted])
    drawn = Render(64, pool=2, sigma=1.5, drop_both_zero=True)(torch.from_numpy(counts), torch.from_numpy(both_zero))
    np.testing.assert_allclose(drawn[:, 0], numpy_log(wanted), atol=1e-4)
    np.testing.assert_allclose(drawn[:, 1], numpy_residual(wanted), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64, torch.float32])
def test_the_type_of_the_counts_does_not_matter_and_they_are_left_as_they_are(dtype):
    counts, both_zero = torch.from_numpy(some_counts()).to(dtype), torch.full((5,), 2, dtype=torch.int32)
    counts[:, 0, 0] += 2
    before = counts.clone()
    render = Render(32, sigma=0.7, drop_both_zero=True)
    drawn = render(counts, both_zero)
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn, render(before.long(), both_zero))
    assert torch.equal(counts, before)


@pytest.mark.parametrize("channels", CHANNELS)
def test_the_mirror_of_a_pair_is_the_mirror_of_its_picture(channels):
    counts = torch.from_numpy(some_counts())
    render = Render(32, channels=channels, sigma=1.2)
    torch.testing.assert_close(render(counts.mT), render(counts).mT, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", CHANNELS)
def test_an_image_without_cells_is_drawn_in_finite_numbers(channels):
    render = Render(16, channels=channels, sigma=2.0, drop_both_zero=True)
    counts = torch.zeros(2, 16, 16)
    counts[:, 0, 0] = 100
    assert render(counts, torch.tensor([100, 100])).isfinite().all()


def test_rendering_has_nothing_to_learn_or_to_save():
    render = Render(32, sigma=2.0)
    assert not list(render.parameters())
    assert not render.state_dict()


def test_what_cannot_be_rendered_is_refused():
    with pytest.raises(InputError, match=r"'logs' is unknown.*log\+residual"):
        Render(32, channels="logs")
    for bad in ({"pool": 3}, {"pool": 0}, {"sigma": -1.0}, {"sigma": float("nan")}, {"sigma": float("inf")}):
        with pytest.raises(ValueError, match=r"pool|sigma"):
            Render(32, **bad)
    with pytest.raises(ValueError, match="both_zero"):
        Render(32, drop_both_zero=True)(torch.zeros(1, 32, 32))
