"""The published architectures, line by line, and the choice of one by name; ours have files of their own.

Every network maps (B, C, K, K) images to (B, classes) logits, for 16 to 150 bins. No softmax: the losses take logits.
"""

import torch
from torch import Tensor, nn

from pairscape.model.networks.momentnet import MomentNet
from pairscape.model.networks.pairnet import FactorNet, PairNet
from pairscape.model.options import Rendering
from pairscape.pipeline.errors import InputError

TOWER_FEATURES = 512  # of an image, from CNNC's tower


def fitting_conv(in_width: int, out_width: int, kernel: int, bins: int) -> tuple[nn.Conv2d, int]:
    """A convolution without padding, as published, and the side length after it.

    The published recipes are for 32 bins. At 16 bins the deeper layers would run out of picture; those, and only those,
    are padded and keep the size.
    """
    fits = bins - kernel + 1 >= 2  # 2: a pooling follows
    conv = nn.Conv2d(in_width, out_width, kernel, padding=0 if fits else kernel // 2)
    return conv, bins - kernel + 1 if fits else bins


def cnnc_tower(in_channels: int, bins: int, dropout: float) -> nn.Sequential:
    """CNNC's tower: three times (padded conv, unpadded conv, pool, dropout), then dense 512; (B, C, K, K) to (B, 512).

    Source: Yuan & Bar-Joseph, PNAS 2019. The features are those before their activation.
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


FACTOR_NETWORK = "pairnet-factors"
MOMENT_NETWORK = "momentnet"

NETWORKS = (
    "pairnet",
    FACTOR_NETWORK,
    MOMENT_NETWORK,
    "cnnc",
    "deepdrim",
    "deep-cell-1",
    "deep-cell-2",
    "deep-cell-3",
    "alexnet-10",
    "alexnet-10-dropout",
)


def usual_rendering(name: str) -> Rendering:
    """How counts become the input of a network where nothing else is asked for."""
    return Rendering("counts") if name == MOMENT_NETWORK else Rendering()


SMALLEST, LARGEST = 16, 150  # bins; below, the poolings run out of picture, above, the dense layers out of memory


def _deep_cell_early(in_channels: int, bins: int, classes: int, layers: list[tuple[int, int]]) -> nn.Sequential:
    """deep-cell-1 and -2: unpadded convolutions, given as (width, kernel), then one pooling and two dense layers."""
    steps: list[nn.Module] = []  # (B, C, K, K)
    width, side = in_channels, bins
    for out_width, kernel in layers:
        conv, side = fitting_conv(width, out_width, kernel, side)
        steps += [conv, nn.ReLU()]  # (B, out_width, side, side)
        width = out_width
    side //= 2
    steps += [nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten()]  # (B, width * side * side)
    steps += [nn.Linear(width * side * side, 128), nn.ReLU(), nn.Dropout(0.5)]  # (B, 128)
    return nn.Sequential(*steps, nn.Linear(128, classes))  # (B, classes)


def _cnnc(in_channels: int, bins: int, classes: int, dropout: float) -> nn.Sequential:
    """CNNC as published (dropout .5), and deep-cell-3 (.25): the tower, and one dense layer upon it."""
    tower = cnnc_tower(in_channels, bins, dropout)  # (B, 512)
    return nn.Sequential(*tower, nn.ReLU(), nn.Dropout(0.5), nn.Linear(TOWER_FEATURES, classes))  # (B, classes)


def _alexnet_10(in_channels: int, bins: int, classes: int, *, deep: bool) -> nn.Sequential:
    """The AlexNet-like network: ten padded convolutions in pairs, pooled after all but the last; widths are ours."""
    steps: list[nn.Module] = []  # (B, C, K, K)
    width, side = in_channels, bins
    for block, out_width in enumerate((32, 64, 96, 128, 128)):
        for source in (width, out_width):
            steps += [nn.Conv2d(source, out_width, 3, padding=1), nn.ReLU()]  # (B, out_width, side, side)
        width = out_width
        if block < 4:
            steps += [nn.MaxPool2d(2)] + [nn.Dropout(0.25)] * deep  # (B, width, side // 2, side // 2)
            side //= 2
    steps += [nn.Flatten()]  # (B, width * side * side)
    features = width * side * side
    for out_features in (512, 256) if deep else (256,):
        steps += [nn.Linear(features, out_features), nn.ReLU()] + [nn.Dropout(0.5)] * deep  # (B, out_features)
        features = out_features
    return nn.Sequential(*steps, nn.Linear(features, classes))  # (B, classes)


def build_network(name: str, *, in_channels: int, bins: int, classes: int = 2) -> nn.Module:
    """An untrained network by name; its first weights follow from torch's random state.

    Parameters
    ----------
    name
        One of `NETWORKS`.
    in_channels, bins
        Channels C and side length K of the rendered image, K from 16 to 150.
    classes
        2 (none, pair), 3 (none, a to b, b to a) or 7 (none, and the kinds of dependence).

    Returns
    -------
    nn.Module
        (B, C, K, K) float32 images to (B, classes) logits; `deepdrim` and `pairnet-factors` also take features of the
        genes.

    Raises
    ------
    InputError
        The name is unknown, or the image is smaller than 16 or larger than 150 bins.
    """
    if not SMALLEST <= bins <= LARGEST:
        raise InputError(
            f"an image of {bins} bins does not fit the networks, which need {SMALLEST} to {LARGEST}; "
            "choose other bins, or another pool."
        )
    if name == "pairnet":
        return PairNet(in_channels, bins, classes)
    if name == FACTOR_NETWORK:
        return FactorNet(in_channels, bins, classes)
    if name == MOMENT_NETWORK:
        return MomentNet(classes)
    if name == "cnnc":
        return _cnnc(in_channels, bins, classes, dropout=0.5)
    if name == "deepdrim":
        return DeepDrim(in_channels, bins, classes)
    if name == "deep-cell-1":
        return _deep_cell_early(in_channels, bins, classes, [(32, 3), (64, 3)])
    if name == "deep-cell-2":
        return _deep_cell_early(in_channels, bins, classes, [(16, 3), (32, 3), (64, 9), (128, 17)])
    if name == "deep-cell-3":
        return _cnnc(in_channels, bins, classes, dropout=0.25)
    if name == "alexnet-10":
        return _alexnet_10(in_channels, bins, classes, deep=False)
    if name == "alexnet-10-dropout":
        return _alexnet_10(in_channels, bins, classes, deep=True)
    raise InputError(f"network {name!r} is unknown, so nothing can be trained; choose one of {', '.join(NETWORKS)}.")


NEIGHBOURS = 10  # genes of highest covariance
IMAGES_PER_GENE = 1 + NEIGHBOURS  # with itself first
GENE_FEATURES = IMAGES_PER_GENE * TOWER_FEATURES


class DeepDrim(nn.Module):
    """DeepDRIM: CNNC's tower on the image of a pair, beside those of each of its genes with the gene's neighbours.

    An image of a and b may show dependence because both follow a third gene; the images of each with the genes of
    highest covariance tell that from a link of the two. As published: two towers, the second one shared by all
    neighbour images, then dense 512, 128. The neighbour images of a gene are the same in all its pairs, so their
    features are computed once (`describe`): in training once a batch, at prediction once. Source: Chen et al.,
    Briefings in Bioinformatics (2021), bbab325.
    """

    def __init__(self, in_channels: int, bins: int, classes: int) -> None:
        super().__init__()
        self.pair_tower = cnnc_tower(in_channels, bins, dropout=0.25)  # (B, 512)
        self.gene_tower = cnnc_tower(in_channels, bins, dropout=0.25)  # (N, 512)
        self.head = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(TOWER_FEATURES + 2 * GENE_FEATURES, 512),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(512, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, classes),
        )

    def describe(self, x: Tensor) -> Tensor:
        """Features of genes, (G, 11 * 512), from their images (G, 11, C, K, K) with themselves and their neighbours.

        Column = bin of the gene, row = bin of itself, then of each neighbour.
        """
        images = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (G * 11, C, K, K)
        return self.gene_tower(images).unflatten(0, x.shape[:2]).flatten(1)  # (G, 11 * 512)

    def forward(self, x: Tensor, genes: Tensor) -> Tensor:
        """Images of the pairs (B, C, K, K) and features of both genes (B, 2, 11 * 512) to (B, classes) logits."""
        seen = self.pair_tower(x)  # (B, 512)
        logits: Tensor = self.head(torch.cat([seen, genes.flatten(1)], dim=1))  # (B, classes)
        return logits
