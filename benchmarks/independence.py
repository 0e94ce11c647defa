"""Is a pair of genes dependent: a network of any data sets beside the classical tests, on data sets that it never saw.

python -m benchmarks.independence RUN --sets FOLDER [FOLDER …] [--cells 350,1500] [--strength 0.1:0.4] [--pairs 5000]
    [--expressing 20] [--seeds 0,1,2] [--turned 0] [--without MGC,…] [--json FILE] [--plot docs/independence.png]

A FOLDER has `NAME.h5ad`; where its README.md has a table of sets with roles, those of role test are taken. The sets
beside it that have no such table, `../pbmc4k` and `../mesc_hayashi`, are test sets too. A single file may be given
as well. Each is read and normalised as `pairscape ingest` does.

Of every set, number of cells (all, if there are fewer), strength and seed, cells are drawn at random, and pairs of
genes that at least 20 of them express, or as `--expressing` says: cells, or below 1 a share of them. Half of the pairs
are independent; in the others one gene's values are dealt anew so that it depends on the other (`pairscape plant`), by
the six kinds in equal shares, each at a strength of its own within the range. As many independent pairs more are
decoys. Images are drawn with the run's rule and bins.

Told of each test: AUROC of all kinds and of each against the independent pairs; power where the decoys promise a false
discovery rate of 5 % among the pairs, and the rate that came of it; microseconds a pair (one thread). Of a network of
kinds: how often the kind of a dependent pair is named right. Tests that are slow take fewer pairs, and `pairs` says so.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import sparse
from sklearn.metrics import roc_auc_score

from benchmarks.classical import CLASSICAL, MOST, Sample
from pairscape.model.networks.classifier import TrainedNetwork, score_images
from pairscape.model.networks.fast import prepare
from pairscape.pipeline.datasets.columns import column_of
from pairscape.pipeline.datasets.designs import Planting
from pairscape.pipeline.datasets.planted import Deal, draw_forms, split_types
from pairscape.pipeline.datasets.responses import plant
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.heatmaps.drawn import draw_images
from pairscape.pipeline.matrix.prepare import prepared
from pairscape.pipeline.options import Binning

NEIGHBOURS = ("pbmc4k/pbmc4k_raw.h5ad", "mesc_hayashi/NormalizedData.csv")
LEAST_CELLS = 20  # that express a gene
LEVEL = 0.05
AT_ONCE = 500  # pairs whose values are laid out together
NETWORK = "network"
ALL = "all kinds"


@dataclass(frozen=True)
class Condition:
    """What one test is of."""

    name: str
    cells: int
    strength: str
    seed: int


def held_out(places: Sequence[Path]) -> dict[str, Path]:
    """Files of the sets by name."""
    found = dict[str, Path]()
    for place in places:
        if place.is_file():
            found[place.stem] = place
            continue
        readme = place / "README.md"
        table = readme.read_text(encoding="utf-8") if readme.is_file() else ""
        named = re.findall(r"^\| `(\w+)` \| \*\*test\*\* \|", table, re.MULTILINE)
        found |= {name: place / f"{name}.h5ad" for name in named or [file.stem for file in place.glob("*.h5ad")]}
        beside = [place.parent / name for name in NEIGHBOURS] if named else []
        found |= {file.parent.name: file for file in beside if file.is_file()}
    return dict(sorted(found.items()))


def read_set(path: Path, scratch: Path) -> sparse.csr_matrix:
    """(N, G) log expression of a file, as `ingest` makes it."""
    matrix = prepared(path, scratch / f"{path.stem}.zarr", compute=None, say=lambda *_: None)
    return matrix.rows(0, matrix.n_cells)


# ── pairs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Dealt:
    """Pairs of a condition, kinds in turns; the decoys come after them.

    Attributes
    ----------
    sample
        Candidates and decoys.
    kind : (P,) int64
        Of each candidate, as a position in `KINDS`.
    """

    sample: Sample
    kind: NDArray[np.int64]


@dataclass(frozen=True)
class Design:
    """How pairs are planted: how many, over genes that so many cells, or below 1 such a share, express, some turned."""

    pairs: int
    expressing: float = LEAST_CELLS
    turned: float = 0.0

    def genes(self, expression: sparse.csc_matrix, name: str) -> NDArray[np.int64]:
        """Genes that enough cells of (N, G) express."""
        least = self.expressing * expression.shape[0] if self.expressing < 1 else self.expressing
        least = max(least, LEAST_CELLS)
        genes = np.flatnonzero(np.diff(expression.indptr) >= least)
        if genes.size < 2:
            raise SystemExit(f"{name}: {genes.size} genes are expressed in {least:g} of {expression.shape[0]} cells")
        return genes


def deal(expression: sparse.csr_matrix, condition: Condition, design: Design, binning: Binning) -> Dealt:
    """Plant pairs over the genes of some cells of a set."""
    rng, pairs = np.random.default_rng(condition.seed), design.pairs
    chosen = np.sort(rng.choice(expression.shape[0], condition.cells, replace=False))
    columns = sparse.csc_matrix(expression[chosen])
    genes = design.genes(columns, condition.name)
    kind = np.arange(pairs) % (2 * (len(KINDS) - 1))
    kind = np.where(kind % 2, 0, kind // 2 + 1)  # every other pair is independent
    kind = np.concatenate([kind, np.zeros(pairs // 2, np.int64)])
    first = rng.integers(genes.size, size=kind.size)
    ends = np.stack([genes[first], genes[(first + rng.integers(1, genes.size, kind.size)) % genes.size]])
    low, _, high = condition.strength.partition(":")
    kinds, strengths = ",".join(KINDS[1:]), f"{low}:{high or low}"
    planting = Planting(kinds, max(pairs, 11), strengths, turned=design.turned)
    nothing = np.empty(0, np.int64)
    forms = draw_forms(Deal(nothing, nothing, nothing, np.maximum(kind - 1, 0)), planting, rng)
    shape = (kind.size, condition.cells)
    a, b = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for row, (one, other) in enumerate(ends.T.tolist()):
        a[row], values = column_of(columns, one), np.sort(column_of(columns, other))
        types = split_types(condition.cells, rng)
        b[row] = plant(a[row], values, forms[row], types, rng) if kind[row] else rng.permutation(values)
    swapped = rng.random(kind.size) < 0.5  # either gene may be the driver
    a[swapped], b[swapped] = b[swapped].copy(), a[swapped].copy()
    parts = [draw_images(a[i : i + AT_ONCE], b[i : i + AT_ONCE], binning) for i in range(0, kind.size, AT_ONCE)]
    counts, both_zero = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Dealt(Sample(a, b, counts, both_zero), kind[:pairs])


# ── what the scores are worth ────────────────────────────────────────────────────────────────────────────────────────


def worth(score: NDArray[np.floating], kind: NDArray[np.int64], decoy: NDArray[np.floating]) -> dict[str, Any]:
    """AUROC by kind, and power at a false discovery rate that the decoys promise."""
    none = kind == 0
    found: dict[str, Any] = {ALL: float(roc_auc_score(~none, score))}
    for number, name in enumerate(KINDS[1:], 1):
        some = none | (kind == number)
        found[name] = float(roc_auc_score(kind[some] > 0, score[some])) if (kind == number).any() else None
    called = score >= _threshold(score, decoy, none.sum())
    found["power"] = float(called[~none].mean())
    found["realised_fdr"] = float((called & none).sum() / max(called.sum(), 1))
    return found


def _threshold(score: NDArray[np.floating], decoy: NDArray[np.floating], independent: int) -> float:
    """The lowest score from which at most 5 % of the calls are chance, if decoys are what independent pairs are."""
    order, ranked = np.sort(score)[::-1], np.sort(decoy)
    beyond = decoy.size - np.searchsorted(ranked, order, side="left")
    calls = score.size - np.searchsorted(order[::-1], order, side="left")
    good = np.flatnonzero((beyond + 1) / (decoy.size + 1) * independent <= LEVEL * calls)
    return float(order[good[-1]]) if good.size else np.inf


Scored = tuple[NDArray[np.floating], NDArray[np.floating] | None]
"""Scores of pairs, and for a network of kinds the share of each kind, (P, 7)."""


def load_network(run: Path) -> tuple[Binning, Callable[[Sample], Scored]]:
    """Binning of a run, and its scores: the probability of any dependence."""
    network = TrainedNetwork.load(run)
    classifier, facts = network.classifier, network.facts
    if classifier.knows_genes or facts.classes == 3:
        raise SystemExit(f"{run}: a network of two classes or of kinds that looks at the pair alone can be tested here")
    torch.set_num_threads(1)
    ready = prepare(classifier, classifier.device)

    def score(sample: Sample) -> Scored:
        probability = score_images(classifier, sample.counts, sample.both_zero, ready).astype(np.float64)
        return probability[:, 1:].sum(axis=1), probability if probability.shape[1] == len(KINDS) else None

    return Binning(facts.scale, facts.bins), score


def measure(
    dealt: Dealt, network: Callable[[Sample], Scored], without: Sequence[str] = (), most: dict[str, int] = MOST
) -> dict[str, Any]:
    """Every test on the pairs of a condition."""
    found, pairs, of_network = dict[str, Any](), dealt.kind.size, np.empty(0)
    for name, statistic in {NETWORK: network, **CLASSICAL}.items():
        if name in without:
            continue
        number = min(most.get(name, pairs), pairs)
        score, shares, seconds = _timed(statistic, dealt.sample, number, pairs)
        kind = dealt.kind[:number]
        of_network = score if name == NETWORK else of_network
        found[name] = worth(score[:number], kind, score[number:]) | {
            "us_per_pair": seconds / score.size * 1e6,
            "pairs": number,
        }
        if number < pairs:
            found[name]["network_on_these"] = float(roc_auc_score(kind > 0, of_network[:number]))
        if shares is not None:
            named = shares[:number, 1:].argmax(axis=1) + 1
            found[name]["kind_right"] = float((named == kind)[kind > 0].mean())
    return found


def _timed(statistic: Callable[[Sample], Any], sample: Sample, number: int, pairs: int) -> tuple[Any, Any, float]:
    """Scores of the first candidates and half as many decoys, shares of kinds or None, and the seconds it took."""
    picked = np.concatenate([np.arange(number), pairs + np.arange(number // 2)])
    some = Sample(sample.a[picked], sample.b[picked], sample.counts[picked], sample.both_zero[picked])
    statistic(some.first(2))  # compiles, and loads
    started = time.perf_counter()
    answer = statistic(some)
    seconds = time.perf_counter() - started
    return (*(answer if isinstance(answer, tuple) else (answer, None)), seconds)


# ── all conditions ───────────────────────────────────────────────────────────────────────────────────────────────────


def conditions(name: str, n_cells: int, cells: Sequence[int], strengths: Sequence[str], seeds: Sequence[int]) -> Any:
    """The conditions of a set; numbers of cells beyond its own are all of them, once."""
    for number in dict.fromkeys(min(asked, n_cells) for asked in cells):
        for strength in strengths:
            for seed in seeds:
                yield Condition(name, number, strength, seed)


def run_all(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Figures of every condition, as they come."""
    binning, network = load_network(arguments.run)
    design = Design(arguments.pairs, arguments.expressing, arguments.turned)
    with tempfile.TemporaryDirectory() as scratch:
        for name, path in held_out(arguments.sets).items():
            expression = read_set(path, Path(scratch))
            of_set = conditions(name, expression.shape[0], arguments.cells, arguments.strength, arguments.seeds)
            for condition in of_set:
                dealt = deal(expression, condition, design, binning)
                yield vars(condition) | {"tests": measure(dealt, network, arguments.without)}


def summed_up(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, lowest and highest of each figure over the seeds of each set, number of cells and strength."""
    groups = dict[tuple[str, int, str], list[dict[str, Any]]]()
    for run in runs:
        groups.setdefault((run["name"], run["cells"], run["strength"]), []).append(run["tests"])
    summary = []
    for (name, cells, strength), tests in groups.items():
        figures: dict[str, Any] = {
            test: {key: _spread([t[test][key] for t in tests]) for key in tests[0][test]} for test in tests[0]
        }
        rivals = {test: figures[test][ALL]["mean"] for test in on_all(figures)}
        best = max(rivals, key=lambda test: rivals[test])
        head = {"name": name, "cells": cells, "strength": strength, "best_classical": best}
        summary.append(head | {"ahead_by": figures[NETWORK][ALL]["mean"] - rivals[best], "tests": figures})
    return summary


def on_all(figures: dict[str, Any]) -> list[str]:
    """Classical tests that took all pairs: of fewer, an AUROC is too uncertain to be called the best."""
    whole = figures[NETWORK]["pairs"]["mean"]
    return [test for test, own in figures.items() if test != NETWORK and own["pairs"]["mean"] == whole]


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    return {"mean": float(np.mean(known)), "lowest": min(known), "highest": max(known)} if known else None


SHOWN = (ALL, *KINDS[1:], "power", "realised_fdr")


def print_table(entry: dict[str, Any]) -> None:
    """One condition, means over its seeds; the spread of the AUROC over all kinds behind it."""
    right = (entry["tests"][NETWORK].get("kind_right") or {}).get("mean")
    told = "" if right is None else f"; kind right {right:.3f}"
    print(f"\n{entry['name']}, {entry['cells']:,} cells, strength {entry['strength']}: network ahead of "
          f"{entry['best_classical']} by {entry['ahead_by']:+.4f}{told}")  # fmt: skip
    print(f"{'':24}" + "".join(f"{name[:10]:>11}" for name in SHOWN) + f"{'us/pair':>11}{'pairs':>7}  spread")
    for test, own in sorted(entry["tests"].items(), key=lambda item: -item[1][ALL]["mean"]):
        means = "".join(f"{own[key]['mean']:11.4f}" if own[key] else f"{'–':>11}" for key in SHOWN)
        spread = f"{own[ALL]['lowest']:.4f}–{own[ALL]['highest']:.4f}"
        here = own.get("network_on_these")
        told = f" (network on these pairs: {here['mean']:.4f})" if here else ""
        print(f"{test:24}{means}{own['us_per_pair']['mean']:11.1f}{own['pairs']['mean']:7,.0f}  {spread}{told}")


MONOTONE = ("rising", "falling", "threshold", "exclusive")


def markdown(summary: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The same in a table of one line a condition, and means over the conditions of like many cells."""
    yield "| set, cells | network (seeds) | best classical | ahead | power, best classical | realised FDR | kind |"
    yield "|---|---|---|---|---|---|---|"
    for entry in summary:
        own, best = entry["tests"][NETWORK], entry["tests"][entry["best_classical"]]
        spread = f"{own[ALL]['mean']:.3f} ({own[ALL]['lowest']:.3f}–{own[ALL]['highest']:.3f})"
        right = own["kind_right"]["mean"] if own.get("kind_right") else float("nan")
        yield (
            f"| {entry['name']}, {entry['cells']:,} | {spread} | {best[ALL]['mean']:.3f} {entry['best_classical']} "
            f"| {entry['ahead_by']:+.3f} | {own['power']['mean']:.2f}, {best_power(entry):.2f} "
            f"| {own['realised_fdr']['mean']:.3f} | {right:.2f} |"
        )
    for words, some in (("fewer than 1,000 cells", _of(summary, 0, 999)), ("1,000 cells or more", _of(summary, 1000))):
        if some:
            yield f"{words}: " + ", ".join(f"{name} {value:.3f}" for name, value in means(some).items())


def best_power(entry: dict[str, Any]) -> float:
    """The power of the classical test that has most, of those that took all pairs."""
    return max(float(entry["tests"][test]["power"]["mean"]) for test in on_all(entry["tests"]))


def means(some: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means over conditions: AUROC of each kind, how far from |Spearman| the monotone ones are, kind right, power."""
    own = [entry["tests"][NETWORK] for entry in some]
    found = {name: _mean(o[name]["mean"] for o in own) for name in (ALL, *KINDS[1:])}
    if "Spearman" in some[0]["tests"]:
        for name in MONOTONE:
            rival = _mean(entry["tests"]["Spearman"][name]["mean"] for entry in some)
            found[f"{name} beside Spearman"] = found[name] - rival
        found["monotone beside Spearman"] = _mean(found[f"{name} beside Spearman"] for name in MONOTONE)
    if own[0].get("kind_right"):
        found["kind right"] = _mean(o["kind_right"]["mean"] for o in own)
    if on_all(some[0]["tests"]):
        found["power, times the best classical"] = _mean(
            o["power"]["mean"] / best_power(entry) for o, entry in zip(own, some, strict=True)
        )
    return found


def _of(summary: Sequence[dict[str, Any]], least: int, most: int = 2**62) -> list[dict[str, Any]]:
    return [entry for entry in summary if least <= entry["cells"] <= most]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def draw(summary: Sequence[dict[str, Any]]) -> Figure:
    """AUROC over all kinds of the network and of every test that took all pairs, a line a condition."""
    figure = Figure(figsize=(8, 1.2 + 0.36 * len(summary)), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(summary))[::-1]
    for number, test in enumerate(on_all(summary[0]["tests"])):
        means = [entry["tests"][test][ALL]["mean"] for entry in summary]
        axes.plot(means, place, "os^vDPX*<>"[number % 10], ms=5, alpha=0.75, color=f"C{number % 10}", label=test)
    own = [entry["tests"][NETWORK][ALL] for entry in summary]
    axes.hlines(place, [o["lowest"] for o in own], [o["highest"] for o in own], color="black", lw=1)
    axes.plot([o["mean"] for o in own], place, "o", ms=8, color="black", label=NETWORK)
    axes.set_yticks(place, [f"{e['name']}, {e['cells']:,} cells, {e['strength']}" for e in summary])
    axes.set_xlabel("AUROC of dependent against independent pairs, six kinds")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def listed(kind: type) -> Callable[[str], list[Any]]:
    """A parser of values joined by commas."""
    return lambda text: [kind(part.strip()) for part in text.split(",")]


def main(given: Sequence[str] | None = None) -> None:
    """Print the table of every condition as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sets", type=Path, nargs="+", required=True)
    parser.add_argument("--cells", type=listed(int), default=[350, 1500])
    parser.add_argument("--strength", type=listed(str), default=["0.1:0.4"])
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--expressing", type=float, default=LEAST_CELLS, help="cells, below 1 a share, of each gene")
    parser.add_argument("--seeds", type=listed(int), default=[0, 1, 2])
    parser.add_argument("--turned", type=float, default=0.0, help="share of thresholds and U-shapes upside down")
    parser.add_argument("--without", type=listed(str), default=[], help="tests to leave out, by name")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args(given)
    if unknown := set(arguments.without) - set(CLASSICAL):
        parser.error(f"--without: no test is called {', '.join(sorted(unknown))}; there are {', '.join(CLASSICAL)}")
    if not held_out(arguments.sets):
        parser.error(f"--sets: no set lies in {', '.join(map(str, arguments.sets))}; give folders of .h5ad, or files")
    runs = list[dict[str, Any]]()
    for run in run_all(arguments):
        runs.append(run)
        if run["seed"] == arguments.seeds[-1]:
            print_table(summed_up(runs)[-1])
        if arguments.json:  # after each, so that nothing is lost
            arguments.json.write_text(json.dumps({"runs": runs, "summary": summed_up(runs)}, indent=1) + "\n")
    summary = summed_up(runs)
    lead = [entry["ahead_by"] for entry in summary]
    print("", *markdown(summary), sep="\n")
    print(f"\nahead of the best classical test by {np.mean(lead):+.4f} in the mean, {min(lead):+.4f} at least")
    if arguments.plot:
        draw(summary).savefig(arguments.plot, dpi=150)


if __name__ == "__main__":
    main()
