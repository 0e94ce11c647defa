"""A trained classifier made ready for predictions on the CPU: the same probabilities, in a fraction of the time.

What pays (`python -m benchmarks.scoring` prints each gain): batches that stay in the cache; a picture drawn once for a
pair and its mirror, as drawing commutes with transposition; normalisation folded into the layer before it; ReLU, and
pooling, done where a convolution leaves its result; and for wide 3 x 3 convolutions `model.networks.winograd`. All is
float32, and every row is computed in a batch of one size, so that a score depends neither on its neighbours nor on the
workers.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from pairscape.model.networks.classifier import PairClassifier, turned_labels
from pairscape.model.networks.pairnet import PairNet, ResidualBlock

# Pairs a batch, so that what the layers make of them stays in the caches: pairnet's maps are small.
AT_ONCE, AT_ONCE_PAIRNET = 64, 256

Floats = NDArray[np.float32]
Probabilities = Callable[..., Tensor]


def prepare(classifier: PairClassifier, device: torch.device) -> Probabilities:
    """The fastest way that this device knows from counts to probabilities.

    Parameters
    ----------
    classifier
        On the device, in evaluation mode. What is done to it afterwards does not reach what was made of it.

    Returns
    -------
    Callable
        (B, bins, bins) counts and (B,) both zeros, on the device, to (B, classes) probabilities, as
        `PairClassifier.probabilities` does within 1e-5. On another device than the CPU, and where the network
        `knows_genes`, it is that very method, which then takes what is known of the genes too.
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
        small = isinstance(network, PairNet)
        self.at_once = AT_ONCE_PAIRNET if small else AT_ONCE
        self.network = _PreparedPairNet(network) if small else _PreparedSequence(network)
        self.eval()

    @torch.inference_mode()
    def forward(self, counts: Tensor, both_zero: Tensor) -> Tensor:
        """(B, bins, bins) counts and (B,) both zeros to (B, classes) probabilities."""
        missing = -len(counts) % self.at_once  # rows of zeros: matrix products of another size may round otherwise
        counts = functional.pad(counts, (0, 0, 0, 0, 0, missing))
        both_zero = functional.pad(both_zero, (0, missing))
        parts = zip(counts.split(self.at_once), both_zero.split(self.at_once), strict=True)
        found = torch.cat([self._batch(*part) for part in parts])
        return found[: len(found) - missing]

    def _batch(self, counts: Tensor, both_zero: Tensor) -> Tensor:
        image = self.render(counts, both_zero)
        probability = self.network(image, self.mirror).softmax(1)
        if not self.mirror:
            return probability
        straight, turned = probability.chunk(2)
        return (straight + turned[:, self.turned]) / 2


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
                f"{type(network).__name__} is no sequence of layers; teach model.networks.fast to prepare it."
            )
        self.layers = nn.Sequential(*_fused(list(network)))

    def forward(self, image: Tensor, mirror: bool) -> Tensor:
        """(B, C, K, K) images to (B, classes) logits, or (2 B, classes) with those of the mirrors."""
        logits: Tensor = self.layers(_with_mirror(image, mirror))
        return logits


def _fused(layers: list[nn.Module]) -> Iterator[nn.Module]:
    """Layers without dropout; a convolution takes the ReLU and the pooling after it along."""
    layers = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
    while layers:
        layer = layers.pop(0)
        if not (isinstance(layer, nn.Conv2d) and layers and isinstance(layers[0], nn.ReLU)):
            yield layer
            continue
        layers.pop(0)
        pools = bool(layers) and isinstance(layers[0], nn.MaxPool2d) and WinogradConv.suits(layer)
        if pools:
            layers.pop(0)
        yield _rectified(layer, halve=pools)


def _rectified(conv: nn.Conv2d, halve: bool = False) -> nn.Module:
    """A convolution and the ReLU on it, and 2 x 2 pooling if it is done by Winograd's way."""
    if WinogradConv.suits(conv):
        return WinogradConv(conv, halve)
    return nn.Sequential(_channels_last(conv), nn.ReLU(inplace=True))


def _channels_last(conv: nn.Conv2d) -> nn.Conv2d:
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    return conv


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
    """What a trained normalisation multiplies each channel with, and then adds."""
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
        second = fuse_conv_bn_eval(block.conv_2, block.norm_2)
        self.winograd = WinogradConv.suits(second)
        self.second = WinogradConv(second) if self.winograd else _channels_last(second)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W, H, H) to the same shape."""
        if self.winograd:
            return self.second(self.first(x), x)
        return self.second(self.first(x)).add_(x).relu_()


# 3 x 3 convolutions on the CPU by Winograd's minimal filtering: a quarter of the multiplications.
#
# A tile of 4 x 4 outputs comes of 6 x 6 inputs. Both are carried into a basis in which the convolution is a product at
# each of 36 places; over all tiles and channels these are 36 products of matrices, which the CPU's library does near
# the machine's peak. Source: Lavin & Gray, Fast algorithms for convolutional neural networks, CVPR 2016, F(4x4, 3x3);
# the bases are those of the points 0, ±1, ±2 and infinity. In float32 results differ from the direct sum by some 1e-6
# of the largest value.

TILE = 4  # side length of the outputs of a tile
MOST_TILES = 256  # at once, so that what is made of them stays in the cache
FEWEST_CHANNELS = 32  # below, the matrices are too thin to be worth the change of basis (measured: of 16)

_KERNEL_BASIS = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24


class WinogradConv(nn.Module):
    """A trained convolution that `suits`, with its bias, followed by ReLU: for predictions only.

    Parameters
    ----------
    conv
        3 x 3, stride 1, padding 0 or more.
    halve
        Whether the largest of 2 x 2 is taken after the ReLU; a last odd row or column is left out, as pooling does.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, halve: bool = False) -> None:
        super().__init__()
        self.padding, self.halve = int(conv.padding[0]), halve
        kernel = conv.weight.detach().double().numpy()  # (O, C, 3, 3)
        changed = np.einsum("ir,ocrs,js->ijco", _KERNEL_BASIS, kernel, _KERNEL_BASIS)
        self.register_buffer("weight", torch.from_numpy(changed.reshape(36, *changed.shape[2:])).float())  # (36, C, O)
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
        self.register_buffer("bias", bias)

    @staticmethod
    def suits(conv: nn.Module) -> bool:
        """Whether it is a convolution that can be done, and is worth doing, this way."""
        return (
            isinstance(conv, nn.Conv2d)
            and (conv.kernel_size, conv.stride, conv.dilation, conv.groups) == ((3, 3), (1, 1), (1, 1), 1)
            and isinstance(conv.padding, tuple)
            and conv.padding[0] == conv.padding[1]
            and conv.padding_mode == "zeros"
            and min(conv.in_channels, conv.out_channels) >= FEWEST_CHANNELS
        )

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """(B, C, H, W) float32 to (B, O, H', W'), channels last; `beside` (B, O, H', W') is added before the ReLU."""
        image = _nhwc(x)  # (B, H, W, C)
        height, width = (side + 2 * self.padding - 2 for side in image.shape[1:3])
        step = 2 if self.halve else 1
        result = torch.empty(len(x), height // step, width // step, self.bias.numel())
        other = result.numpy() if beside is None else _nhwc(beside)
        tiles = tuple(-(-(side // step * step) // TILE) for side in (height, width))
        at_once = max(MOST_TILES // (tiles[0] * tiles[1]), 1)
        for start in range(0, len(x), at_once):
            part = slice(start, start + at_once)
            self._convolve(image[part], other[part], beside is not None, tiles, result[part].numpy())
        return result.permute(0, 3, 1, 2)

    def _convolve(self, image: Floats, beside: Floats, add: bool, tiles: tuple[int, ...], result: Floats) -> None:
        number = len(image) * tiles[0] * tiles[1]
        windows = torch.empty(36, number | 1, image.shape[3])  # odd: 36 rows a power of two apart share a cache line
        windows[:, number:] = 0
        to_windows(image, self.padding, *tiles, windows.numpy())
        products = torch.bmm(windows, self.weight).numpy()  # (36, tiles, O)
        from_products(products, self.bias.numpy(), beside, add, self.halve, *tiles, result)


def _nhwc(x: Tensor) -> Floats:
    """(B, C, H, W) to (B, H, W, C), without a copy of what is channels last in memory."""
    return np.asarray(x.permute(0, 2, 3, 1).contiguous().numpy())


compiled: Any = numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"})


@compiled
def to_windows(image: Floats, padding: int, down: int, across: int, windows: Floats) -> None:
    """(B, H, W, C) images to their windows in the new basis, (36, B * down * across or more, C)."""
    n, height, width, channels = image.shape
    four, five, two = np.float32(4), np.float32(5), np.float32(2)
    x, half = np.empty((6, 6, channels), np.float32), np.empty((6, 6, channels), np.float32)
    for tile in range(n * down * across):
        i, top, left = tile // (down * across), tile // across % down * 4 - padding, tile % across * 4 - padding
        for r in range(6):
            for s in range(6):
                if 0 <= top + r < height and 0 <= left + s < width:
                    for c in range(channels):
                        x[r, s, c] = image[i, top + r, left + s, c]
                else:
                    for c in range(channels):
                        x[r, s, c] = np.float32(0)
        for s in range(6):
            for c in range(channels):
                even, odd = x[4, s, c] - four * x[2, s, c], x[3, s, c] - four * x[1, s, c]
                even_2, odd_2 = x[4, s, c] - x[2, s, c], two * (x[3, s, c] - x[1, s, c])
                half[0, s, c] = four * x[0, s, c] - five * x[2, s, c] + x[4, s, c]
                half[1, s, c] = even + odd
                half[2, s, c] = even - odd
                half[3, s, c] = even_2 + odd_2
                half[4, s, c] = even_2 - odd_2
                half[5, s, c] = four * x[1, s, c] - five * x[3, s, c] + x[5, s, c]
        for r in range(6):
            for c in range(channels):
                even, odd = half[r, 4, c] - four * half[r, 2, c], half[r, 3, c] - four * half[r, 1, c]
                even_2, odd_2 = half[r, 4, c] - half[r, 2, c], two * (half[r, 3, c] - half[r, 1, c])
                windows[6 * r, tile, c] = four * half[r, 0, c] - five * half[r, 2, c] + half[r, 4, c]
                windows[6 * r + 1, tile, c] = even + odd
                windows[6 * r + 2, tile, c] = even - odd
                windows[6 * r + 3, tile, c] = even_2 + odd_2
                windows[6 * r + 4, tile, c] = even_2 - odd_2
                windows[6 * r + 5, tile, c] = four * half[r, 1, c] - five * half[r, 3, c] + half[r, 5, c]


@compiled
def from_products(
    products: Floats, bias: Floats, beside: Floats, add: bool, halve: bool, down: int, across: int, result: Floats
) -> None:
    """(36, tiles, O) products to (B, H, W, O) results: back to pictures, bias, ReLU, and pooled if wanted."""
    n, height, width, channels = result.shape
    two, four, eight, zero = np.float32(2), np.float32(4), np.float32(8), np.float32(0)
    half, y = np.empty((4, 6, channels), np.float32), np.empty((4, 4, channels), np.float32)
    side = 2 if halve else 4
    for tile in range(n * down * across):
        i, top, left = tile // (down * across), tile // across % down * side, tile % across * side
        for s in range(6):
            for c in range(channels):
                x1, x2 = products[6 + s, tile, c], products[12 + s, tile, c]
                x3, x4 = products[18 + s, tile, c], products[24 + s, tile, c]
                even, odd, even_2, odd_2 = x1 + x2, x1 - x2, x3 + x4, x3 - x4
                half[0, s, c] = products[s, tile, c] + even + even_2
                half[1, s, c] = odd + two * odd_2
                half[2, s, c] = even + four * even_2
                half[3, s, c] = odd + eight * odd_2 + products[30 + s, tile, c]
        for r in range(4):
            for c in range(channels):
                even, odd = half[r, 1, c] + half[r, 2, c], half[r, 1, c] - half[r, 2, c]
                even_2, odd_2 = half[r, 3, c] + half[r, 4, c], half[r, 3, c] - half[r, 4, c]
                y[r, 0, c] = half[r, 0, c] + even + even_2 + bias[c]
                y[r, 1, c] = odd + two * odd_2 + bias[c]
                y[r, 2, c] = even + four * even_2 + bias[c]
                y[r, 3, c] = odd + eight * odd_2 + half[r, 5, c] + bias[c]
        for r in range(min(side, height - top)):
            for s in range(min(side, width - left)):
                for c in range(channels):
                    if halve:
                        upper = _larger(y[2 * r, 2 * s, c], y[2 * r, 2 * s + 1, c])
                        lower = _larger(y[2 * r + 1, 2 * s, c], y[2 * r + 1, 2 * s + 1, c])
                        value = _larger(upper, lower)
                    elif add:
                        value = y[r, s, c] + beside[i, top + r, left + s, c]
                    else:
                        value = y[r, s, c]
                    result[i, top + r, left + s, c] = _larger(value, zero)


@compiled
def _larger(a: float, b: float) -> float:
    """The larger one; not a number if one is none, as torch has it: a network that blew up should show it."""
    return b if b > a or b != b else a
