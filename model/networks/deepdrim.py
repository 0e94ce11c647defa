"""DeepDRIM: CNNC's tower on the image of a pair, beside those of each of its genes with the gene's neighbours.

An image of a and b may show dependence because both follow a third gene; the images of each with the genes that vary
most with it let the network tell that from a link of the two. Source: Chen et al., Briefings in Bioinformatics (2021),
bbab325. As published: two towers, the second one shared by all neighbour images, then dense 512, 128.

The neighbour images of a pair are those of gene a and those of gene b, each the same in every pair that the gene is in.
So a gene is described once, and its pairs look the description up: in training once a batch, at prediction once.
"""

import torch
from torch import Tensor, nn

from pairscape.model.networks.towers import TOWER_FEATURES, cnnc_tower

NEIGHBOURS = 10  # genes of highest covariance
IMAGES_PER_GENE = 1 + NEIGHBOURS  # with itself first
GENE_FEATURES = IMAGES_PER_GENE * TOWER_FEATURES


class DeepDrim(nn.Module):
    """The network of a pair and its genes' neighbours.

    Parameters
    ----------
    in_channels
        Channels C of the rendered images.
    bins
        Side length K of the rendered images.
    classes
        Number of classes.
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
        """Say what the images of genes with themselves and their neighbours show.

        Parameters
        ----------
        x
            (G, 11, C, K, K) rendered images, column = bin of the gene, row = bin of itself, then of each neighbour.

        Returns
        -------
        Tensor
            (G, 11 * 512) features.
        """
        images = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (G * 11, C, K, K)
        return self.gene_tower(images).unflatten(0, x.shape[:2]).flatten(1)  # (G, 11 * 512)

    def forward(self, x: Tensor, genes: Tensor) -> Tensor:
        """Score pairs.

        Parameters
        ----------
        x
            (B, C, K, K) rendered images of the pairs.
        genes
            (B, 2, 11 * 512) what `describe` says of gene a and of gene b.

        Returns
        -------
        Tensor
            (B, classes) logits.
        """
        seen = self.pair_tower(x)  # (B, 512)
        logits: Tensor = self.head(torch.cat([seen, genes.flatten(1)], dim=1))  # (B, classes)
        return logits
