"""Which rule pools data sets best: pairs within protein complexes against pairs matched in expression.

python -m benchmarks.pooling FOLDER [--work FOLDER] [--sets NAME,…] [--negatives 6] [--seed 0] [--json FILE]

FOLDER holds `sets/NAME.h5ad` and `gold/corum_pairs_human.csv`, `gold/human_mouse_orthologs_ensembl105.csv`. Of the
complexes those are taken, largest first, of which enough pairs are measured in half of the sets, and that share few
genes with one taken before. Each positive (a, b) gets negatives (a, x) and (x, b), x a gene of no common complex that is
expressed in about as many cells as the one it stands for. Every set scores these pairs with the universal network, and
`pairscape combine` pools the files by each rule, and by what it learns on complexes left out.

Told of each set and rule: the AUROC and the average precision of the signed score within each complex (its positives
against their negatives), and their means over the complexes; of two rules the difference with a bootstrap over
complexes, paired.
"""

import argparse
import csv
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata
from sklearn.neighbors import NearestNeighbors

SETS = (
    "celltypist_sample", "human_ipsc_cardio_day2", "human_melanoma_tcell_sadefeldman", "kang_pbmc_ifnb_2800",
    "mouse_cortex_zeisel_550", "mouse_enterocyte_moor", "mouse_intestine_grun", "mouse_spleen_jaitin", "pbmc3k",
    "pbmc_facs_zheng", "pbmc_sorted_reference", "pdac_moncada",
)  # fmt: skip
LEAST_PAIRS, MOST_PAIRS = 30, 150  # of a complex
MOST_SHARED = 0.25  # of a complex's genes with those taken before
ALIKE = 60  # genes that may stand for another
UNMEASURED = -0.5  # in place of a gene's rank by expression
LEAST_EXPRESSED = 0.05  # share of the cells, in the mean over sets


@dataclass(frozen=True)
class GoldPair:
    """Two genes, the complex they are judged in, and whether they belong to it."""

    gene_a: str
    gene_b: str
    complex: str
    positive: bool


def read_orthologues(path: Path) -> dict[str, str]:
    """Mouse symbol → human symbol, of one-to-one orthologues."""
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if len(row) == 2 and all(row)]
    times = [Counter(row[side] for row in rows) for side in (0, 1)]
    return {mouse: human for human, mouse in rows if times[0][human] == times[1][mouse] == 1}


def expressed(path: Path, human: dict[str, str]) -> dict[str, float]:
    """Human symbol → share of the cells of a set that express it."""
    with h5py.File(path) as file:
        var, x = file["var"], file["X"]
        names = var[var.attrs["_index"]].asstr()[:]
        matrix = sparse.csr_matrix((x["data"][:], x["indices"][:], x["indptr"][:]), x.attrs["shape"])
    share = np.diff(matrix.tocsc().indptr) / matrix.shape[0]
    mouse = path.stem.startswith("mouse")
    named = (human.get(name) if mouse else name for name in names.tolist())
    return {name: value for name, value in zip(named, share.tolist(), strict=True) if name}


@dataclass(frozen=True, eq=False)
class Measured:
    """Genes that half of the sets measure, and how many cells express them.

    Attributes
    ----------
    genes
        Human symbols.
    share : (G, sets)
        Share of the cells that express each, NaN where a set does not measure it.
    """

    genes: tuple[str, ...]
    share: NDArray[np.float64]

    @classmethod
    def of(cls, sets: dict[str, Path], human: dict[str, str]) -> "Measured":
        found = [expressed(path, human) for path in sets.values()]
        genes = sorted({gene for one in found for gene in one})
        share = np.array([[one.get(gene, np.nan) for one in found] for gene in genes])
        kept = (~np.isnan(share)).sum(1) * 2 >= len(sets)
        kept[kept] = np.nanmean(share[kept], axis=1) >= LEAST_EXPRESSED
        return cls(tuple(np.array(genes)[kept].tolist()), share[kept])

    def alike(self) -> dict[str, list[str]]:
        """Of each gene the genes most like it: as many cells express them in each set, and the same sets measure them."""
        rank = np.nan_to_num(rankdata(self.share, axis=0, nan_policy="omit") / len(self.genes), nan=UNMEASURED)
        nearest = NearestNeighbors(n_neighbors=ALIKE + 1).fit(rank).kneighbors(rank, return_distance=False)
        return {gene: [self.genes[i] for i in row if self.genes[i] != gene] for gene, row in zip(self.genes, nearest)}


def read_complexes(path: Path, known: set[str]) -> dict[str, list[tuple[str, str]]]:
    """Pairs of complexes with enough of them measured, largest first, without those much like an earlier one."""
    found = defaultdict[str, list[tuple[str, str]]](list)
    with path.open(encoding="utf-8") as file:
        for a, b, name in list(csv.reader(file))[1:]:
            if a in known and b in known:
                found[name].append((a, b))
    taken, seen = dict[str, list[tuple[str, str]]](), set[str]()
    for name, pairs in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
        genes = {gene for pair in pairs for gene in pair}
        if len(pairs) >= LEAST_PAIRS and len(genes & seen) <= MOST_SHARED * len(genes):
            taken[name] = pairs
            seen |= genes
    return taken


def choose_pairs(
    gold: Path, complexes: dict[str, list[tuple[str, str]]], alike: dict[str, list[str]], per_positive: int, seed: int
) -> list[GoldPair]:
    """Positives of each complex, and negatives in which a gene like it stands for one of the two."""
    with gold.open(encoding="utf-8") as file:
        used = {frozenset(row[:2]) for row in csv.reader(file)}
    rng, chosen = np.random.default_rng(seed), list[GoldPair]()
    for name, pairs in complexes.items():
        some = [pairs[i] for i in np.sort(rng.permutation(len(pairs))[:MOST_PAIRS])]
        chosen += [GoldPair(a, b, name, True) for a, b in some]
        for (a, b), turn in itertools.product(some, range(per_positive)):
            kept, replaced = (a, b) if turn % 2 else (b, a)
            free = (x for x in rng.permutation(alike[replaced]).tolist() if x != kept and {kept, x} not in used)
            if (other := next(free, None)) is not None:
                used.add(frozenset((kept, other)))
                chosen.append(GoldPair(kept, other, name, False))
    return chosen
