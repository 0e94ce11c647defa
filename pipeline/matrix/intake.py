"""An opened source with the choices of an ingest: unique names, chosen cells and genes, density, size of blocks."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from anndata.utils import make_index_unique
from numpy.typing import NDArray

from pairscape.pipeline.compute.progress import Progress
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.columns import name_genes
from pairscape.pipeline.matrix.open import open_source
from pairscape.pipeline.matrix.scan import ChosenCells
from pairscape.pipeline.matrix.select import choose_cells, choose_genes, mapped_symbols, mitochondrial
from pairscape.pipeline.matrix.source import Reader, Source, check_names, gene_symbols
from pairscape.pipeline.matrix.survey import GeneMasks
from pairscape.pipeline.options import Choices

BLOCK_ENTRIES = 2**22  # of a block that is scanned: a task has some 100 MB
SAMPLED_CELLS = 32  # at three places, to tell how dense the matrix is


@dataclass(frozen=True, eq=False)
class Intake:
    """A matrix that is being ingested.

    Attributes
    ----------
    source
        With names of cells made unique.
    symbols
        Of the genes; None where they are unknown.
    cells
        Those that were chosen, and how many are read together.
    listed : (gene,) bool
        Genes that a list names; all where there is none.
    wanted
        What the first scan looks at.
    density
        Share of values above zero, by a sample.
    notes
        What has to be said of all this.
    """

    source: Source
    choices: Choices
    symbols: tuple[str, ...] | None
    cells: ChosenCells
    listed: NDArray[np.bool_]
    wanted: GeneMasks
    density: float
    notes: tuple[str, ...]

    @property
    def readers(self) -> tuple[Reader, ...]:
        """Of the values, and of the counts beside them if there are any."""
        return (self.source.values, *([self.source.counts] if self.source.counts is not None else []))

    @property
    def entries(self) -> int:
        """Values above zero of the chosen cells, by the sample."""
        return int(self.density * len(self.source.var) * self.cells.chosen.sum())

    @property
    def block_entries(self) -> int:
        """The same of a block of cells."""
        return int(self.density * len(self.source.var) * min(self.cells.block, self.cells.chosen.size))


def take_in(source: Any, choices: Choices, scratch: Path, progress: Progress) -> Intake:
    """Open a source and apply the choices of cells and genes; of its values only a sample is read.

    Parameters
    ----------
    source
        A path, URL, pattern or AnnData, or a list of them.
    scratch
        Folder where a source that cannot be read by cells may be turned.

    Raises
    ------
    InputError
        The source cannot be opened, has fewer than two cells or genes, or genes of one name; a choice of cells or genes
        finds none.
    """
    opened = open_source(
        source,
        orientation=choices.orientation,
        layer=choices.layer,
        key=choices.key,
        join=choices.join,
        gene_column=choices.gene_column,
        features=choices.features,
        scratch=scratch,
        progress=progress,
    )
    check_names(opened.obs.index, opened.var.index, opened.name)
    opened, notes = _uniquely_named(opened)
    symbols = gene_symbols(opened.var)
    if choices.gene_map is not None:
        named, note = mapped_symbols(Path(choices.gene_map), opened.var.index)
        symbols, notes = tuple(named), [*notes, note]
    chosen = choose_cells(opened.obs, choices.cells)
    listed, note = choose_genes(choices.genes, opened.var.index, symbols, name_genes(opened.var).others)
    density = sampled_density(opened)
    return Intake(
        opened,
        choices,
        symbols,
        ChosenCells(chosen, _block_cells(opened, density)),
        listed,
        _wanted(opened, choices, symbols, listed),
        density,
        (*opened.notes, *notes, *([note] if note else [])),
    )


def _uniquely_named(source: Source) -> tuple[Source, list[str]]:
    """Cells of several samples may share barcodes. Nothing of ours goes by a cell's name, but AnnData does."""
    names = source.obs.index
    if not names.has_duplicates:
        return source, []
    note = f"{int(names.duplicated().sum()):,} cells had the name of another: made unique with -1, -2, …"
    return replace(source, obs=source.obs.set_axis(make_index_unique(names), axis=0)), [note]


def _wanted(source: Source, choices: Choices, symbols: tuple[str, ...] | None, listed: NDArray[np.bool_]) -> GeneMasks:
    every = np.ones(len(source.var), bool)
    # Which genes are stored beside the most variable ones is known only after these are.
    stored = listed if choices.highly_variable is None else every
    return GeneMasks(every, stored, mitochondrial(source.var.index, symbols), choices.min_genes)


def sampled_density(source: Source) -> float:
    """Share of values above zero in the densest of three samples.

    Raises
    ------
    InputError
        The values are of another number of genes than the names.
    """
    n_cells, n_genes = len(source.obs), len(source.var)
    taken = min(SAMPLED_CELLS, n_cells)
    starts = sorted({0, (n_cells - taken) // 2, n_cells - taken})
    samples = [source.values.rows(start, start + taken) for start in starts]
    if (held := samples[0].shape[1]) != n_genes:
        raise InputError(
            f"{source.name}: the values are of {held} genes, but {n_genes} are named; it is damaged, write it again"
        )
    return max(*(rows.nnz for rows in samples), 1) / (taken * n_genes)


def _block_cells(source: Source, density: float) -> int:
    """Cells that are scanned together: some million entries, no part of the source read twice."""
    wanted = max(int(BLOCK_ENTRIES / (density * len(source.var))), 1)
    return max(wanted // source.block_cells, 1) * source.block_cells
