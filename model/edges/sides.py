"""Two sides that are compared: scores of the same pairs in two groups of cells, or in two files."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.edges.edges import GeneCodes, blocks, columns_of
from pairscape.model.edges.scores import GENES, read_facts
from pairscape.pipeline.errors import InputError

Values = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Side:
    """One of them.

    Attributes
    ----------
    name
        Of the group, or of the file without its suffix.
    cells
        How many there are.
    gene_a, gene_b : (P,) int32
        Genes of each pair, by number.
    values
        `correlation`, `score` and, where it is told, `kind`, the number in `KINDS`: (P,) each, NaN where unknown.
    """

    name: str
    cells: int
    gene_a: NDArray[np.int32]
    gene_b: NDArray[np.int32]
    values: Values

    def take(self, rows: NDArray[np.integer]) -> "Side":
        """Some pairs, in this order."""
        values = {name: column[rows] for name, column in self.values.items()}
        return replace(self, gene_a=self.gene_a[rows], gene_b=self.gene_b[rows], values=values)


def read_sides(paths: tuple[Path, Path], groups: tuple[str, str] | None) -> tuple[Side, Side, tuple[str, ...]]:
    """The pairs that both sides have, in the order of the first, and the names of all genes by number.

    Parameters
    ----------
    groups
        Of one file, whose path is given twice; None: two files.

    Raises
    ------
    InputError
        A file cannot be read or has no such group; both sides are the same; no pair is on both.
    """
    genes = GeneCodes()
    if groups is not None:
        check_groups(paths[0], groups)
    elif paths[0].resolve() == paths[1].resolve():
        raise InputError(f"{paths[0]} is given twice: a file differs in nothing from itself; give another one.")
    for path in paths:
        if groups is None and "groups" in read_facts(path):
            raise InputError(f"{path} has groups of cells: name two of them, SCORES.parquet A B OUT.parquet.")
    first, second = (
        _read(path, group, genes) for path, group in zip(paths, groups or (None, None), strict=True)
    )  # fmt: skip
    first, second = _matched(first, second, len(genes.index))
    if not first.gene_a.size:
        raise InputError(
            f"{paths[0]} and {paths[1]} have no pair in common, so nothing can be compared; give files of which the "
            "genes are named alike."
        )
    return first, second, tuple(genes.index)


def check_groups(path: Path, groups: Sequence[str]) -> None:
    """Refuse names that are no two groups of a file of scores; close names are shown."""
    known = (read_facts(path).get("groups") or {}).get("names")
    if not known:
        raise InputError(f"{path} has no groups of cells to compare; predict with --by COLUMN, or give two files.")
    for name in groups:
        if name not in known:
            near = difflib.get_close_matches(name, known, 5) or known[:5]
            raise InputError(f"{path} has no group {name!r}, but such as {', '.join(near)}; give two of its groups.")
    if groups[0] == groups[1]:
        raise InputError(f"{groups[0]} is given twice: a group differs in nothing from itself; give another one.")


def _read(path: Path, group: str | None, genes: GeneCodes) -> Side:
    facts = read_facts(path)
    wanted = [name for name in (*GENES, "correlation", "score", "kind") if name in columns_of(path)]
    if "correlation" not in wanted:
        raise InputError(f"{path} holds no correlations to compare; predict again.")
    parts = list(blocks(path, wanted, genes, group))
    values = {name: np.concatenate([part[name] for part in parts]) for name in wanted}
    gene_a, gene_b = (values.pop(name) for name in GENES)
    known = facts.get("groups") or {}
    cells = known["cells"][known["names"].index(group)] if group is not None else _cells(facts, path)
    return Side(path.stem if group is None else group, int(cells), gene_a, gene_b, values)


def _cells(facts: Mapping[str, Any], path: Path) -> int:
    """How many cells a file was scored from."""
    cells = (facts.get("matrix") or {}).get("n_cells") or (facts.get("images") or {}).get("n_cells")
    if not cells:
        raise InputError(f"{path} does not say how many cells it was scored from, which a comparison needs.")
    return int(cells)


def _matched(first: Side, second: Side, n_genes: int) -> tuple[Side, Side]:
    """Both sides with the pairs that they share, whichever gene comes first."""
    if np.array_equal(first.gene_a, second.gene_a) and np.array_equal(first.gene_b, second.gene_b):
        return first, second
    one, other = (
        np.minimum(side.gene_a, side.gene_b).astype(np.int64) * n_genes + np.maximum(side.gene_a, side.gene_b)
        for side in (first, second)
    )
    _, rows, others = np.intersect1d(one, other, return_indices=True)
    order = np.argsort(rows)
    return first.take(rows[order]), second.take(others[order])
