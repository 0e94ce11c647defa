"""Candidate pairs and their labels, as indices into the genes of a matrix. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import lists
from pipeline.errors import InputError
from pipeline.genes import require_matches, resolve
from pipeline.spec import PairSource

GeneIndex = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Candidate pairs.

    Attributes
    ----------
    gene_a, gene_b : (P,) int32
        Index into the genes of the matrix. In a directed pair gene_a is the regulator.
    label : (P,) int8
        −1 unlabelled, 0 none, 1 co-expressed or a→b, 2 b→a.
    """

    gene_a: GeneIndex
    gene_b: GeneIndex
    label: NDArray[np.int8]

    def __len__(self) -> int:
        return self.gene_a.size

    def take(self, rows: NDArray[np.integer]) -> "Pairs":
        """These pairs in this order."""
        return Pairs(self.gene_a[rows], self.gene_b[rows], self.label[rows])

    def content_hash(self) -> str:
        """Hex sha256 of the ordered pairs and their labels, the same on every machine."""
        total = hashlib.sha256()
        for column, dtype in ((self.gene_a, "<i4"), (self.gene_b, "<i4"), (self.label, "i1")):
            total.update(np.ascontiguousarray(column, dtype).tobytes())
        return total.hexdigest()


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs, and in words what was understood of the user's files on the way."""

    pairs: Pairs
    notes: tuple[str, ...] = ()


def all_pairs(n_genes: int) -> Pairs:
    """Every unordered pair of genes once, gene_a < gene_b, unlabelled."""
    gene_a, gene_b = np.triu_indices(n_genes, k=1)
    return _unlabelled(gene_a, gene_b)


def cross_pairs(regulators: GeneIndex, targets: GeneIndex) -> Pairs:
    """Every regulator with every target, a gene with itself left out, unlabelled."""
    gene_a, gene_b = np.repeat(regulators, targets.size), np.tile(targets, regulators.size)
    different = gene_a != gene_b
    return _unlabelled(gene_a[different], gene_b[different])


def _unlabelled(gene_a: NDArray[np.integer], gene_b: NDArray[np.integer]) -> Pairs:
    return Pairs(gene_a.astype(np.int32), gene_b.astype(np.int32), np.full(gene_a.size, -1, np.int8))


def label_edges(pairs: Pairs, source: GeneIndex, target: GeneIndex, n_genes: int) -> Pairs:
    """Label 1 where (gene_a, gene_b) is an edge of the network, 0 elsewhere."""
    edges = np.unique(source.astype(np.int64) * n_genes + target)
    key = pairs.gene_a.astype(np.int64) * n_genes + pairs.gene_b
    return Pairs(pairs.gene_a, pairs.gene_b, np.isin(key, edges).astype(np.int8))


def candidates(source: PairSource, genes: Sequence[str], symbols: Sequence[str] | None = None) -> Candidates:
    """The candidate pairs that a user asked for, in terms of a matrix.

    Parameters
    ----------
    genes, symbols
        Ids and, if known, symbols of the matrix's genes.

    Raises
    ------
    InputError
        Unreadable file, no name that the matrix knows, or no pair left.
    """
    if source.pairs is not None:
        found = _listed(source.pairs, genes, symbols)
    elif source.regulators is not None:
        found = _regulated(source, source.regulators, genes, symbols)
    else:
        found = Candidates(all_pairs(len(genes)))
    if not len(found.pairs):
        raise InputError("no candidate pair is left: the lists name only pairs of a gene with itself; give more genes.")
    return found


def _find(names: list[str], what: str, file: Path, genes: Sequence[str], symbols: Sequence[str] | None) -> GeneIndex:
    found = resolve(names, genes, symbols)
    require_matches(found, what=what, file=file)
    return found.index.astype(np.int32)


def _listed(file: Path, genes: Sequence[str], symbols: Sequence[str] | None) -> Candidates:
    named = lists.read_pairs(file)
    index = _find(named.gene_a + named.gene_b, "genes", file, genes, symbols)
    gene_a, gene_b = np.split(index, 2)
    known = (gene_a >= 0) & (gene_b >= 0)
    if not known.any():
        raise InputError(
            f"{file}: no pair has both genes in the matrix, as {named.gene_a[0]} and {named.gene_b[0]} have not; "
            "check that list and matrix name genes in the same way."
        )
    label = np.full(len(index) // 2, -1, np.int8) if named.label is None else named.label
    pairs = Pairs(gene_a, gene_b, label).take(np.flatnonzero(known & (gene_a != gene_b)))
    notes = (f"{file.name}: {known.sum():,} of {known.size:,} pairs have both genes in the matrix",)
    return _first_mentions(pairs, len(genes), file, notes)


def _first_mentions(pairs: Pairs, n_genes: int, file: Path, notes: tuple[str, ...]) -> Candidates:
    """Each ordered pair once; CNNC's own lists repeat some, a few of them with another label."""
    key = pairs.gene_a.astype(np.int64) * n_genes + pairs.gene_b
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    repeated = len(pairs) - first.size
    if repeated:
        conflicts = int((pairs.label != pairs.label[first][inverse]).sum())
        notes += (f"{file.name}: {repeated:,} repeated pairs dropped, {conflicts:,} of them with another label "
                  "than the first mention, which counts",)  # fmt: skip
    return Candidates(pairs.take(np.sort(first)), notes)


def _regulated(source: PairSource, regulators: Path, genes: Sequence[str], symbols: Sequence[str] | None) -> Candidates:
    index = _find(lists.read_genes(regulators), "regulators", regulators, genes, symbols)
    notes = [_matched(regulators, index, "regulators")]
    found = np.unique(index[index >= 0])
    targets = np.arange(len(genes), dtype=np.int32)
    if source.targets is not None:
        listed = _find(lists.read_genes(source.targets), "targets", source.targets, genes, symbols)
        notes.append(_matched(source.targets, listed, "targets"))
        targets = np.unique(listed[listed >= 0])
    pairs = cross_pairs(found, targets)
    if source.network is not None:
        named = lists.read_network(source.network)
        ends = _find(named.gene_a + named.gene_b, "genes", source.network, genes, symbols)
        start, end = np.split(ends, 2)
        known = (start >= 0) & (end >= 0)
        pairs = label_edges(pairs, start[known], end[known], len(genes))
        positive = int((pairs.label == 1).sum())
        notes.append(f"{source.network.name}: {known.sum():,} of {known.size:,} edges have both genes in the matrix; "
                     f"{positive:,} of {len(pairs):,} candidates are edges")  # fmt: skip
    return Candidates(pairs, tuple(notes))


def _matched(file: Path, index: GeneIndex, what: str) -> str:
    return f"{file.name}: {(index >= 0).sum():,} of {index.size:,} {what} are in the matrix"
