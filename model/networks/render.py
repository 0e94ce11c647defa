"""Rendering: joint counts to image channels; pool, smooth, then log density and independence residual.

The image store holds raw counts. What can be chosen about the picture is chosen here, on the training device, so that
another sigma, bin size or channel never recomputes a heatmap.
"""

import math

import torch
from torch import Tensor, nn

from pairscape.pipeline.errors import InputError

CHANNELS: dict[str, tuple[str, ...]] = {
    "log": ("log",),
    "residual": ("residual",),
    "log+residual": ("log", "residual"),
    "counts": ("counts",),
}

_TRUNCATE = 4.0  # scipy.ndimage.gaussian_filter's default: the kernel ends at this many sigmas
_LOG_FLOOR = 1e-4  # CNNC's pseudo-density: log10 of it is -4, which the scaling below maps to 0
_EXPECTED_FLOOR = 0.25  # keeps the residual of an (almost) impossible bin finite


def smoothing_matrix(bins: int, sigma: float) -> Tensor:
    """One-dimensional Gaussian smoothing with reflected edges, as a matrix: (K, K) float64, rows and columns sum to 1.

    ``S @ X @ S.T`` equals ``scipy.ndimage.gaussian_filter(X, sigma)``, also where the kernel is wider than the image
    and has to be reflected several times, which torch's own padding refuses. `sigma` is in bins; 0 gives the identity.
    """
    if sigma == 0:
        return torch.eye(bins, dtype=torch.float64)
    radius = int(_TRUNCATE * sigma + 0.5)
    offset = torch.arange(-radius, radius + 1)
    weight = torch.exp(-0.5 * (offset.double() / sigma) ** 2)
    # Edge samples repeat (d c b a | a b c d | d c b a), so positions have period 2K.
    source = (torch.arange(bins)[:, None] + offset).remainder(2 * bins)
    source = torch.minimum(source, 2 * bins - 1 - source)
    matrix = torch.zeros(bins, bins, dtype=torch.float64)
    return matrix.scatter_add_(1, source, (weight / weight.sum()).expand(bins, -1))


def log_density(counts: Tensor) -> Tensor:
    """Density as CNNC draws it, but with the image's true number of cells: (B, K, K) cells to (B, K, K), no unit.

    ``(log10(count / n + 1e-4) + 4) / 4``: 0 in an empty bin, 1 in a bin that holds every cell. Source: Yuan &
    Bar-Joseph, PNAS 116:27151 (2019), whose code divides by one data set's cell number, 43261.
    """
    cells = counts.sum((1, 2), keepdim=True).clamp_min(1.0)
    return (torch.log10(counts / cells + _LOG_FLOOR) + 4) / 4


def independence_residual(counts: Tensor) -> Tensor:
    """Dependence: the counts without both marginals, (B, K, K) cells to (B, K, K) in standard deviations.

    ``(count - expected) / sqrt(expected + 0.25)`` with ``expected = row sum * column sum / n``, the count that two
    independent genes with these marginals would have. About unit variance in a well-filled bin of an independent pair.
    """
    rows = counts.sum(2, keepdim=True)
    columns = counts.sum(1, keepdim=True)
    cells = columns.sum(2, keepdim=True).clamp_min(1.0)
    expected = rows * columns / cells
    return (counts - expected) * torch.rsqrt(expected + _EXPECTED_FLOOR)


class Render(nn.Module):
    """Raw joint counts to the channels of a network. Fixed arithmetic: no parameter, no state.

    The steps run in this order: pool, drop, smooth, channels. n in the channels' formulas is the sum of the image as it
    stands after the first three.

    Parameters
    ----------
    bins
        Side length K of the stored images.
    channels
        ``log``: density. ``residual``: dependence. ``log+residual``: both. ``counts``: the counts unscaled, which
        reproduces how the original failed.
    pool
        Bins summed along each axis: 2 turns 64 bins into 32.
    sigma
        Standard deviation of the Gaussian smoothing, in bins after pooling; 0: none.
    drop_both_zero
        Subtract the cells in which neither gene is expressed; all of them lie in bin (0, 0).

    Raises
    ------
    ValueError
        `pool` is below 1 or does not divide `bins`, or `sigma` is negative or not finite.
    InputError
        `channels` is none of the four names.
    """

    smooth: Tensor

    def __init__(
        self,
        bins: int,
        *,
        channels: str = "log+residual",
        pool: int = 1,
        sigma: float = 0.0,
        drop_both_zero: bool = False,
    ) -> None:
        super().__init__()
        if channels not in CHANNELS:
            raise InputError(
                f"channels {channels!r} is unknown, so no image can be drawn; choose one of {', '.join(CHANNELS)}."
            )
        if pool < 1 or bins % pool:
            raise ValueError(
                f"pool {pool} does not divide {bins} bins, so some bins would be lost; choose a divisor of {bins}."
            )
        if not (math.isfinite(sigma) and sigma >= 0):
            raise ValueError(f"sigma {sigma} is no width; choose 0 (no smoothing) or more, in bins.")
        self.channels = channels
        self.pool = pool
        self.sigma = sigma
        self.drop_both_zero = drop_both_zero
        self.out_channels = len(CHANNELS[channels])
        self.out_bins = bins // pool
        # Not persistent: the matrix follows from the configuration, and a checkpoint should hold learned weights only.
        self.register_buffer("smooth", smoothing_matrix(self.out_bins, sigma).float(), persistent=False)

    @property
    def leaves_counts(self) -> bool:
        """Whether what is drawn are the very counts."""
        return self.channels == "counts" and self.pool == 1 and self.sigma == 0 and not self.drop_both_zero

    def forward(self, counts: Tensor, both_zero: Tensor | None = None) -> Tensor:
        """Counts (B, K, K), row = bin of gene b, column = bin of gene a, to (B, C, K // pool, K // pool) float32.

        `both_zero` (B,), cells in which neither gene is expressed, is required with `drop_both_zero` (else ValueError).
        """
        image = counts.to(torch.float32)  # (B, K, K)
        if self.pool > 1:
            side, pool = self.out_bins, self.pool
            image = image.reshape(-1, side, pool, side, pool).sum((2, 4))  # (B, K/p, K/p)
        if self.drop_both_zero:
            image = self._without_both_zero(image, both_zero)
        if self.sigma > 0:
            image = self.smooth @ image @ self.smooth.T
        drawn = {"log": log_density, "residual": independence_residual, "counts": torch.Tensor.float}
        images = [drawn[name](image) for name in CHANNELS[self.channels]]
        return torch.stack(images, dim=1) if len(images) > 1 else images[0][:, None]  # (B, C, K/p, K/p)

    def _without_both_zero(self, image: Tensor, both_zero: Tensor | None) -> Tensor:
        if both_zero is None:
            raise ValueError("drop_both_zero needs both_zero, the number of cells to drop per image; pass it along.")
        image = image.clone()  # the caller's counts may be this very tensor when they came as float32 and unpooled
        image[:, 0, 0] -= both_zero.to(image)
        return image
