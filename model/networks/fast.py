"""Scoring: a trained network as a fast function from joint counts to probabilities at the prior of the candidates.

What pays (`python -m benchmarks.scoring` prints each gain): batches that stay in the cache; a picture drawn once for a
pair and its mirror, as drawing commutes with transposition; normalisation folded into the layer before it; ReLU done in
place. All is float32, and every row is computed in a batch of one size. So scores have the same bytes for one
composition of batches on one machine, whatever the workers; in other company they agree to 1e-6.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from pairscape.model.networks.classifier import PairClassifier, TrainedNetwork, turned_labels
from pairscape.model.networks.device import choose_device
from pairscape.model.networks.momentnet import (
    DEGREE,
    NOT_MONOTONE,
    SMALLEST_VARIANCE,
    TURNED,
    UPWARD,
    MomentNet,
    log_scales,
    log_sizes,
    ordered_by_strength,
)
from pairscape.model.networks.moments import moments_and_strength, moments_within
from pairscape.model.networks.pairnet import PairNet, ResidualBlock
from pairscape.model.networks.prior import PriorCorrection
from pairscape.pipeline.heatmaps.strata import StratifiedMargins

# Pairs a batch, so that what the layers make of them stays in the caches: pairnet's maps are small, momentnet has none.
AT_ONCE, AT_ONCE_PAIRNET, AT_ONCE_MOMENTNET = 64, 256, 1024

Floats = NDArray[np.float32]
Probabilities = Callable[..., Tensor]


def prepare(classifier: PairClassifier, device: torch.device) -> Probabilities:
    """The fastest function of this device from counts to probabilities.

    (B, bins, bins) counts and (B,) both zeros, on the device, to (B, classes), as `PairClassifier.probabilities` within
    1e-5. It is a copy: later changes of the classifier do not reach it. On another device than the CPU, and where the
    network `knows_genes`, it is that very method, which then takes features of the genes too. On the CPU, a network
    that `compares_within` also takes the margins by stratum within which the two genes are compared.
    """
    if device.type != "cpu" or classifier.knows_genes:
        return classifier.probabilities
    return _Prepared(classifier)


class _Prepared(nn.Module):
    """See `prepare`."""

    def __init__(self, classifier: PairClassifier) -> None:
        super().__init__()
        network = copy.deepcopy(classifier.network).eval().requires_grad_(False)
        self.render, self.mirror = classifier.render, classifier.mirror
        self.turned = turned_labels(classifier.classes)
        self.at_once, self.network = _prepared(network)
        self.as_counted = isinstance(network, MomentNet) and self.render.leaves_counts
        self.eval()

    @torch.inference_mode()
    def forward(self, counts: Tensor, both_zero: Tensor, within: StratifiedMargins | None = None) -> Tensor:
        """(B, bins, bins) counts and (B,) both zeros to (B, classes) probabilities."""
        missing = -len(counts) % self.at_once  # rows of zeros: matrix products of another size may round otherwise
        counts = functional.pad(counts, (0, 0, 0, 0, 0, missing))
        both_zero = functional.pad(both_zero, (0, missing))
        margins = [()] * (len(counts) // self.at_once) if within is None else self._batches_of(within, missing)
        parts = zip(counts.split(self.at_once), both_zero.split(self.at_once), margins, strict=True)
        found = torch.cat([self._batch(image, zeros, *of_genes) for image, zeros, of_genes in parts])
        return found[: len(found) - missing]

    def _batches_of(self, within: StratifiedMargins, missing: int) -> Iterator[tuple[StratifiedMargins]]:
        within = within.pooled(self.render.pool).followed(missing)
        return ((within.take(slice(at, at + self.at_once)),) for at in range(0, within.row_a.size, self.at_once))

    def _batch(self, counts: Tensor, both_zero: Tensor, *within: StratifiedMargins) -> Tensor:
        image = counts[:, None] if self.as_counted else self.render(counts, both_zero)
        probability = self.network(image, self.mirror, *within).softmax(1)
        if not self.mirror:
            return probability
        straight, turned = probability.chunk(2)
        return (straight + turned[:, self.turned]) / 2


def _prepared(network: nn.Module) -> tuple[int, nn.Module]:
    """How many pairs a batch has, and a function of images and whether their mirrors are wanted too."""
    if isinstance(network, PairNet):
        return AT_ONCE_PAIRNET, _PreparedPairNet(network)
    if isinstance(network, MomentNet):
        return AT_ONCE_MOMENTNET, _PreparedMomentNet(network)
    return AT_ONCE, _PreparedSequence(network)


def _with_mirror(image: Tensor, mirror: bool) -> Tensor:
    """(B, C, K, K) images, and after them their mirrors if wanted; channels last."""
    both = torch.cat([image, image.mT]) if mirror else image
    return both.contiguous(memory_format=torch.channels_last)


class _PreparedSequence(nn.Module):
    """A network that is one layer after another."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, nn.Sequential):
            raise TypeError(
                f"{type(network).__name__} is no sequence of layers; model.networks.fast cannot prepare it."
            )
        self.layers = nn.Sequential(*_fused(list(network)))

    def forward(self, image: Tensor, mirror: bool) -> Tensor:
        """(B, C, K, K) images to (B, classes) logits, or (2 B, classes) with those of the mirrors."""
        logits: Tensor = self.layers(_with_mirror(image, mirror))
        return logits


def _fused(layers: list[nn.Module]) -> Iterator[nn.Module]:
    """Layers without dropout; a convolution takes the ReLU after it along."""
    layers = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, nn.Conv2d) and layers and isinstance(layers[0], nn.ReLU):
            layers.pop(0)
            yield _rectified(layer)
        else:
            yield layer


def _rectified(conv: nn.Conv2d) -> nn.Module:
    """A convolution and the ReLU on it."""
    return nn.Sequential(_channels_last(conv), nn.ReLU(inplace=True))


def _channels_last(conv: nn.Conv2d) -> nn.Conv2d:
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    return conv


class _PreparedMomentNet(nn.Module):
    """`MomentNet`: the mirror's moments are those of the pair, transposed, and its strength is the same."""

    def __init__(self, network: MomentNet) -> None:
        super().__init__()
        self.norm, self.head = network.norm, network.head
        self.turned = torch.tensor(TURNED)

    def forward(self, image: Tensor, mirror: bool, within: StratifiedMargins | None = None) -> Tensor:
        """(B, 1, K, K) cells to (B, classes) logits, or (2 B, classes) with those of the mirrors."""
        counts, rules = image[:, 0].contiguous().numpy(), (DEGREE, SMALLEST_VARIANCE, UPWARD, NOT_MONOTONE)
        made = moments_and_strength(counts, *rules) if within is None else moments_within(counts, within, *rules)
        moments, close, numbers = map(torch.from_numpy, made)
        known, scaled = log_sizes(numbers), log_scales(moments)
        if mirror:
            known, close = torch.cat([known, known * self.turned]), close.repeat(2)
            scaled = (torch.cat([scaled[0], scaled[0].mT]), torch.cat([scaled[1], scaled[1].mT]))
        features = torch.cat([*(of_pair.flatten(1) for of_pair in scaled), known], dim=1)
        return ordered_by_strength(self.head(self.norm(features)), close)


class _PreparedPairNet(nn.Module):
    """`PairNet`: the mirror's correlations are those of the pair, transposed."""

    def __init__(self, network: PairNet) -> None:
        super().__init__()
        self.scale, self.shift = _as_factor(network.norm_in)
        self.pool = network.pool
        self.stem = _rectified(fuse_conv_bn_eval(network.stem, network.norm_stem))
        self.block_1, self.block_2 = _PreparedBlock(network.block_1), _PreparedBlock(network.block_2)
        self.down = _rectified(fuse_conv_bn_eval(network.down, network.norm_down))
        _, linear, norm = network.dense
        assert isinstance(linear, nn.Linear)
        assert isinstance(norm, nn.BatchNorm1d)
        self.dense = fuse_linear_bn_eval(linear, norm)
        self.correlations, self.norm_features, self.head = network.correlations, network.norm_features, network.head

    def forward(self, image: Tensor, mirror: bool) -> Tensor:
        """(B, C, K, K) images to (B, classes) logits, or (2 B, classes) with those of the mirrors."""
        seen = self._see(self._halve(image, mirror))
        if self.correlations is not None:
            seen = torch.cat([self.norm_features(self._correlate(image[:, 0], mirror)), seen], dim=1)
        logits: Tensor = self.head(seen)
        return logits

    def _halve(self, image: Tensor, mirror: bool) -> Tensor:
        """`PairNet.halve` of `PairNet.norm_in`, (B, C, H, H), and after them their mirrors if wanted; channels last."""
        side = -(-image.shape[2] // 2)
        halved = torch.empty(len(image) * (1 + mirror), side, side, image.shape[1])
        _halve_images(image.numpy(), self.scale, self.shift, mirror, halved.numpy())
        return halved.permute(0, 3, 1, 2)

    def _see(self, x: Tensor) -> Tensor:
        """Halved (B, C, H, H) images to (B, hidden) features of the picture."""
        x = self.block_2(self.down(self.block_1(self.stem(x))))
        features: Tensor = self.dense(self.pool(x).flatten(1))
        return features

    def _correlate(self, log_density: Tensor, mirror: bool) -> Tensor:
        """(B, K, K) images of the ``log`` channel to (B, 2 k k) features."""
        assert self.correlations is not None
        density = (torch.exp((log_density - 1) * (4 * math.log(10))) - 1e-4).clamp_min(0)
        correlation = self.correlations.of_density(density)  # (B, k, k)
        if mirror:
            correlation = torch.cat([correlation, correlation.mT])
        return self.correlations.signed_and_absolute(correlation)


def _as_factor(norm: nn.BatchNorm2d) -> tuple[Floats, Floats]:
    """The factor and the summand of each channel in a trained normalisation."""
    shift = norm(torch.zeros(1, norm.num_features, 1, 1)).flatten()
    return (norm(torch.ones(1, norm.num_features, 1, 1)).flatten() - shift).numpy(), shift.numpy()


@numba.njit(nogil=True, cache=True)
def _halve_images(image: Floats, scale: Floats, shift: Floats, mirror: bool, halved: Floats) -> None:
    """Means of 2 x 2 bins, at the far edges of those there are, (B, C, K, K) to (B or 2 B, H, H, C)."""
    n, channels, bins, _ = image.shape
    for i in range(n):
        for c in range(channels):
            for r in range(halved.shape[1]):
                for s in range(halved.shape[2]):
                    below, right = min(2 * r + 1, bins - 1), min(2 * s + 1, bins - 1)
                    above = image[i, c, 2 * r, 2 * s] + image[i, c, 2 * r, right]
                    value = above + image[i, c, below, 2 * s] + image[i, c, below, right]
                    value = value * np.float32(0.25) * scale[c] + shift[c]
                    halved[i, r, s, c] = value
                    if mirror:
                        halved[n + i, s, r, c] = value


class _PreparedBlock(nn.Module):
    """`ResidualBlock`."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.first = _rectified(fuse_conv_bn_eval(block.conv_1, block.norm_1))
        self.second = _channels_last(fuse_conv_bn_eval(block.conv_2, block.norm_2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, W, H, H) to the same shape."""
        return self.second(self.first(x)).add_(x).relu_()


def _as_int32(counts: NDArray[np.integer]) -> Tensor:
    """The same numbers, without a copy where they have 32 bits: no image holds 2**31 cells."""
    return torch.from_numpy(counts.view(np.int32) if counts.dtype == np.uint32 else counts.astype(np.int32))


SENT_AT_ONCE = 1024  # images sent to the device at a time; on a CPU they are scored in smaller batches


@dataclass(frozen=True, eq=False)
class Scorer:
    """A classifier on its device, the correction of its training, and the prior of the pairs to score."""

    classifier: PairClassifier
    device: torch.device
    correction: PriorCorrection
    prior: float

    @classmethod
    def of(cls, network: TrainedNetwork, prior: float, device: str) -> "Scorer":
        """A trained network, ready to score; InputError where the device is not there."""
        chosen = choose_device(device)
        return cls(network.classifier.to(chosen), chosen, network.facts.correction, prior)

    def __call__(
        self,
        counts: NDArray[np.integer],
        both_zero: NDArray[np.integer],
        genes: Callable[[slice], NDArray[np.float32]] | None = None,
        within: StratifiedMargins | None = None,
    ) -> NDArray[np.float64]:
        """Class probabilities at the prior, (P, classes), of counts (P, bins, bins) and both zeros (P,).

        `genes` is for a network that `knows_genes`: a slice of the pairs to features of their genes, (B, 2, F).
        `within` is for one that `compares_within`, on the CPU: the margins by stratum of the pairs.
        """
        found = []
        with torch.inference_mode():
            for start in range(0, len(counts), SENT_AT_ONCE):
                some = slice(start, start + SENT_AT_ONCE)
                image, zeros = (_as_int32(part[some]).to(self.device) for part in (counts, both_zero))
                beside: tuple[Any, ...] = () if genes is None else (torch.from_numpy(genes(some)).to(self.device),)
                beside = beside if within is None else (within.take(some),)
                found.append(self.probabilities(image, zeros, *beside).cpu().numpy())
        return self.correction.corrected(np.concatenate(found), self.prior)

    @cached_property
    def probabilities(self) -> Probabilities:
        """Counts and both zeros to class probabilities as trained."""
        return prepare(self.classifier, self.device)
