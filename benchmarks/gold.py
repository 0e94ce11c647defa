"""Gold standards of function that need no expression, and what scores of pairs of genes are worth against them. Pure.

Read from a folder: GO terms (`go_*.gmt`), Reactome (`reactome_*.gmt`), CORUM's pairs of subunits (`corum_pairs_*.csv`)
and CollecTRI's regulators with their targets (`collectri_*.csv`), of mouse TRRUST's (`trrust_*.csv`).

Negatives are the positives with partners swapped: every gene is in as many negatives as positives, and, since partners
are swapped among genes of like expression only, as many negatives as positives lie in every pair of quarters of
expression. A positive that cannot be swapped is left out, on both sides.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from pairscape.pipeline.genes.negatives import FORBIDDEN, FREE, swap_partners

TERM_GENES = (10, 300)  # of a GO term that are among the genes
PATHWAY_GENES = (3, 50)  # of a pathway in its file: all pairs of a larger one say little
STRATA = 4  # quarters of expression
FOLDS = 3
RIBOSOME = ("RPL", "RPS", "RPLP", "MRPL", "MRPS")

Index = NDArray[np.int64]
Matrix = NDArray[np.floating]


def read_gmt(path: Path) -> dict[str, set[str]]:
    """Genes of each set; a line without two genes is left out, and of a first field `name,GENE` the gene is one too."""
    found = dict[str, set[str]]()
    for line in path.read_text(encoding="utf-8").splitlines():
        name, *fields = line.split("\t")
        first = name.rsplit("),", 1)[1:] if "),GO:" not in name else []
        genes = {field.split(",")[0].strip() for field in (first + fields) if field and "://" not in field} - {""}
        if len(genes) > 1:
            found[name] = genes
    return found


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Pairs of genes by the columns `gene_a` and `gene_b`; a line without two different genes is left out."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = {"gene_a", "gene_b"} - set(reader.fieldnames or ())
        if missing:
            raise SystemExit(f"{path}: has no column {' and no column '.join(sorted(missing))}")
        rows = [((row["gene_a"] or "").strip(), (row["gene_b"] or "").strip()) for row in reader]
    return [(a, b) for a, b in dict.fromkeys(rows) if a and b and a != b]


@dataclass(frozen=True, eq=False)
class Gold:
    """What is known of the function of genes.

    Attributes
    ----------
    terms
        Sets of genes for neighbour voting; none for a species without a file.
    pairs
        By name, pairs that belong together.
    directed
        Names of those whose first gene regulates the second.
    """

    terms: dict[str, set[str]]
    pairs: dict[str, list[tuple[str, str]]]
    directed: tuple[str, ...] = ("regulators",)

    @classmethod
    def read(cls, folder: Path, species: str) -> "Gold":
        """The files of a species, `human` or `mouse`."""
        terms = dict[str, set[str]]()
        for path in sorted(folder.glob(f"go_*_{species}_*.gmt")):
            terms |= read_gmt(path)
        (reactome,) = folder.glob(f"reactome_{species}_*.gmt")
        regulators = folder / f"collectri_{species}.csv"
        if not regulators.exists():
            regulators = folder / f"trrust_{species}.csv"
        pairs = {
            "complexes": read_pairs(folder / f"corum_pairs_{species}.csv"),
            "pathways": _within_sets(read_gmt(reactome)),
            "regulators": read_pairs(regulators),
        }
        return cls(terms, pairs)


def _within_sets(sets: dict[str, set[str]]) -> list[tuple[str, str]]:
    """All pairs of genes within one set of a size that says something."""
    low, high = PATHWAY_GENES
    kept = [sorted(genes) for genes in sets.values() if low <= len(genes) <= high]
    return sorted({(a, b) for genes in kept for i, a in enumerate(genes) for b in genes[i + 1 :]})


def is_ribosomal(gene: str) -> bool:
    """Whether a symbol is that of a protein of the ribosome, cytosolic or mitochondrial."""
    return gene.upper().startswith(RIBOSOME)


@dataclass(frozen=True, eq=False)
class Matched:
    """Positive pairs and matched negatives, (P, 2) each, as positions among the genes, and how many were left out."""

    positive: Index
    negative: Index
    left_out: int


def known_pairs(pairs: Sequence[tuple[str, str]], genes: Sequence[str], directed: bool) -> Index:
    """Pairs whose genes are both there, as positions, (P, 2), each once; undirected ones in ascending order."""
    place = {gene: number for number, gene in enumerate(genes)}
    found = [(place[a], place[b]) for a, b in pairs if a in place and b in place]
    ends = np.array(found, np.int64).reshape(-1, 2)
    return np.unique(ends if directed else np.sort(ends, axis=1), axis=0)


def match_negatives(positive: Index, expression: Matrix, directed: bool, rng: np.random.Generator) -> Matched:
    """Swap partners among genes of like expression.

    Parameters
    ----------
    positive : (P, 2)
        Each once, no gene with itself.
    expression : (G,)
        Mean of each gene.
    directed
        Whether the first gene stays first. Else the less expressed one is put first, so that no pair comes twice.
    """
    rank = rankdata(expression, method="ordinal").astype(np.int64) - 1
    known = np.zeros((rank.size, rank.size), bool)
    known[positive[:, 0], positive[:, 1]] = True
    taken = known | known.T
    if not directed:
        positive = np.where((rank[positive[:, 0]] < rank[positive[:, 1]])[:, None], positive, positive[:, ::-1])
        taken |= rank[:, None] >= rank
    np.fill_diagonal(taken, True)
    stratum = (rank * STRATA // rank.size)[positive]
    kept = [np.empty((0, 2), np.int64)]
    negative = kept.copy()
    for both in np.unique(stratum, axis=0):
        own, swapped = _swapped(positive[(stratum == both).all(axis=1)], taken, rng)
        kept, negative = [*kept, own], [*negative, swapped]
    found = np.concatenate(kept)
    return Matched(found, np.concatenate(negative), len(positive) - len(found))


def _swapped(own: Index, taken: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Index, Index]:
    """Pairs and what they are with swapped partners; those without a free place are left out, until all have one."""
    while len(own):
        first, at_first = np.unique(own[:, 0], return_inverse=True)
        second, at_second = np.unique(own[:, 1], return_inverse=True)
        state = np.where(taken[np.ix_(first, second)], FORBIDDEN, FREE)
        target, placed = swap_partners(at_first, at_second, state, rng)
        if placed.all():
            return own, np.stack([own[:, 0], second[target]], axis=1)
        own = own[placed]
    return own, own


# ── what scores are worth ────────────────────────────────────────────────────────────────────────────────────────────


def worth(score: Matrix, matched: Matched) -> dict[str, float | None]:
    """AUROC and average precision of positives against as many matched negatives; score is (G, G), row = first gene."""
    if not len(matched.positive):
        return {"auroc": None, "average_precision": None}
    pairs = np.concatenate([matched.positive, matched.negative])
    known, found = np.arange(len(pairs)) < len(matched.positive), filled(score)[pairs[:, 0], pairs[:, 1]]
    return {
        "auroc": float(roc_auc_score(known, found)),
        "average_precision": float(average_precision_score(known, found)),
    }


def filled(score: Matrix) -> Matrix:
    """Scores with the median where a pair has none."""
    return np.where(np.isnan(score), np.nanmedian(score), score)


def term_members(terms: dict[str, set[str]], genes: Sequence[str]) -> NDArray[np.bool_]:
    """Which genes are in each term that has enough of them and not too many, (T, G)."""
    low, high = TERM_GENES
    found = np.array([[gene in term for gene in genes] for term in terms.values()], bool).reshape(-1, len(genes))
    size = found.sum(axis=1)
    return found[(size >= low) & (size <= high)]


def deal_folds(members: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int8]:
    """The fold of each member of each term, (T, G); −1 where a gene is none."""
    fold = np.full(members.shape, -1, np.int8)
    for row, member in zip(fold, members, strict=True):
        own = np.flatnonzero(member)
        row[rng.permutation(own)] = np.arange(own.size) % FOLDS
    return fold


def neighbour_voting(score: Matrix, fold: NDArray[np.int8]) -> float | None:
    """Mean AUROC, over terms and folds, of finding a term's hidden genes by their neighbours (EGAD, Ballouz 2017).

    Scores (G, G) are replaced by their ranks, 0 to 1, as EGAD does; a gene's vote for a term is the sum of its weights
    to the term's other genes over the sum of all its weights. Hidden genes are set against those that are in no fold.
    """
    if not len(fold):
        return None
    upper = np.triu_indices(len(score), 1)
    weight = np.zeros(score.shape, np.float32)
    weight[upper] = rankdata(filled(score)[upper]) / upper[0].size
    weight += weight.T
    weight /= weight.sum(axis=1, keepdims=True)
    return float(np.mean([_hidden_found(weight, fold, number) for number in range(FOLDS)]))


def _hidden_found(weight: Matrix, fold: NDArray[np.int8], number: int) -> float:
    """Mean AUROC over terms with one fold hidden, by the sum of ranks."""
    hidden, shown = fold == number, (fold >= 0) & (fold != number)
    vote = weight @ shown.T.astype(np.float32)  # (G, T)
    vote[shown.T] = -1  # below all others, so their ranks are taken off
    rank = rankdata(vote, axis=0).T - shown.sum(axis=1, keepdims=True)
    positive, negative = hidden.sum(axis=1), (fold < 0).sum(axis=1)
    auroc = ((rank * hidden).sum(axis=1) - positive * (positive + 1) / 2) / (positive * negative)
    return float(auroc.mean())
