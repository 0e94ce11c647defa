"""What several published networks are built of: unpadded convolutions, and the tower of CNNC."""

from torch import nn

TOWER_FEATURES = 512  # what CNNC's tower tells of an image


def fitting_conv(in_width: int, out_width: int, kernel: int, bins: int) -> tuple[nn.Conv2d, int]:
    """Build a convolution without padding, as published, and give the new size; padded where the map is too small.

    The published recipes are for 32 bins, and are kept to the letter there. At 16 bins the deeper ones would run out of
    picture; those layers, and only those, keep the size instead.

    Parameters
    ----------
    in_width, out_width
        Channels before and after.
    kernel
        Side length of the kernel, odd.
    bins
        Side length of the map before.

    Returns
    -------
    tuple[nn.Conv2d, int]
        The layer, and the side length of the map after it.
    """
    fits = bins - kernel + 1 >= 2  # 2: a pooling follows
    conv = nn.Conv2d(in_width, out_width, kernel, padding=0 if fits else kernel // 2)
    return conv, bins - kernel + 1 if fits else bins


def cnnc_tower(in_channels: int, bins: int, dropout: float) -> nn.Sequential:
    """CNNC's tower (Yuan & Bar-Joseph, PNAS 2019): three times (padded conv, unpadded conv, pool, dropout), dense 512.

    Parameters
    ----------
    in_channels
        Channels C of the image.
    bins
        Side length K of the image.
    dropout
        Share of the map's values dropped after each pooling.

    Returns
    -------
    nn.Sequential
        (B, C, K, K) images to (B, 512) features, before their activation.
    """
    steps: list[nn.Module] = []  # (B, C, K, K)
    width, side = in_channels, bins
    for out_width in (32, 64, 128):
        steps += [nn.Conv2d(width, out_width, 3, padding=1), nn.ReLU()]  # (B, out_width, side, side)
        conv, side = fitting_conv(out_width, out_width, 3, side)
        steps += [conv, nn.ReLU()]  # (B, out_width, side, side), two bins smaller
        width, side = out_width, side // 2
        steps += [nn.MaxPool2d(2), nn.Dropout(dropout)]  # (B, width, side, side)
    return nn.Sequential(*steps, nn.Flatten(), nn.Linear(width * side * side, TOWER_FEATURES))  # (B, 512)
