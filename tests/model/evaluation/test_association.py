"""Statistics of dependence from an image are those of its cells, each counted by itself."""

import numpy as np
import pytest
from scipy.stats import rankdata

from pairscape.model.evaluation.association import KERNEL_WIDTH, distance_correlation, hsic

BRUTE = {distance_correlation: lambda apart: apart, hsic: lambda apart: np.exp(-((apart / KERNEL_WIDTH) ** 2) / 2)}


def drawn(n_cells, bins, seed):
    """A bin of each cell for two genes: half of the first unexpressed, the second falling and rising with it."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, bins, n_cells) * (rng.random(n_cells) < 0.6)
    b = np.abs(a - bins // 2) + rng.integers(0, bins // 2, n_cells)
    return a, np.minimum(b, bins - 1)


def counted(cells, bins):
    a, b = cells
    return np.histogram2d(b, a, bins=np.arange(bins + 1))[0][None].astype(np.uint32)


def likeness(bin_of_cell, kernel):
    """Of every pair of cells, (n, n): from their mid-ranks, less the means over rows and columns."""
    rank = rankdata(bin_of_cell) / bin_of_cell.size
    like = kernel(np.abs(rank[:, None] - rank))
    return like - like.mean(0) - like.mean(1)[:, None] + like.mean()


def over_cells(cells, kernel):
    a, b = (likeness(gene, kernel) for gene in cells)
    return (a * b).mean() / np.sqrt((a**2).mean() * (b**2).mean())


@pytest.mark.parametrize("statistic", list(BRUTE))
@pytest.mark.parametrize(("n_cells", "bins"), [(7, 4), (90, 8), (400, 32), (300, 5)])
def test_it_is_that_of_all_pairs_of_cells(statistic, n_cells, bins):
    many = [drawn(n_cells, bins, seed) for seed in range(3)]
    many += [(many[2][0], many[2][1][::-1]), (many[2][0], many[0][1])]  # another gene b of the same gene a
    found = statistic(np.concatenate([counted(cells, bins) for cells in many]))
    wanted = np.array([over_cells(cells, BRUTE[statistic]) for cells in many])
    root = np.sqrt(wanted) if statistic is distance_correlation else wanted
    np.testing.assert_allclose(found, root, rtol=1e-9)


@pytest.mark.parametrize("statistic", list(BRUTE))
def test_order_of_genes_and_direction_of_bins_do_not_matter_and_one_bin_tells_nothing(statistic):
    image = counted(drawn(200, 16, 0), 16)
    value = statistic(image)[0]
    assert 0.2 < value < 1
    for same in (image.transpose(0, 2, 1), image[:, ::-1], image[:, :, ::-1], np.pad(image, [(0, 0), (3, 1), (2, 2)])):
        assert statistic(same)[0] == pytest.approx(value, rel=1e-12)
    assert statistic(np.diag([50, 30, 20])[None])[0] == pytest.approx(1)
    only_one_bin = image.sum(axis=1, keepdims=True) * (np.arange(16) == 3)[:, None]
    assert statistic(only_one_bin)[0] == 0
    assert statistic(np.zeros((1, 4, 4)))[0] == 0


@pytest.mark.parametrize("statistic", list(BRUTE))
def test_a_gene_that_falls_and_rises_again_is_seen(statistic):
    image = counted(drawn(1000, 16, 1), 16)
    independent = np.random.default_rng(0).multinomial(
        1000, np.outer(image[0].sum(1), image[0].sum(0)).ravel() / 1e6, 50
    )
    assert statistic(image)[0] > 1.5 * statistic(independent.reshape(50, 16, 16)).max()
