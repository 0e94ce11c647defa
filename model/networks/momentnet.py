"""Momentnet, the network for all matrices: a dense network on the rank moments of a pair.

The joint distribution of two genes is written as its moments over functions of either gene's ranks: whether the gene is
expressed, and Legendre polynomials of the rank among the cells that express it. These functions are orthonormal under
the gene's own margin, so each moment of independent genes has mean 0 and variance 1 whatever the genes, the cells and
the rule of binning: they are score statistics of smooth tests of independence (Neyman 1937). Spearman's correlation is
a sum of four of them; a U-shape, an exclusion or opposite slopes in two groups of cells are others. The dense layers
weigh them, knowing how many cells there are and how many express each gene.

No weight is learned before the dense layers, and 32 x 32 counts become 36 numbers: it is quick to train and to score.

The evidence for a dependence has no end: with many cells most pairs of interest are beyond doubt, and which of them has
more cells to its name says little. So log-odds end at CERTAIN; beyond, pairs are ordered by the strength of their
dependence.
"""

import torch
from torch import Tensor, nn

DEGREE = 5  # of the polynomials; with 4 to 8 validation scores are the same
HIDDEN = 128
SMALLEST_VARIANCE = 1e-4  # of a polynomial that what comes before it does not explain: below, it adds rounding alone
CERTAIN = 6.0  # log-odds of a dependence from which strength decides: 0.9975 where half of the pairs depend
WHOLLY = 1.0  # log-odds beyond that from which strength alone does
BEYOND = 6.0  # log-odds that the full strength, 1, is above that
UPWARD = 0.15  # weight of the squared rank: the cells that express most say a little more than the others
NOT_MONOTONE = 0.6  # of one gene's rank with the other's distance from the middle
TURNED = (1, 1, 1, -1, 1, 1, -1, 1, 1)  # signs of the `sizes` of a transposed image
SIZES = len(TURNED)  # numbers that say how many cells there are and how many express each gene


def rank_functions(margin: Tensor) -> Tensor:
    """Functions of a gene's bin, (B, K) cells in each bin to (B, DEGREE + 1, K), orthonormal over the cells.

    The first tells the cells of the lowest bin, which are those that do not express the gene, from the others; the
    next are polynomials of degree 1 to DEGREE of the mid-rank among the others, 0 in the lowest bin. Where a gene has
    too few different values for a polynomial, that one is 0.
    """
    share = margin / margin.sum(1, keepdim=True).clamp_min(1)
    above = torch.ones_like(share)
    above[:, 0] = 0
    expressed = (share * above).sum(1, keepdim=True)  # (B, 1)
    indicator = above - expressed
    found = [indicator * torch.rsqrt((indicator.square() * share).sum(1, keepdim=True) + 1e-9)]
    rank = ((2 * (share * above).cumsum(1) - share) / expressed.clamp_min(1e-9) - 1) * above
    before = [above * torch.rsqrt(expressed.clamp_min(1e-9))]
    for polynomial in _legendre(rank):
        rest = polynomial * above
        for earlier in before:
            rest = rest - (rest * earlier * share).sum(1, keepdim=True) * earlier
        variance = (rest.square() * share).sum(1, keepdim=True)
        scale = torch.where(variance > SMALLEST_VARIANCE * expressed, torch.rsqrt(variance.clamp_min(1e-12)), 0)
        before.append(rest * scale)
    return torch.stack(found + before[1:], dim=1)


def _legendre(x: Tensor) -> list[Tensor]:
    """Legendre polynomials of degree 1 to DEGREE."""
    found = [torch.ones_like(x), x]
    for k in range(1, DEGREE):
        found.append(((2 * k + 1) * x * found[k] - k * found[k - 1]) / (k + 1))
    return found[1:]


def rank_moments(counts: Tensor) -> Tensor:
    """Moments of pairs, (B, K, K) cells to (B, m, m), in standard deviations of independent genes; row = gene b."""
    cells = counts.sum((1, 2))[:, None, None].clamp_min(1)
    of_a, of_b = rank_functions(counts.sum(1)), rank_functions(counts.sum(2))
    return of_b @ (counts * torch.rsqrt(cells)) @ of_a.mT


def sizes(counts: Tensor) -> Tensor:
    """How many cells there are and how many express each gene, on a log scale, (B, K, K) cells to (B, SIZES)."""
    of_a, of_b = counts.sum(1), counts.sum(2)
    filled = [(margin[:, 1:] > 0).sum(1) for margin in (of_a, of_b)]
    return log_sizes(torch.stack([of_a.sum(1), of_a[:, 0], of_b[:, 0], filled[0] * filled[1]], dim=1))


def log_sizes(known: Tensor) -> Tensor:
    """The same from numbers (B, 4): cells, those without gene a, those without b, filled bins of a times those of b."""
    cells, zeros_a, zeros_b, filled = known.unbind(1)
    log = cells.clamp_min(1).log()
    with_a, with_b = ((cells - zeros).clamp_min(1).log() for zeros in (zeros_a, zeros_b))
    without_a, without_b = ((zeros + 1).log() for zeros in (zeros_a, zeros_b))
    shares = [1 - zeros / cells.clamp_min(1) for zeros in (zeros_a, zeros_b)]
    return torch.stack([
        log, with_a + with_b, (with_a - with_b).abs(), with_a - with_b, with_a + with_b - log, without_a + without_b,
        without_a - without_b, shares[0] * shares[1], filled / 100,
    ], dim=1)  # fmt: skip


class MomentNet(nn.Module):
    """A dense network on rank moments.

    Parameters
    ----------
    classes
        Number of classes.
    hidden
        Width of both hidden layers.
    """

    def __init__(self, classes: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        features = 2 * (DEGREE + 1) ** 2 + SIZES
        self.norm = nn.BatchNorm1d(features)
        self.head = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, K, K) counts of the channel `counts` to (B, classes) logits; in training, evidence has no end."""
        logits: Tensor = self.head(self.features(x))
        return logits if self.training else ordered_by_strength(logits, strength(x[:, 0]))

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, K, K) counts to (B, F) features of the pair, normalised."""
        with torch.autocast(x.device.type, enabled=False):  # 8 bits are no precision for a rank statistic
            counts = x[:, 0].float()
            features: Tensor = self.norm(moment_features(rank_moments(counts), sizes(counts)))
        return features


def moment_features(moments: Tensor, known: Tensor) -> Tensor:
    """Moments (B, m, m), signed and squared on log scales, and sizes (B, SIZES), to (B, F)."""
    return torch.cat([*(scaled.flatten(1) for scaled in log_scales(moments)), known], dim=1)


def log_scales(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Moments, and their squares, on log scales, in their shape."""
    return moments.sign() * moments.abs().log1p(), moments.square().log1p()


# ---------------------------------------------------------------- beyond certainty


def strength(counts: Tensor) -> Tensor:
    """How closely two genes go together, 0 to 1, (B, K, K) cells to (B,): the largest of some correlations of ranks."""
    share = counts / counts.sum((1, 2), keepdim=True).clamp_min(1)
    of_a, of_b = _standard_scores(share.sum(1)), _standard_scores(share.sum(2))
    correlation = (of_b @ share @ of_a.mT).abs()  # (B, 2, 2)
    weights = correlation.new_tensor([[1, NOT_MONOTONE], [NOT_MONOTONE, NOT_MONOTONE]])
    return (correlation * weights).amax((1, 2))


def _standard_scores(share: Tensor) -> Tensor:
    """Rank, and distance from the middle, of each bin, standardised over the cells: (B, K) to (B, 2, K)."""
    rank = share.cumsum(1) - share / 2
    scores = torch.stack([rank + UPWARD * rank.square(), (rank - 0.5).square()], dim=1)
    scores = scores - (scores * share[:, None]).sum(2, keepdim=True)
    return scores * torch.rsqrt((scores.square() * share[:, None]).sum(2, keepdim=True) + 1e-9)


def ordered_by_strength(logits: Tensor, strength: Tensor) -> Tensor:
    """Logits (B, classes) whose log-odds of a dependence end at CERTAIN, and rise from there by `strength` (B,)."""
    odds = logits[:, 1:].logsumexp(1) - logits[:, 0]
    excess = (odds - CERTAIN).clamp_min(0)
    raised = excess - BEYOND * strength * (excess / WHOLLY).clamp_max(1)
    return torch.cat([logits[:, :1] + raised[:, None], logits[:, 1:]], dim=1)
