"""Modules: genes that have more edges among each other than with the rest, found by the Leiden algorithm of igraph.

igraph is an extra of the package (`pip install pairscape[modules]`), as its licence is the GPL. It is what scanpy finds
clusters of cells with. The genes come in the order of the file of scores and igraph draws from a generator of its own,
so the same edges and the same seed give the same modules.
"""

import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pairscape.model.edges.edges import Edges, first_of_equals
from pairscape.pipeline.errors import InputError

WeighedBy = Literal["score", "correlation"]
TIED = 0.01  # scores of which the middle half lies closer together say nothing of how strong an edge is
HUB_SHARE = 0.1  # of the genes of a module, those with the strongest edges within it
NAMED_HUBS = 5


@dataclass(frozen=True, eq=False)
class Modules:
    """Genes that have an edge, in modules.

    Attributes
    ----------
    edges
        Each pair once, best first.
    weight : (E,) float64
        What the modules were found with.
    weighed_by
        What that is.
    code : (N,) int32
        Each gene, into `edges.genes`, ascending.
    module : (N,) int32
        Its module from 1, the one with most genes; among equals the one with the first gene. 0: it is alone.
    degree, strength : (N,)
        Its edges, and the sum of their weights.
    own_strength : (N,)
        Sum of the weights of its edges to genes of its own module.
    is_hub : (N,) bool
        Whether it is among the tenth of its module that has most of that, one gene at least.
    """

    edges: Edges
    weight: NDArray[np.float64]
    weighed_by: WeighedBy
    code: NDArray[np.int32]
    module: NDArray[np.int32]
    degree: NDArray[np.int64]
    strength: NDArray[np.float64]
    own_strength: NDArray[np.float64]
    is_hub: NDArray[np.bool_]

    def __len__(self) -> int:
        return int(self.module.max())

    def genes_of(self, module: int) -> NDArray[np.int32]:
        """Genes of a module, into `edges.genes`, the one of the strongest edges within it first."""
        rows = np.flatnonzero(self.module == module)
        return self.code[rows[np.argsort(-self.own_strength[rows], kind="stable")]]

    def of_edges(self) -> NDArray[np.int32]:
        """Module of each edge, (E,); 0 between genes of different ones."""
        source, target = (
            self.module[np.searchsorted(self.code, ends)] for ends in (self.edges.source, self.edges.target)
        )
        return np.where(source == target, source, 0)

    def lines(self, most: int = 20) -> list[str]:
        """What was found, to print: a line for each of the largest modules."""
        size = np.bincount(self.module)[1:]
        inside = float((self.of_edges() > 0).mean())
        alone = int((self.module == 0).sum())
        first = (
            f"{len(self):,} modules of {self.code.size - alone:,} genes ({alone:,} in none); {inside:.0%} of "
            f"{len(self.edges):,} edges lie within one, weighed by {self.weighed_by}"
        )
        told = [
            f"module {number}: {size[number - 1]:,} genes, hubs {', '.join(self.hub_names(number))}"
            for number in range(1, min(len(self), most) + 1)
        ]
        rest = size[most:]
        return [first, *told, *([f"and {rest.size:,} of {rest.max():,} genes or fewer"] if rest.size else [])]

    def hub_names(self, module: int) -> list[str]:
        """Symbols, or names, of the strongest hubs of a module."""
        hubs = self.genes_of(module)[: min(NAMED_HUBS, int(self.is_hub[self.module == module].sum()))]
        return self.edges.labels(hubs)


def find_modules(
    edges: Edges, *, resolution: float = 1.0, weighed_by: WeighedBy | None = None, seed: int = 0
) -> Modules:
    """Put the genes of a network into modules, of the largest weighted modularity that is found.

    Parameters
    ----------
    edges
        Their direction is not looked at.
    resolution
        A larger one gives more and smaller modules.
    weighed_by
        `score`, or `correlation` for its absolute value. Absent: the score, or the correlation where the middle half
        of the scores differs by less than `TIED`.

    Raises
    ------
    InputError
        igraph is missing; the resolution is not above 0, or leaves every gene alone; correlations are asked for that
        are not there; no edge is left between two different genes.
    """
    if not resolution > 0:
        raise InputError(f"resolution is {resolution}: it lies above 0, 1 is usual; a larger one gives more modules.")
    edges = _once(edges)
    weighed_by, weight = _weights(edges, weighed_by)
    code, ends = np.unique(np.stack([edges.source, edges.target]), return_inverse=True)
    source, target = ends.reshape(2, -1)
    module = _by_size(_leiden(code.size, source, target, weight, resolution, seed))
    if not module.any():
        raise InputError(f"at a resolution of {resolution:g} every gene is alone, so there are no modules; lower it.")
    same = module[source] == module[target]
    degree, strength = _sums(code.size, source, target, weight)
    _, own = _sums(code.size, source[same], target[same], weight[same])
    return Modules(edges, weight, weighed_by, code, module, degree, strength, own, _hubs(module, own))


def _once(edges: Edges) -> Edges:
    """Each pair of two different genes once, whichever way it points."""
    rows = np.flatnonzero(edges.source != edges.target)
    low, high = np.minimum(edges.source, edges.target)[rows], np.maximum(edges.source, edges.target)[rows]
    if not rows.size:
        raise InputError("no edge between two different genes is left, so there are no modules; ask for more edges.")
    return edges.take(rows[first_of_equals(low, high, len(edges.genes))])


def _weights(edges: Edges, by: WeighedBy | None) -> tuple[WeighedBy, NDArray[np.float64]]:
    """What edges are weighed by, and their weights, above 0: the algorithm knows no others."""
    correlation = edges.columns.get("correlation")
    if by == "correlation" and (correlation is None or np.isnan(correlation).any()):
        raise InputError("weights by correlation: some edges have none; predict again, or weigh by score.")
    if by is None:
        low, high = np.quantile(edges.weight, [0.25, 0.75])
        known = correlation is not None and not np.isnan(correlation).any() and bool(correlation.any())
        by = "correlation" if known and high - low < TIED else "score"
    values = edges.weight if by == "score" or correlation is None else np.abs(correlation)
    return by, np.maximum(values.astype(np.float64), 1e-6)


def _leiden(
    n_genes: int,
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    weight: NDArray[np.float64],
    resolution: float,
    seed: int,
) -> NDArray[np.int64]:
    """Community of each gene, in igraph's numbers."""
    try:
        import igraph
    except ImportError as error:
        raise InputError(
            "modules are found by igraph, which is not installed: pip install 'pairscape[modules]' (it is no part of a "
            "plain installation, as its licence is the GPL)."
        ) from error
    graph = igraph.Graph(n_genes, np.stack([source, target], 1).tolist())
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found = graph.community_leiden(
            objective_function="modularity", weights=weight.tolist(), resolution=resolution, n_iterations=-1
        )
    finally:
        igraph.set_random_number_generator(random)
    return np.array(found.membership, np.int64)


def _by_size(community: NDArray[np.int64]) -> NDArray[np.int32]:
    """Communities numbered from 1, that of most genes first, among equals that of the first gene; 0 for one gene."""
    _, first, inverse, size = np.unique(community, return_index=True, return_inverse=True, return_counts=True)
    number = np.empty(size.size, np.int32)
    number[np.lexsort((first, -size))] = np.arange(1, size.size + 1)
    return np.where(size > 1, number, 0)[inverse]


def _sums(
    n_genes: int, source: NDArray[np.int64], target: NDArray[np.int64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Edges of each gene, and the sum of their weights."""
    both, twice = np.concatenate([source, target]), np.concatenate([weight, weight])
    return np.bincount(both, minlength=n_genes), np.bincount(both, twice, n_genes).astype(np.float64)


def _hubs(module: NDArray[np.int32], own_strength: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The strongest tenth of each module."""
    order = np.lexsort((-own_strength, module))
    size = np.bincount(module)
    rank = np.empty(module.size, np.int64)
    rank[order] = np.arange(module.size) - np.searchsorted(module[order], module[order])
    return (rank < np.ceil(HUB_SHARE * size[module])) & (own_strength > 0)
