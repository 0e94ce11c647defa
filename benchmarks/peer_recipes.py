"""What `benchmarks.peers` runs of each peer, as its users do, with the Python of an environment that has the package.

python peer_recipes.py NAME COUNTS.h5ad REGULATORS.txt THREADS SECONDS

COUNTS has X as CSR of raw counts, REGULATORS a number of a gene a line. Recipes that go pair by pair, or target by
target, stop after so many seconds and tell the share that they did of a random order. Prints a line of JSON: pairs that
a whole run gives, seconds of the imports and of the work, and the share done. It imports nothing of Pairscape.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, NamedTuple

import h5py
import numpy as np
from scipy import sparse

NEIGHBOURS, COMPONENTS = 30, 20
EXACT_CELLS = 10_000  # up to which Hotspot looks at all cells for neighbours
ROUNDS = 5  # of weighted least squares
MOST_SAMPLED = 100_000
BINS = 32


class Done(NamedTuple):
    """Pairs that a whole run gives, and how much of it was done."""

    pairs: int
    share: float = 1.0


@dataclass(frozen=True)
class Cells:
    """Raw counts, (N, G) float32; numbers of the regulators; threads; seconds after which a sample ends."""

    counts: sparse.csr_matrix
    regulators: np.ndarray
    threads: int
    seconds: float

    def logs(self) -> sparse.csr_matrix:
        """Logarithms of counts per 10,000, (N, G) float32."""
        found = self.counts.copy()
        depth = np.asarray(self.counts.sum(axis=1)).ravel()
        found.data = np.log1p(found.data * np.repeat(1e4 / depth, np.diff(found.indptr))).astype(np.float32)
        return found

    @property
    def expressed(self) -> np.ndarray:
        """Numbers of the genes that have a count."""
        return np.flatnonzero(self.counts.getnnz(axis=0))

    @property
    def names(self) -> list[str]:
        """Of the genes."""
        return [f"g{number}" for number in range(self.counts.shape[1])]

    @property
    def candidates(self) -> int:
        """Regulators × genes, none with itself."""
        return self.regulators.size * (self.counts.shape[1] - 1)


def read(counts: str, regulators: str, threads: int, seconds: float) -> Cells:
    """The matrix and its regulators."""
    with h5py.File(counts) as file:
        x = file["X"]
        made = sparse.csr_matrix((x["data"][:], x["indices"][:], x["indptr"][:]), shape=x.attrs["shape"])
    return Cells(made, np.loadtxt(regulators, dtype=int, ndmin=1), threads, seconds)


# ── packages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def rustscenic() -> Callable[[Cells], Done]:
    """GRNBoost2, written in Rust: regulators × genes. Edges without importance are not among those that it gives."""
    from rustscenic import grn

    def work(cells: Cells) -> Done:
        names = cells.names
        grn.infer((cells.logs(), names), [names[number] for number in cells.regulators], seed=0, verbose=False)
        return Done(cells.candidates)

    return work


def hotspot() -> Callable[[Cells], Done]:
    """Local correlations of all pairs, over neighbours by principal components of log expression."""
    import anndata
    from hotspot import Hotspot
    from sklearn.decomposition import TruncatedSVD

    def work(cells: Cells) -> Done:
        kept = cells.expressed
        made = anndata.AnnData(cells.counts[:, kept])
        most = min(COMPONENTS, kept.size - 1)
        made.obsm["components"] = TruncatedSVD(most, random_state=0).fit_transform(cells.logs())
        made.obs["depth"] = np.asarray(cells.counts.sum(axis=1)).ravel()
        found = Hotspot(made, model="danb", latent_obsm_key="components", umi_counts_obs_key="depth")
        near = cells.counts.shape[0] > EXACT_CELLS
        found.create_knn_graph(weighted_graph=False, n_neighbors=NEIGHBOURS, approx_neighbors=near)
        found.compute_local_correlations(list(made.var_names), jobs=cells.threads)
        return Done(kept.size * (kept.size - 1) // 2)

    return work


def regdiffusion() -> Callable[[Cells], Done]:
    """A diffusion model whose weights are the network: all genes × all genes, with its own settings."""
    import regdiffusion as package
    import torch

    def work(cells: Cells) -> Done:
        torch.set_num_threads(cells.threads)
        trainer = package.RegDiffusionTrainer(cells.logs()[:, cells.expressed], device="cpu", seed=0)
        trainer.train()
        genes = len(trainer.get_adj())
        return Done(genes * (genes - 1))

    return work


def arboreto() -> Callable[[Cells], Done]:
    """GRNBoost2 as its package runs it: regulators × genes, on a local Dask cluster."""
    from arboreto.algo import grnboost2
    from distributed import Client, LocalCluster

    def work(cells: Cells) -> Done:
        names = cells.names
        chosen = [names[number] for number in cells.regulators]
        with (
            LocalCluster(cells.threads, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as on,
        ):
            grnboost2(cells.logs().toarray(), gene_names=names, tf_names=chosen, client_or_address=on, seed=0)
        return Done(cells.candidates)

    return work


# ── recipes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def grnboost2_core() -> Callable[[Cells], Done]:
    """What arboreto does for each target: boosted trees on the regulators, with the settings of GRNBoost2."""
    from sklearn.ensemble import GradientBoostingRegressor

    def work(cells: Cells) -> Done:
        logs = cells.logs().tocsc()
        features = logs[:, cells.regulators].toarray()

        def fit(target: int) -> None:
            others = features[:, cells.regulators != target]
            trees = GradientBoostingRegressor(
                learning_rate=0.01, n_estimators=5000, max_features=0.1, subsample=0.9, random_state=0
            )
            trees.fit(others, logs[:, [target]].toarray().ravel(), monitor=no_gain)

        return Done(cells.candidates, in_turns(fit, cells.counts.shape[1], cells))

    return work


def no_gain(tree: int, trees: Any, _: object) -> bool:
    """Whether the last 25 trees together have improved nothing on the cells that they were not shown."""
    return tree >= 24 and float(trees.oob_improvement_[tree - 24 : tree + 1].mean()) < 0


def cscore() -> Callable[[Cells], Done]:
    """CS-CORE's statistic, regulators × genes, with its weighted least squares, on the whole dense matrix at once."""

    def work(cells: Cells) -> Done:
        x = cells.counts.toarray()
        depth = x.sum(axis=1)[:, None]
        depth /= depth.mean()
        weight = np.ones_like(x)
        for _ in range(ROUNDS):
            mean = (depth * weight * x).sum(axis=0) / (depth**2 * weight).sum(axis=0)
            weight **= 2
            beyond = (x - depth * mean) ** 2 - depth * mean
            excess = np.maximum((depth**2 * weight * beyond).sum(axis=0) / (depth**4 * weight).sum(axis=0), 0)
            weight = 1 / np.maximum(depth * mean + depth**2 * excess, 1e-9)
        scaled, square = (x - depth * mean) * depth * weight, depth**2 * weight
        own = cells.regulators
        z = (scaled[:, own].T @ scaled) / np.sqrt(square[:, own].T @ square)
        return Done(z.size - own.size)

    return work


def cnnc() -> Callable[[Cells], Done]:
    """An image of each pair by `np.histogram2d`, from a dense matrix, as CNNC makes it."""

    def work(cells: Cells) -> Done:
        dense = np.ascontiguousarray(cells.counts.T.toarray())
        genes = dense.shape[0]

        def image(pair: int) -> None:
            cnnc_image(dense[cells.regulators[pair // genes]], dense[pair % genes])

        return Done(cells.candidates, in_turns(image, cells.regulators.size * genes, cells))

    return work


def cnnc_image(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """CNNC's image of a pair."""
    counts = np.histogram2d(np.log10(x + 1e-2), np.log10(y + 1e-2), bins=BINS)[0].T
    return np.asarray((np.log10(counts / x.size + 1e-4) + 4) / 4)


def in_turns(work: Callable[[int], None], number: int, cells: Cells) -> float:
    """The share of so many items that was done in the seconds there are, by forks of this process, in random order."""
    items = random.Random(0).sample(range(number), min(number, MOST_SAMPLED))
    own = [items[first :: cells.threads] for first in range(cells.threads)]
    forks = get_context("fork")
    done = forks.Array("q", cells.threads)

    def some(which: int) -> None:
        until = time.monotonic() + cells.seconds
        for item in own[which]:
            work(item)
            done[which] += 1
            if time.monotonic() > until:
                return

    started = [forks.Process(target=some, args=(which,)) for which in range(cells.threads)]
    for fork in started:
        fork.start()
    for fork in started:
        fork.join()
    if any(fork.exitcode for fork in started):
        raise SystemExit("a process that does the items failed")
    return sum(done) / number


RECIPES = {
    make.__name__: make for make in (rustscenic, hotspot, regdiffusion, arboreto, grnboost2_core, cscore, cnnc)
}  # fmt: skip


def main() -> None:
    """Run one and print what it did."""
    started = time.perf_counter()
    _, name, counts, regulators, threads, seconds = sys.argv
    work = RECIPES[name]()
    imported = time.perf_counter()
    done = work(read(counts, regulators, int(threads), float(seconds)))
    spent = {"import_seconds": imported - started, "work_seconds": time.perf_counter() - imported}
    print(json.dumps(done._asdict() | spent))


if __name__ == "__main__":
    main()
