"""Rank moments are what they are said to be, and scores beyond doubt are ordered by strength."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.networks.momentnet import (
    BEYOND,
    CERTAIN,
    DEGREE,
    NOT_MONOTONE,
    SMALLEST_VARIANCE,
    TURNED,
    UPWARD,
    WHOLLY,
    MomentNet,
    log_sizes,
    ordered_by_strength,
    rank_functions,
    rank_moments,
    sizes,
    strength,
)
from pairscape.model.networks.moments import moments_and_strength
from pairscape.model.options import Rendering
from pairscape.pipeline.errors import InputError

MARGINS = {
    "even": np.full(32, 30),
    "mostly unexpressed": np.r_[900, np.full(31, 3)],
    "three values": np.r_[500, 100, np.zeros(29), 40],
    "one value beside none": np.r_[500, 20, np.zeros(30)],
    "always expressed": np.r_[0, np.full(31, 12)],
}


def counted(bin_a, bin_b, bins=32):
    """(1, bins, bins) images of cells, row = bin of gene b."""
    found, _, _ = np.histogram2d(bin_b, bin_a, bins=bins, range=[[0, bins], [0, bins]])
    return torch.tensor(found, dtype=torch.float32)[None]


@pytest.mark.parametrize("margin", MARGINS.values(), ids=MARGINS)
def test_functions_are_orthonormal_over_the_cells(margin):
    margin = torch.tensor(margin, dtype=torch.float32)[None]
    functions, share = rank_functions(margin), margin / margin.sum()
    found = (functions * share[:, None]) @ functions.mT
    there = found[0].diagonal() > 0.5  # a gene of few values has few functions
    expected = torch.diag(there.float())
    torch.testing.assert_close(found[0], expected, atol=2e-3, rtol=0)
    assert (functions * share[:, None]).sum(2).abs().max() < 1e-3
    assert int(there.sum()) == bool(margin[0, 0]) + min(DEGREE, int((margin[0, 1:] > 0).sum()) - 1)


def test_moments_of_independent_genes_have_mean_0_and_variance_1():
    rng = np.random.default_rng(0)
    images = torch.cat([counted(*(np.maximum(rng.integers(-20, 32, 400), 0) for _ in "ab")) for _ in range(600)])
    moments = rank_moments(images)
    assert moments.mean(0).abs().max() < 0.2
    assert (moments.std(0) - 1).abs().max() < 0.15


def test_a_gene_that_no_cell_expresses_has_moments_of_0():
    """It had none that are numbers, and one such pair of a batch broke a training off."""
    counts = torch.zeros(2, 16, 16)
    counts[:, :, 0] = torch.randint(0, 40, (2, 16))  # gene a is in no cell
    moments = rank_moments(counts)
    assert torch.isfinite(moments).all()
    assert moments[:, :, 1:].abs().max() == 0


def test_a_transposed_image_has_the_transposed_moments():
    rng = np.random.default_rng(1)
    image = torch.tensor(rng.integers(0, 5, (4, 32, 32)), dtype=torch.float32)
    torch.testing.assert_close(rank_moments(image.mT), rank_moments(image).mT, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sizes(image.mT), sizes(image) * torch.tensor(TURNED))
    torch.testing.assert_close(strength(image.mT), strength(image))


def test_strength_is_near_spearman_and_sees_a_u():
    rng = np.random.default_rng(2)
    a = rng.integers(0, 32, 2000)
    b = np.clip(a + rng.integers(-9, 10, 2000), 0, 31)
    assert float(strength(counted(a, b))) == pytest.approx(abs(spearmanr(a, b).statistic), abs=0.02)
    u = np.abs(2 * a - 31)
    assert abs(spearmanr(a, u).statistic) < 0.1
    assert float(strength(counted(a, u))) > 0.5


def test_beyond_doubt_strength_decides():
    odds = torch.tensor([-3.0, 2, CERTAIN, 20, 20, 400, 400])
    logits = torch.stack([-odds, torch.zeros(7), torch.full((7,), -50.0)], dim=1)
    close = torch.tensor([0.9, 0.9, 0.9, 0.1, 0.5, 0.1, 0.5])
    found = ordered_by_strength(logits, close)
    after = found[:, 1:].logsumexp(1) - found[:, 0]
    torch.testing.assert_close(after[:3], odds[:3])
    assert after[2] < after[3] < after[4]
    torch.testing.assert_close(after[3:5], after[5:], atol=1e-4, rtol=0)
    torch.testing.assert_close(found[:, 1:], logits[:, 1:])
    assert len(set(torch.sigmoid(after).tolist()[2:5])) == 3


def test_strength_alone_decides_soon_after_doubt_ends():
    odds = torch.tensor([CERTAIN + 0.5, CERTAIN + WHOLLY, CERTAIN + 3])
    found = ordered_by_strength(torch.stack([-odds, torch.zeros(3)], dim=1), torch.full((3,), 0.3))
    after = found[:, 1] - found[:, 0]
    assert CERTAIN < after[0] < after[1]
    torch.testing.assert_close(after[1:], torch.full((2,), CERTAIN + 0.3 * BEYOND))
    assert WHOLLY <= 1  # with a slower passage cells decided the order, and not strength (docs/universal.md)


def test_training_sees_the_evidence_without_an_end():
    torch.manual_seed(0)
    network = MomentNet(7)
    network.norm.eval()
    with torch.no_grad():
        network.head[-1].bias[1] = 40.0
    image = torch.tensor(np.random.default_rng(3).integers(0, 5, (4, 1, 32, 32)), dtype=torch.float32)
    assert (network(image)[:, 1] - network(image)[:, 0]).min() > 20
    network.eval()
    assert (network(image)[:, 1] - network(image)[:, 0]).max() < CERTAIN + BEYOND + 1


@pytest.mark.parametrize(
    "rendering",
    [Rendering(), Rendering("log"), Rendering("counts", sigma=1.0), Rendering("counts", drop_both_zero=True)],
    ids=["log and residual", "log", "smoothed", "without both zero"],
)
def test_pictures_that_hold_no_ranks_are_refused(rendering):
    with pytest.raises(InputError, match="--channels counts"):
        PairClassifier("momentnet", rendering, 32, 7, mirror=True)


@pytest.mark.parametrize("margin", [*MARGINS.values(), np.zeros(32)], ids=[*MARGINS, "no cell"])
def test_compiled_moments_are_those_of_torch(margin):
    rng = np.random.default_rng(4)
    others = [np.maximum(rng.integers(-20, 32, int(margin.sum())), 0) for _ in range(3)]
    bins = np.repeat(np.arange(32), margin.astype(int))
    images = torch.cat([image for other in others for image in (counted(bins, other), counted(other, bins))])
    moments, close, known = moments_and_strength(images.numpy(), DEGREE, SMALLEST_VARIANCE, UPWARD, NOT_MONOTONE)
    torch.testing.assert_close(torch.from_numpy(moments), rank_moments(images), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(close), strength(images), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(log_sizes(torch.from_numpy(known)), sizes(images), atol=1e-6, rtol=1e-6)
