"""Strata of a prediction: which cells are compared with each other only, and the genes' margins in each stratum.

Both lie in the folder of the job, not in the code store, which jobs with other strata share. Margins are counted from
the codes once a job, over Dask, and the workers map the file into memory.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pairscape.model.options import DEPTH
from pairscape.pipeline.codes.bins import zero_bin
from pairscape.pipeline.codes.store import CHUNK_GENES, Codes, cell_blocks, open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import run_tasks
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.pairwise import depth_task, strata_of
from pairscape.pipeline.heatmaps.strata import StratifiedMargins, count_margins, refined
from pairscape.pipeline.matrix.cell_groups import CellGroups, stratify_cells
from pairscape.pipeline.storage.write import replaced

Stratum = NDArray[np.integer]
Genes = NDArray[np.integer]


@dataclass(frozen=True)
class Within:
    """Strata within which a job compares cells; small, it travels to the workers.

    Attributes
    ----------
    columns
        Of obs, and `depth`.
    strata
        How many they are; of one, nothing is taken out, and no margins are there.
    stratum, genes, margins
        Files: the stratum of each cell, (N,); genes of the matrix, ascending, (G,); their margins, (G, S, bins).
    first
        The first of the strata, where those of one group of cells are looked at alone.
    """

    columns: tuple[str, ...]
    strata: int
    stratum: str
    genes: str
    margins: str
    first: int = 0

    def of_group(self, group: "GroupLayer") -> "Within":
        """The strata of a group's cells alone: they follow each other, as strata are divisions of the groups."""
        own = np.unique(_loaded(self.stratum)[group.members()])
        if int(own[-1]) - int(own[0]) + 1 != own.size:
            raise ValueError(f"strata of group {group.number} do not follow each other")
        return replace(self, strata=own.size, first=int(own[0]))

    def of(self, gene_a: Genes, gene_b: Genes) -> StratifiedMargins | None:
        """Margins by stratum of pairs, (P,) genes of the matrix each; None where there is one stratum."""
        if self.strata == 1:
            return None
        known, rows = _loaded(self.genes), np.stack([gene_a, gene_b])
        used, at = np.unique(rows, return_inverse=True)
        row_a, row_b = at.reshape(rows.shape)
        own = slice(self.first, self.first + self.strata)
        return StratifiedMargins(np.asarray(_mapped(self.margins)[np.searchsorted(known, used), own]), row_a, row_b)

    def expressing(self, codes: Codes) -> NDArray[np.float64]:
        """Share of the strata's cells outside the bin of 0, of each gene of the matrix, (G,); 0 of genes of no pair."""
        genes, found = _loaded(self.genes), np.zeros(codes.n_genes)
        zero, margins = zero_bin(codes.array("edges")), _mapped(self.margins)
        for start in range(0, genes.size, CHUNK_GENES):
            own = genes[start : start + CHUNK_GENES]
            cells = margins[start : start + CHUNK_GENES, self.first : self.first + self.strata].sum(1, dtype=np.int64)
            found[own] = 1 - cells[np.arange(own.size), zero[own]] / cells.sum(1)
        return found

    def facts(self) -> dict[str, Any]:
        """What a file of scores says of them."""
        return {"within": list(self.columns), "strata": self.strata}

    def words(self) -> str:
        """The columns, to say."""
        return " and ".join(self.columns)

    def line(self) -> str:
        """What scores mean, to print."""
        if self.strata == 1:
            return f"{self.words()} makes one stratum of all cells, so nothing is taken out"
        return (
            f"scores, correlations and dependences are beyond {self.words()}: cells are compared within "
            f"{self.strata:,} strata"
        )


@dataclass(frozen=True)
class GroupLayer:
    """One group of cells, whose pairs are scored by its own cells; small, it travels to the workers.

    Attributes
    ----------
    number, cells
        Of the group among all groups, and its cells.
    names, cell_group
        Of all groups; the file of the group of each cell, (N,), every one in a group.
    """

    number: int
    cells: int
    names: tuple[str, ...]
    cell_group: str

    @property
    def name(self) -> str:
        """What the group is called."""
        return self.names[self.number]

    def groups(self) -> CellGroups:
        """All groups; the same object for all tasks of a process."""
        return _groups(self.names, self.cell_group)

    def members(self) -> NDArray[np.bool_]:
        """Whether each cell is in the group, (N,)."""
        return np.asarray(_loaded(self.cell_group) == self.number)


def lay_groups(groups: CellGroups, folder: Path) -> list[GroupLayer]:
    """Write the group of each cell into the folder of a job; every cell is in one."""
    name = hashlib.sha256(groups.number.tobytes()).hexdigest()[:16]
    file = folder.absolute() / f"cell-group-{name}.npy"
    _save(file, groups.number)
    return [GroupLayer(number, int(n), groups.names, str(file)) for number, n in enumerate(groups.cells)]


@lru_cache(maxsize=2)
def _groups(names: tuple[str, ...], path: str) -> CellGroups:
    return CellGroups((), names, np.asarray(_loaded(path), np.uint16))


def check_columns(obs: pd.DataFrame, columns: Sequence[str]) -> CellGroups:
    """Strata by columns of obs, all cells in one where there are none but `depth`.

    Parameters
    ----------
    obs
        Annotations of the cells that are counted, a row each.

    Raises
    ------
    InputError
        See `stratify_cells`; or a column has the name that stands for deciles of depth.
    """
    named = [column for column in columns if column != DEPTH]
    if len(named) < len(columns) and DEPTH in obs.columns:
        raise InputError(
            f"--within {DEPTH} means deciles of the genes that a cell expresses, and the cells' annotations have a "
            f"column {DEPTH!r} too; rename that column, so that it is clear which is meant"
        )
    if not named:
        return CellGroups((), ("all cells",), np.zeros(len(obs), np.uint16))
    return stratify_cells(obs, named)


def lay_strata(
    codes: Codes, groups: CellGroups, columns: Sequence[str], genes: Genes, folder: Path, seed: int, session: Session
) -> Within:
    """Write the strata of a job's cells and the margins of its genes, where they are not there yet.

    Parameters
    ----------
    groups
        Of `check_columns`, of the same columns.
    genes
        Genes of the matrix that come up in the pairs.
    folder
        Of the job, where all workers read.
    """
    stratum = groups.number
    if DEPTH in columns:
        stratum = by_depth(stratum, cell_depth(codes, folder, session), seed)
    what = stratum.tobytes() + np.unique(genes).tobytes() + codes.content_hash.encode()
    name = hashlib.sha256(what).hexdigest()[:16]
    files = {what: folder.absolute() / f"within-{what}-{name}.npy" for what in ("stratum", "genes", "margins")}
    _save(files["stratum"], stratum)
    _save(files["genes"], np.unique(genes))
    stratum_file, genes_file, margins_file = map(str, files.values())
    within = Within(tuple(columns), int(stratum.max()) + 1, stratum_file, genes_file, margins_file)
    if within.strata > 1 and not files["margins"].exists():
        _write_margins(codes, within, session)
    return within


def by_depth(stratum: Stratum, depth: NDArray[np.integer], seed: int) -> NDArray[np.uint16]:
    """Strata divided further by depth, (N,): in deciles, or in fewer where a tenth of a stratum is too few cells."""
    found = np.zeros(depth.size, np.int64)
    for number in np.unique(stratum):
        members = stratum == number
        found[members] = strata_of(depth[members], seed)
    return refined(stratum, found)


def cell_depth(codes: Codes, folder: Path, session: Session) -> NDArray[np.int32]:
    """Genes that each cell of a code store expresses, (N,); kept in the folder of a job."""
    path = folder.absolute() / f"depth-{codes.content_hash[:16]}.npy"
    if not path.exists():
        blocks = cell_blocks(codes.n_cells)
        session.progress.start("depth of cells", codes.n_cells)
        depth = np.empty(codes.n_cells, np.int32)
        for block, part in run_tasks(session, depth_task, range(len(blocks)), codes.path):
            depth[blocks[block]] = part
            session.progress.advance(part.size)
        _save(path, depth)
    return np.asarray(np.load(path))


def margins_task(codes_path: str, within: Within, start: int) -> NDArray[np.uint32]:
    """Margins by stratum of a chunk of a job's genes, (G, S, bins), from its first. Runs on a worker."""
    codes, stratum = open_codes(Path(codes_path)), _loaded(within.stratum)
    genes = _loaded(within.genes)[start : start + CHUNK_GENES].astype(np.int64)
    zero, found = (
        zero_bin(codes.array("edges"))[genes],
        np.zeros((genes.size, within.strata, codes.binning.bins), "<u4"),
    )
    for cells in cell_blocks(codes.n_cells):
        count_margins(codes.read(genes, cells), zero, stratum[cells], found)
    return found


def _write_margins(codes: Codes, within: Within, session: Session) -> None:
    n_genes = _loaded(within.genes).size
    shape, starts = (n_genes, within.strata, codes.binning.bins), range(0, n_genes, CHUNK_GENES)
    session.progress.start("margins by stratum", n_genes)
    with replaced(Path(within.margins)) as unfinished:
        margins = np.lib.format.open_memmap(unfinished, "w+", "<u4", shape)
        for start, part in run_tasks(session, margins_task, starts, codes.path, within):
            margins[start : start + len(part)] = part
            session.progress.advance(len(part))
        margins.flush()
        del margins


def _save(path: Path, values: NDArray[np.generic]) -> None:
    """Write an array whole, named after what it holds."""
    if not path.exists():
        with replaced(path) as unfinished, unfinished.open("wb") as file:
            np.save(file, values)


@lru_cache(maxsize=8)
def _loaded(path: str) -> NDArray[np.integer]:
    """Read once a process; those of another job have another name."""
    return np.asarray(np.load(path))


@lru_cache(maxsize=1)
def _mapped(path: str) -> NDArray[np.uint32]:
    return np.load(path, mmap_mode="r")
