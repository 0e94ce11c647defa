"""The images of all data sets as channels of one network, beside the pooled scores of the sets.

python -m benchmarks.channels FOLDER WORK [--sets NAME,…] [--network pairnet|moments|linear] [--judge] [options]

FOLDER and WORK as of `benchmarks.pooling --work WORK`, which is run before: its pairs, complexes and sets. The pairs
are counted in every set, 16 x 16 bins. Channels of one image are the residuals beyond independence in
all sets (`pairnet`), or one vector has the rank moments of all sets (`moments`: two dense layers, `linear`: none); 0
where a set does not measure a gene. The network learns to put pairs of complexes before negatives that share a gene
with them. Complexes are scored in units, by a network that saw no pair with a gene of the unit.

Told is the mean over complexes of the AUROC of the positives among their own negatives, and its difference to the
mean z: of the complexes that `benchmarks.pooling` does not judge, by which recipes are chosen, or with --judge of the
others.
"""

import argparse
import csv
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import pairscape
from benchmarks.pooling import SETS, GoldPair, by_complex, figures, read_orthologues, signed, tell
from pairscape.model.networks.momentnet import log_scales, rank_moments
from pairscape.model.networks.pairnet import PairNet
from pairscape.model.networks.render import independence_residual
from pairscape.model.prediction.learned import Gold, compared
from pairscape.pipeline.heatmaps.images import open_images

BINS = 16
UNITS = 22  # of the complexes that are scored
LEAST = 10  # positives of a complex by which a recipe is chosen
BATCH = 256
READ = 8192  # images at a time

Listed = Sequence[tuple[str, str]]
Rows = NDArray[np.intp]
Reals = NDArray[np.float64]


def read_gold(path: Path) -> list[GoldPair]:
    """Pairs of complexes as `benchmarks.pooling` wrote them, those of the judged complexes first."""
    with path.open(encoding="utf-8") as file:
        return [GoldPair(*sorted((row["gene_a"], row["gene_b"])), row["complex"], row["label"] == "1")
                for row in csv.DictReader(file)]  # fmt: skip


def count(path: Path, listed: Listed, orthologues: Path, scratch: Path) -> Iterator[tuple[Rows, Tensor]]:
    """Rows of the pairs that a set measures, and their counts (B, BINS, BINS) with the first gene along the columns."""
    mouse, out = path.stem.startswith("mouse"), scratch / f"{path.stem}.zarr"
    pairscape.heatmaps(path, out, pairs=listed, gene_map=orthologues if mouse else None, min_matched=0, bins=BINS,
                       scale="rank", scheduler="synchronous", quiet=True)  # fmt: skip
    images = open_images(out)
    human = read_orthologues(orthologues) if mouse else {}
    gene = np.array([human.get(name, name) for name in images.array("gene").tolist()])
    row, first = images.list_row(), images.array("gene_a")
    assert row is not None
    for start in range(0, row.size, READ):
        some = slice(start, min(start + READ, row.size))
        counts = torch.from_numpy(images.counts(some).astype(np.float32))
        turned = torch.from_numpy(gene[first[some]] != np.array([listed[at][0] for at in row[some].tolist()]))
        yield row[some].astype(np.intp), torch.where(turned[:, None, None], counts.mT, counts)


def moments(counts: Tensor) -> Tensor:
    """Rank moments and their squares on log scales, (B, K, K) to (B, 2 m, m)."""
    return torch.cat(log_scales(rank_moments(counts)), dim=1)


def residuals(counts: Tensor) -> Tensor:
    """Residuals beyond independence on a log scale, in half of the bins, (B, K, K) to (B, K / 2, K / 2)."""
    halved = functional.avg_pool2d(counts[:, None], 2)[:, 0] * 4
    found = independence_residual(halved)
    return found.sign() * found.abs().log1p()


def read_channels(
    sets: Sequence[Path], listed: Listed, orthologues: Path, render: Callable[[Tensor], Tensor]
) -> Tensor:
    """What is drawn of every pair in every set, (P, sets, …) float16; 0 where a set does not measure it."""
    size = render(torch.ones(1, BINS, BINS)).shape[1:]
    found = torch.zeros(len(listed), len(sets), *size, dtype=torch.float16)
    with tempfile.TemporaryDirectory() as scratch:
        for k, path in enumerate(sets):
            for rows, counts in count(path, listed, orthologues, Path(scratch)):
                found[rows, k] = render(counts).half()
    return found


# ── learning ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def build(network: str, shape: Sequence[int], hidden: int) -> nn.Module:
    """A network from (B, sets, H, W) to (B, 1)."""
    n_sets, size = shape[0], int(np.prod(shape))
    if network == "pairnet":
        return PairNet(n_sets, shape[1], 1)
    head: list[nn.Module] = [nn.Linear(size, 1)]
    if network == "moments":
        head = [nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, 1)]
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(size, affine=False), *head)


def fit(x: Tensor, ahead: Rows, behind: Rows, given: argparse.Namespace) -> nn.Module:
    """Train a network so that positives come before negatives of the same gene."""
    torch.manual_seed(given.seed)
    rng = np.random.default_rng(given.seed)
    network = build(given.network, x.shape[1:], given.hidden)
    optimizer = torch.optim.AdamW(network.parameters(), lr=given.rate, weight_decay=given.decay)
    for _ in range(given.epochs):
        network.train()
        order = rng.permutation(ahead.size)
        for start in range(0, order.size - BATCH + 1, BATCH):
            some = order[start : start + BATCH]
            images = torch.cat([x[ahead[some]], x[behind[some]]]).float()
            if given.network == "pairnet" and rng.random() < 0.5:
                images = images.mT
            odds = network(images)[:, 0]
            loss = functional.softplus(odds[BATCH:] - odds[:BATCH]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def numbered(pairs: Sequence[GoldPair], judged: int, judge: bool) -> tuple[Gold, list[str]]:
    """Pairs by the numbers of their genes and complexes, in units; −1 is the unit of those that are only learned."""
    gene = {name: at for at, name in enumerate(sorted({name for pair in pairs for name in (pair.gene_a, pair.gene_b)}))}
    names = list(dict.fromkeys(pair.complex for pair in pairs))
    positives = Counter(pair.complex for pair in pairs if pair.positive)
    scored = names[:judged] if judge else [name for name in names[judged:] if positives[name] >= LEAST]
    load, unit = np.zeros(UNITS), dict.fromkeys(names, -1)
    for name in sorted(scored, key=lambda name: -positives[name]):
        unit[name] = int(np.argmin(load))
        load[unit[name]] += positives[name]
    columns = [[gene[pair.gene_a] for pair in pairs], [gene[pair.gene_b] for pair in pairs], range(len(pairs)),
               [pair.positive for pair in pairs], [names.index(pair.complex) for pair in pairs],
               [unit[pair.complex] for pair in pairs]]  # fmt: skip
    return Gold(*(np.array(column, np.int64) for column in columns)), scored


def scores(x: Tensor, at: Rows, gold: Gold, given: argparse.Namespace) -> Reals:
    """(P,) scores of the pairs that are in units, by networks that saw neither gene; NaN of the others."""
    found, rng = np.full(gold.key.size, np.nan), np.random.default_rng(given.seed)
    for train, test in gold.splits():
        if gold.unit[test[0]] >= 0:
            ahead, behind = compared(gold.take(train), rng)
            network = fit(x, at[train[ahead]], at[train[behind]], given)
            with torch.inference_mode():
                parts = [network(x[rows].float())[:, 0] for rows in np.array_split(at[test], -(-test.size // READ))]
            found[test] = torch.cat(parts).numpy()
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--judged", type=int, required=True, help="complexes that benchmarks.pooling judges")
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("--network", default="pairnet", choices=("pairnet", "moments", "linear"))
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    orthologues = given.folder / "gold/human_mouse_orthologs_ensembl105.csv"
    pairs, sets = read_gold(given.work / "gold.csv"), given.sets.split(",")
    listed = list(dict.fromkeys((pair.gene_a, pair.gene_b) for pair in pairs))
    place = {pair: row for row, pair in enumerate(listed)}
    at = np.array([place[pair.gene_a, pair.gene_b] for pair in pairs])
    render = residuals if given.network == "pairnet" else moments
    x = read_channels([given.folder / f"sets/{name}.h5ad" for name in sets], listed, orthologues, render)
    gold, scored = numbered(pairs, given.judged, given.judge)
    started = time.perf_counter()
    rows = np.flatnonzero(gold.unit >= 0)
    some = [pairs[row] for row in rows]
    mean_z = signed(given.work / "pooled-mean-z.parquet", some, read_orthologues(orthologues), "mean-z")
    found = {"mean-z": by_complex(some, mean_z), given.network: by_complex(some, scores(x, at, gold, given)[rows])}
    print(f"{len(scored)} complexes, {len(sets)} sets, {time.perf_counter() - started:.0f} s")
    tell(figures(found, given.seed))


if __name__ == "__main__":
    main()
