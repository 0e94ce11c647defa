"""Which rule pools data sets best: pairs within protein complexes against pairs matched in expression.

python -m benchmarks.pooling FOLDER [--work FOLDER] [--sets NAME,…] [--least-expressed 0.05] [--all-pairs]
                             [--negatives 6] [--seed 0] [--json FILE]
python -m benchmarks.pooling --speed 12x1000000

FOLDER holds `sets/NAME.h5ad` and `gold/corum_pairs_human.csv`, `gold/human_mouse_orthologs_ensembl105.csv`. Of the
complexes those are taken, largest first, of which 30 pairs or more are measured in half of the sets, and that share few
genes with one taken before. Each positive (a, b) gets negatives (a, x) and (x, b): x makes no known complex with the
gene that stays, and as many cells express it in each set as the gene it stands for, missing sets included. Every set
scores these pairs with the universal network, and `pairscape combine` pools the files by each rule, and by weights that
it learns on the pairs of all other complexes, with neither gene of a pair in training. With --all-pairs every set
scores all pairs of their genes, which `--rule factors` needs; --least-expressed (a share of the cells, in the mean over
sets) makes them fewer.

Told of each set and rule: the mean over complexes of the AUROC and the average precision of a complex's positives among
its own negatives, by the signed score; and its difference to the mean z with a 95 % interval, by a bootstrap over
complexes. WORK keeps the scores of the sets, which a second call takes as they are.

With --speed: seconds and memory of pooling so many files of so many random pairs of 2,000 genes.
"""

import argparse
import csv
import itertools
import json
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

import pairscape
from pairscape.model.edges.scores import write_scores

SETS = (
    "celltypist_sample", "human_ipsc_cardio_day2", "human_melanoma_tcell_sadefeldman", "kang_pbmc_ifnb_2800",
    "mouse_cortex_zeisel_550", "mouse_enterocyte_moor", "mouse_intestine_grun", "mouse_spleen_jaitin", "pbmc3k",
    "pbmc_facs_zheng", "pbmc_sorted_reference", "pdac_moncada",
)  # fmt: skip
LEAST_PAIRS, MOST_PAIRS = 30, 150  # of a complex
MOST_SHARED = 0.25  # of a complex's genes with those taken before
ALIKE = 60  # genes that may stand for another
UNMEASURED = -0.5  # in place of a gene's rank by expression
RESAMPLES = 4000  # of complexes


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
    def of(cls, sets: dict[str, Path], human: dict[str, str], least: float) -> "Measured":
        """Read it off the files, for genes that a share of the cells expresses in the mean over sets."""
        found = [expressed(path, human) for path in sets.values()]
        genes = sorted({gene for one in found for gene in one})
        share = np.array([[one.get(gene, np.nan) for one in found] for gene in genes])
        kept = (~np.isnan(share)).sum(1) * 2 >= len(sets)
        kept[kept] = np.nanmean(share[kept], axis=1) >= least
        return cls(tuple(np.array(genes)[kept].tolist()), share[kept])

    def alike(self) -> dict[str, list[str]]:
        """Of each gene those that as many cells express in each set, and that the same sets measure."""
        rank = np.nan_to_num(rankdata(self.share, axis=0, nan_policy="omit") / len(self.genes), nan=UNMEASURED)
        nearest = (
            NearestNeighbors(n_neighbors=min(ALIKE + 1, len(self.genes)))
            .fit(rank)
            .kneighbors(rank, return_distance=False)
        )
        return {
            gene: [self.genes[i] for i in row if self.genes[i] != gene]
            for gene, row in zip(self.genes, nearest, strict=True)
        }


def read_complexes(path: Path, known: set[str]) -> tuple[dict[str, list[tuple[str, str]]], ...]:
    """Measured pairs of complexes to judge by, with enough of them and unlike earlier ones, and of all others."""
    found = defaultdict[str, list[tuple[str, str]]](list)
    with path.open(encoding="utf-8") as file:
        for a, b, name in list(csv.reader(file))[1:]:
            if a in known and b in known:
                found[name].append((a, b))
    taken, rest, seen = dict[str, list[tuple[str, str]]](), dict[str, list[tuple[str, str]]](), set[str]()
    for name, pairs in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
        genes = {gene for pair in pairs for gene in pair}
        if len(pairs) >= LEAST_PAIRS and len(genes & seen) <= MOST_SHARED * len(genes):
            taken[name] = pairs
            seen |= genes
        else:
            rest[name] = pairs
    return taken, rest


def choose_pairs(
    complexes: dict[str, list[tuple[str, str]]],
    alike: dict[str, list[str]],
    per_positive: int,
    used: set[frozenset[str]],
    rng: np.random.Generator,
) -> list[GoldPair]:
    """Positives of each complex, and negatives in which a gene like it stands for one of the two.

    `used` are pairs that are no negatives; those that are drawn go there too.
    """
    chosen = list[GoldPair]()
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


# ── scores and figures ───────────────────────────────────────────────────────────────────────────────────────────────


def score_sets(sets: dict[str, Path], listed: Sequence[tuple[str, str]], orthologues: Path, work: Path) -> list[Path]:
    """A file of scores of each set, by the universal network; what is there already stays."""
    files = [work / f"{name}.parquet" for name in sets]
    for path, out in zip(sets.values(), files, strict=True):
        if not out.exists():
            pairscape.predict("universal", path, out, pairs=listed, gene_map=orthologues, min_matched=0,
                              q_values=False, scheduler="synchronous", quiet=True)  # fmt: skip
    return files


def pooled(files: Sequence[Path], gold: Path, orthologues: Path, work: Path, *, every: bool) -> dict[str, Path]:
    """A file of scores of each rule, and of the learned weights."""
    rules = ("mean-z", "mean-rank", "log-odds", *(("factors",) if every else ()))
    asked: dict[str, dict[str, Any]] = {rule: {"rule": rule} for rule in rules}
    asked["learned"] = {"learn": gold}
    found = {name: work / f"pooled-{name}.parquet" for name in asked}
    mouse = any(file.stem.startswith("mouse") for file in files)
    for name, options in asked.items():
        pairscape.combine(*files, found[name], gene_map=orthologues if mouse else None, overwrite=True, quiet=True,
                          **options)  # fmt: skip
    return found


def signed(path: Path, pairs: Sequence[GoldPair], human: dict[str, str], by: str) -> NDArray[np.float64]:
    """(P,) signed score of each pair in a file, 0 where it is not; of one set the correlation."""
    signs = {"set": "correlation", "learned": "score", "factors": "factor_correlation"}
    wanted = {frozenset((pair.gene_a, pair.gene_b)) for pair in pairs}
    value = dict[frozenset[str], float]()
    for block in pq.ParquetFile(path).iter_batches():
        ends = ([human.get(name, name) for name in block[end].to_pylist()] for end in ("gene_a", "gene_b"))
        sign = np.sign(np.asarray(block[signs.get(by, "mean_z")]))
        size = np.abs(np.asarray(block["correlation" if by == "set" else "score"]))
        for a, b, score in zip(*ends, (sign * size).tolist(), strict=True):
            if (genes := frozenset((a, b))) in wanted:
                value[genes] = score
    return np.array([value.get(frozenset((pair.gene_a, pair.gene_b)), 0.0) for pair in pairs])


def by_complex(pairs: Sequence[GoldPair], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(complexes, 2): AUROC and average precision within each."""
    name, positive = np.array([pair.complex for pair in pairs]), np.array([pair.positive for pair in pairs])
    rows = [np.flatnonzero(name == one) for one in dict.fromkeys(name.tolist())]
    return np.array([
        [figure(positive[some], scores[some]) for figure in (roc_auc_score, average_precision_score)] for some in rows
    ])  # fmt: skip


def figures(found: dict[str, NDArray[np.float64]], seed: int) -> list[dict[str, Any]]:
    """A row for each scorer: means over complexes, and AUROC less that of the mean z with its interval."""
    base = found["mean-z"][:, 0]
    drawn = np.random.default_rng(seed).integers(base.size, size=(RESAMPLES, base.size))
    table = []
    for name, values in found.items():
        less = values[:, 0] - base
        low, high = np.quantile(less[drawn].mean(axis=1), [0.025, 0.975])
        auroc, precision = values.mean(axis=0).tolist()
        table.append({"scorer": name, "complexes": base.size, "auroc": auroc, "average_precision": precision,
                      "less_mean_z": float(less.mean()), "low": float(low), "high": float(high)})  # fmt: skip
    return table


def tell(table: Sequence[dict[str, Any]]) -> None:
    """Print it."""
    print(f"{table[0]['complexes']} complexes; macro AUROC, average precision, AUROC less mean z [95 % interval]")
    for row in table:
        print(f"{row['scorer']:34s} {row['auroc']:.3f}  {row['average_precision']:.3f}  {row['less_mean_z']:+.3f} "
              f"[{row['low']:+.3f}, {row['high']:+.3f}]")  # fmt: skip


def measure(
    folder: Path,
    names: Sequence[str],
    work: Path,
    *,
    negatives: int = 6,
    seed: int = 0,
    least: float = 0.05,
    every: bool = False,
) -> list[dict[str, Any]]:
    """All of it; a row for each set and rule."""
    gold, orthologues = folder / "gold/corum_pairs_human.csv", folder / "gold/human_mouse_orthologs_ensembl105.csv"
    human, sets = read_orthologues(orthologues), {name: folder / f"sets/{name}.h5ad" for name in names}
    measured = Measured.of(sets, human, least)
    judged, others = read_complexes(gold, set(measured.genes))
    with gold.open(encoding="utf-8") as file:
        used = {frozenset(row[:2]) for row in csv.reader(file)}
    alike, rng = measured.alike(), np.random.default_rng(seed)
    pairs = choose_pairs(judged, alike, negatives, used, rng)
    number = len(pairs)
    pairs += choose_pairs(others, alike, negatives // 2, used, rng)
    with (work / "gold.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(pair.gene_a, pair.gene_b, pair.complex, int(pair.positive)) for pair in pairs]
        csv.writer(file, lineterminator="\n").writerows([("gene_a", "gene_b", "complex", "label"), *rows])
    genes = sorted({name for pair in pairs for name in (pair.gene_a, pair.gene_b)})
    listed = list(itertools.combinations(genes, 2)) if every else [(pair.gene_a, pair.gene_b) for pair in pairs]
    files = score_sets(sets, listed, orthologues, work)
    pairs = pairs[:number]
    found = {name: by_complex(pairs, signed(path, pairs, human, "set")) for name, path in zip(sets, files, strict=True)}
    for rule, path in pooled(files, work / "gold.csv", orthologues, work, every=every).items():
        found[rule] = by_complex(pairs, signed(path, pairs, human, rule))
    return figures(found, seed)


# ── speed ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_random(path: Path, n_pairs: int, n_genes: int, seed: int) -> None:
    """A file of scores of random pairs."""
    rng, names = np.random.default_rng(seed), pa.array([f"GENE{i}" for i in range(n_genes)])
    a, b = np.triu_indices(n_genes, 1)
    kept = np.sort(rng.choice(a.size, min(n_pairs, a.size), replace=False))
    ends = {"gene_a": a[kept].astype(np.int32), "gene_b": b[kept].astype(np.int32)}
    rho = rng.normal(0, 0.05, kept.size).astype(np.float32)
    found: dict[str, Any] = {name: pa.DictionaryArray.from_arrays(pa.array(end), names) for name, end in ends.items()}
    found |= {"label": np.full(kept.size, -1, np.int8), "score": rng.random(kept.size, np.float32)}
    found |= {"dependence": np.abs(rho) * 30, "correlation": rho}
    facts = {"model": {"weights": "random"}, "matrix": {"n_cells": 1000 + seed}, "prior": 0.5, "pairs": {}}
    table = pa.table(found)
    write_scores(path, [table.slice(at, 2**20) for at in range(0, kept.size, 2**20)], table.column_names, facts)


def measure_speed(work: Path, sets: int, n_pairs: int, n_genes: int = 2000) -> dict[str, float]:
    """Seconds of pooling random files, pairs that came of it, and the most memory of this process, in GB."""
    files = [work / f"random-{number}.parquet" for number in range(sets)]
    for number, path in enumerate(files):
        write_random(path, n_pairs, n_genes, number)
    started = time.perf_counter()
    pairscape.combine(*files, work / "pooled.parquet", quiet=True)
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": seconds, "pairs": pq.ParquetFile(work / "pooled.parquet").metadata.num_rows, "memory_gb": memory}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--speed")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--least-expressed", type=float, default=0.05)
    parser.add_argument("--all-pairs", action="store_true")
    parser.add_argument("--negatives", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        if given.speed is not None:
            print(measure_speed(work, *map(int, given.speed.split("x"))))
            return
        table = measure(given.folder, given.sets.split(","), work, negatives=given.negatives, seed=given.seed,
                        least=given.least_expressed, every=given.all_pairs)  # fmt: skip
    tell(table)
    if given.json is not None:
        given.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
