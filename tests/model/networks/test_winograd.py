"""Winograd's convolutions are the direct ones, for every size of the picture, padding and thing that follows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pairscape.model.networks.fast import MOST_TILES, WinogradConv


def conv_of(channels, padding, seed=0):
    torch.manual_seed(seed)
    return nn.Conv2d(channels, 2 * channels, 3, padding=padding).requires_grad_(False)


def direct(conv, x, halve=False, beside=0.0):
    y = (conv.double()(x.double()) + beside).relu()
    conv.float()
    return nn.functional.max_pool2d(y, 2) if halve else y


def assert_alike(found, wanted):
    assert found.shape == wanted.shape
    assert (found.double() - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(4, 21),
    st.integers(4, 21),
    st.integers(0, 1),
    st.booleans(),
    st.sampled_from([8, 12]),
)
def test_it_is_the_direct_convolution(n, height, width, padding, halve, channels):
    conv = conv_of(channels, padding, seed=height)
    x = torch.randn(n, channels, height, width)
    assert_alike(WinogradConv(conv, halve)(x), direct(conv, x, halve))


def test_what_lies_beside_is_added_before_the_relu():
    conv, x, beside = conv_of(8, 1), torch.randn(3, 8, 9, 9), torch.randn(3, 16, 9, 9)
    assert_alike(WinogradConv(conv)(x, beside), direct(conv, x, beside=beside))


def test_without_bias_and_over_more_tiles_than_are_done_at_once():
    conv = nn.Conv2d(8, 8, 3, padding=1, bias=False).requires_grad_(False)
    x = torch.randn(MOST_TILES // 64 + 3, 8, 30, 30)
    assert_alike(WinogradConv(conv)(x), direct(conv, x))


def test_the_layout_of_the_input_does_not_matter():
    conv, x = conv_of(8, 1), torch.randn(2, 8, 10, 10)
    made = WinogradConv(conv)
    assert torch.equal(made(x), made(x.contiguous(memory_format=torch.channels_last)))


@pytest.mark.parametrize("halve", [False, True])
@pytest.mark.parametrize("place", ["weight", "x"])
def test_what_is_no_number_stays_none(place, halve):
    conv, x = conv_of(8, 1), torch.randn(2, 8, 8, 8)
    (conv.weight if place == "weight" else x)[0] = np.nan
    wanted = conv(x).relu()
    wanted = nn.functional.max_pool2d(wanted, 2) if halve else wanted
    assert torch.equal(WinogradConv(conv, halve)(x).isnan(), wanted.isnan())


@pytest.mark.parametrize(
    ("layer", "suits"),
    [
        (nn.Conv2d(32, 32, 3), True),
        (nn.Conv2d(32, 64, 3, padding=1, bias=False), True),
        (nn.Conv2d(32, 32, 5), False),
        (nn.Conv2d(32, 32, 3, stride=2), False),
        (nn.Conv2d(32, 32, 3, dilation=2), False),
        (nn.Conv2d(32, 32, 3, groups=2), False),
        (nn.Conv2d(32, 32, 3, padding="same"), False),
        (nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(2, 32, 3), False),
        (nn.Linear(32, 32), False),
    ],
)
def test_which_layers_it_is_for(layer, suits):
    assert WinogradConv.suits(layer) is suits
