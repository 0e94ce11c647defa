"""Cells of public sets, as `benchmarks.biology` compares statistics of co-expression on them: wholes, halves, nulls."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import anndata
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from pairscape.model.evaluation.counted import CellCounts

LEAST_CELLS = 20  # that express a gene
CLUSTERS, COMPONENTS = 6, 20

Matrix = NDArray[np.floating]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of a set, some genes of which are compared.

    Attributes
    ----------
    name
        Of the set.
    genes
        Symbols of the compared genes.
    counts : (N, G) float32 CSR
        Of the compared genes.
    depth : (N,) float64
        Counts of each cell over all genes of the file.
    detected : (N,) int64
        Genes of the file that each cell expresses.
    kind : (N,) int64
        Cell type of each cell, or its cluster.
    """

    name: str
    genes: tuple[str, ...]
    counts: sparse.csr_matrix
    depth: NDArray[np.float64]
    detected: Index
    kind: Index

    @cached_property
    def dense(self) -> NDArray[np.float32]:
        """Counts, (G, N)."""
        return np.ascontiguousarray(self.counts.toarray().T, np.float32)

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """Log expression, (G, N), as `ingest` makes it."""
        return np.log1p(self.dense * (1e4 / self.depth)).astype(np.float32)

    @property
    def counted(self) -> CellCounts:
        """The same for the statistics of the audit."""
        total = np.asarray(self.counts.sum(axis=0, dtype=np.float64)).ravel()
        return CellCounts(self.counts, self.depth, total, "scanpy")

    def take(self, cells: NDArray[np.integer] | NDArray[np.bool_]) -> "Cells":
        """Some of the cells."""
        cut = {name: getattr(self, name)[cells] for name in ("counts", "depth", "detected", "kind")}
        return replace(self, **cut)

    def halves(self, seed: int) -> tuple["Cells", "Cells"]:
        """Two random halves of the cells."""
        first = np.random.default_rng(seed).permutation(self.depth.size) < self.depth.size // 2
        return self.take(first), self.take(~first)

    def null(self, seed: int) -> "Cells":
        """Cells of the same depths whose genes, of the same shares, have nothing else in common: Poisson counts.

        How many genes such a cell would express is a matter of its depth, so that stands for it.
        """
        drawn = np.random.default_rng(seed).poisson(np.outer(self.depth, self.counted.share)).astype(np.float32)
        return replace(self, counts=sparse.csr_matrix(drawn), detected=self.depth.astype(np.int64))


@dataclass(frozen=True, eq=False)
class WholeSet:
    """A file of raw counts: all genes, (N, G) float32 CSR, and the types of its cells, (N,)."""

    name: str
    genes: NDArray[np.str_]
    counts: sparse.csr_matrix
    kind: Index

    @property
    def share(self) -> NDArray[np.float64]:
        """Mean share of each gene in the counts of a cell, (G,); 0 where too few cells express it."""
        depth = np.maximum(np.asarray(self.counts.sum(axis=1, dtype=np.float64)), 1)
        share = np.asarray(self.counts.multiply(1 / depth).mean(axis=0)).ravel()
        expressing = np.diff(self.counts.tocsc().indptr)
        return np.where(expressing >= LEAST_CELLS, share, 0)

    def cells(self, genes: Index) -> Cells:
        """Its cells, with some genes to compare."""
        depth = np.maximum(np.asarray(self.counts.sum(axis=1, dtype=np.float64)).ravel(), 1)
        detected = np.diff(self.counts.indptr).astype(np.int64)
        return Cells(self.name, tuple(self.genes[genes].tolist()), self.counts[:, genes], depth, detected, self.kind)

    def most_expressed(self, number: int) -> Index:
        """The genes of the highest share, at most so many, in the order of the file."""
        share = self.share
        best = np.argsort(-share, kind="stable")[:number]
        return np.sort(best[share[best] > 0])


def read_set(path: Path) -> WholeSet | str:
    """A set of raw counts with its cell types, by obs["cell_type"] or clusters; or why it cannot be used."""
    read = anndata.read_h5ad(path)
    counts = sparse.csr_matrix(read.X, dtype=np.float32)
    if not np.array_equal(counts.data, np.rint(counts.data)):
        return "holds no raw counts"
    if "cell_type" in read.obs:
        kind = np.unique(read.obs["cell_type"].astype(str), return_inverse=True)[1]
    else:
        kind = cluster(counts)
    return WholeSet(path.stem, np.asarray(read.var_names, dtype=str), counts, kind.astype(np.int64))


def cluster(counts: sparse.csr_matrix) -> Index:
    """Clusters of cells, (N,): k-means on principal components of the log expression of the most expressed genes."""
    depth = np.maximum(np.asarray(counts.sum(axis=1)), 1)
    most = np.argsort(-np.asarray(counts.sum(axis=0)).ravel(), kind="stable")[:2000]
    logs = np.log1p(counts[:, most].multiply(1e4 / depth).toarray())
    found = PCA(COMPONENTS, svd_solver="full").fit_transform(logs)
    return KMeans(CLUSTERS, n_init=10, random_state=0).fit_predict(found).astype(np.int64)
