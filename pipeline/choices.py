"""What a user may choose of an ingest, checked before anything is read. Pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pairscape.pipeline.errors import InputError

Orientation = Literal["auto", "genes-by-cells", "cells-by-genes"]
Preset = Literal["auto", "scanpy", "log1p", "none", "cnnc", "deep-cell"]
Join = Literal["inner", "outer"]


@dataclass(frozen=True)
class Choices:
    """How a matrix is read, what of it is kept, and what is done to its values.

    Parameters
    ----------
    preset
        As `pipeline.matrix.normalize`. "auto" is "scanpy" for raw counts and leaves logarithms as they are.
    min_cells, min_genes
        Keep genes expressed in at least so many of the cells kept, and cells that express at least so many of the genes
        kept; 1 drops what has no expression at all.
    orientation
        What the rows of the source are. "auto": told from the format or from the names.
    layer
        Take this layer in place of X; "raw" takes `.raw`. Absent: X.
    key
        The table inside a file that holds several. Absent: the only one.
    join
        Genes of several sources: those that all have, or those that any has.
    gene_map
        File of two columns, the matrix's name of a gene and its symbol. Absent: symbols as the source has them.
    cells
        Condition on columns of obs, such as `cell_type == 'dendritic'`. Absent: all cells.
    genes
        File of gene names; only these are stored. Absent: all genes.
    highly_variable
        Store the so many most variable genes, beside those of `genes` if both are given. Absent: all genes.

    Raises
    ------
    InputError
        A choice that is none of the known ones, or a number out of range.
    """

    preset: Preset = "auto"
    min_cells: int = 1
    min_genes: int = 1
    orientation: Orientation = "auto"
    layer: str | None = None
    key: str | None = None
    join: Join = "inner"
    gene_map: Path | None = None
    cells: str | None = None
    genes: Path | None = None
    highly_variable: int | None = None

    def __post_init__(self) -> None:
        known = {"preset": Preset, "orientation": Orientation, "join": Join}
        for name, kind in known.items():
            if getattr(self, name) not in get_args(kind):
                raise InputError(f"{name} {getattr(self, name)!r} is unknown: give one of {', '.join(get_args(kind))}")
        for name, least in (("min_cells", self.min_cells), ("min_genes", self.min_genes)):
            if least < 1:
                raise InputError(
                    f"{name} is {least}: genes and cells without any expression have no heatmap; give 1 or more"
                )
        if self.highly_variable is not None and self.highly_variable < 2:
            raise InputError(f"highly_variable is {self.highly_variable}: gene pairs need two genes; give 2 or more")
