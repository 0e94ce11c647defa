"""3 x 3 convolutions on the CPU by Winograd's minimal filtering: a quarter of the multiplications.

A tile of 4 x 4 outputs comes of 6 x 6 inputs. Both are carried into a basis in which the convolution is a product at
each of 36 places; over all tiles and channels these are 36 products of matrices, which the CPU's library does near the
machine's peak. Source: Lavin & Gray, Fast algorithms for convolutional neural networks, CVPR 2016, F(4x4, 3x3); the
bases are those of the points 0, ±1, ±2 and infinity. In float32 results differ from the direct sum by some 1e-6 of the
largest value.
"""

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

TILE = 4  # side length of the outputs of a tile
MOST_TILES = 256  # at once, so that what is made of them stays in the cache
FEWEST_CHANNELS = 32  # below, the matrices are too thin to be worth the change of basis (measured: of 16)

_KERNEL_BASIS = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24

Floats = NDArray[np.float32]


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
        image = _channels_last(x)  # (B, H, W, C)
        height, width = (side + 2 * self.padding - 2 for side in image.shape[1:3])
        step = 2 if self.halve else 1
        result = torch.empty(len(x), height // step, width // step, self.bias.numel())
        other = result.numpy() if beside is None else _channels_last(beside)
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


def _channels_last(x: Tensor) -> Floats:
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
