"""What scores of pairs of genes know of function: the universal network, statistics and packages, by no rival's rule.

python -m benchmarks.biology [DATA] [--sets pbmc4k,…] [--genes 1500] [--slow-genes 700] [--seeds 0,1]
    [--only ROW,…] [--situations all,type,slow,pooled] [--peers ENV/bin/python] [--json FILE]

DATA (else the folder that PAIRSCAPE_DATA names) has `gold/`, `sets/NAME.h5ad` and `pbmc4k/pbmc4k_raw.h5ad`. The first
of --sets is looked at by itself (`all`: all its cells; `type`: the largest cell type, by obs["cell_type"], or else the
largest of six clusters), over its --genes most expressed genes; with packages that are slow, over --slow-genes
(`slow`). All are pooled (`pooled`) over the --slow-genes that the most sets express most: mean z, where a set without
the pair counts as 0, and mean rank over the sets that have it.

Every row is told twice, by signed scores and by absolute ones:

- GO: neighbour voting (EGAD), mean AUROC over terms of 10 to 300 of the genes, three folds;
- complexes (CORUM), pathways (Reactome, up to 50 genes), without ribosomal proteins and with them, and regulators with
  their targets (CollecTRI): AUROC and average precision (AP) against as many negatives, matched in degree and
  expression (`benchmarks.gold`), mean over seeds; 0.5 is chance for both;
- halves: share of the best 1 % of pairs in one half of the cells that are so in the other;
- the depth null: genes that share nothing but the depth of the cells; the share of such pairs beyond the 99th
  percentile of the real ones (nominal: 1 %), and their mean score in standard deviations of the real ones.

Statistics that go pair by pair are halved and nulled on random pairs, packages at the first seed. Rows that FILE has
for the same options are taken from it, so that an interrupted run goes on (delete it when the network or a statistic
has changed). Deterministic, but for the rounding of the processor.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks import gold
from benchmarks.cells import Cells, WholeSet, read_set
from benchmarks.coexpression import Statistic, statistics
from benchmarks.independence import listed
from benchmarks.packages import PEERS, peer, reason_against

SETS = ("pbmc4k", "pbmc3k", "kang_pbmc_ifnb_2800", "pbmc_facs_zheng", "pbmc_sorted_reference", "celltypist_sample",
        "pdac_moncada", "cell_lines_hashing")  # fmt: skip
SITUATIONS = ("all", "type", "slow", "pooled")
SLOW = tuple(PEERS)
BESIDE_SLOW = ("Spearman", "Pearson residuals", "factors over residuals", "through factors within depth", "universal",
               "universal within depth", *SLOW)  # fmt: skip
SAMPLED, NULL_SAMPLED = 200_000, 50_000  # pairs of a statistic that goes pair by pair
BEST = 0.01

Matrix = NDArray[np.floating]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Situation:
    """Cells of one set, or of several that are pooled, and the genes that are compared."""

    name: str
    sets: tuple[Cells, ...]
    genes: tuple[str, ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """How scores of the sets become one."""
        return ("mean z", "mean rank") if len(self.sets) > 1 else ("",)

    @cached_property
    def pairs(self) -> Index:
        """All pairs of genes, (P, 2)."""
        return np.stack(np.triu_indices(len(self.genes), 1), axis=1)

    def sampled(self, statistic: Statistic, most: int) -> Index:
        """Pairs to compare halves on: all, or of a statistic that goes pair by pair so many, over all sets."""
        most //= len(self.sets)
        if not statistic.by_pair or len(self.pairs) <= most:
            return self.pairs
        return self.pairs[np.sort(np.random.default_rng(0).choice(len(self.pairs), most, replace=False))]

    def scores(self, statistic: Statistic, sets: Sequence[Cells], pairs: Index) -> dict[str, Matrix]:
        """Scores (G, G) by each rule, with no number where a pair has none."""
        found = [self._spread(cells, statistic, pairs) for cells in sets]
        if len(found) == 1:
            return {"": found[0]}
        deviations = [np.sqrt(c.depth.size) if statistic.correlation else 1.0 for c in sets]
        total = sum(np.nan_to_num(one * z) for one, z in zip(found, deviations, strict=True))
        ranked, known = np.zeros_like(found[0]), np.zeros(found[0].shape, np.int64)
        for one in found:
            ranked += np.nan_to_num(_ranked(one))
            known += ~np.isnan(one)
        mean = np.divide(ranked, known, out=np.full_like(ranked, np.nan), where=known > 0)
        return {"mean z": total / len(found), "mean rank": mean}

    def _spread(self, cells: Cells, statistic: Statistic, pairs: Index) -> Matrix:
        """Scores of one set over the genes of all."""
        place = {gene: number for number, gene in enumerate(cells.genes)}
        own = np.array([place.get(gene, -1) for gene in self.genes])
        there = own[pairs]
        score = np.array(statistic.score(cells, there[(there >= 0).all(axis=1)]), np.float32)
        np.fill_diagonal(score, np.nan)
        found = np.full((len(self.genes),) * 2, np.nan, np.float32)
        known = np.flatnonzero(own >= 0)
        found[np.ix_(known, known)] = score[np.ix_(own[known], own[known])]
        return found


def _ranked(score: Matrix) -> Matrix:
    """Ranks from −1 to 1 of all scores that are numbers."""
    known = ~np.isnan(score)
    found = np.full(score.shape, np.nan, np.float32)
    found[known] = 2 * rankdata(score[known]) / max(int(known.sum()), 1) - 1
    return found


@dataclass(frozen=True, eq=False)
class Questions:
    """What is asked of a situation: folds of GO terms, positives with negatives for each seed by name."""

    fold: NDArray[np.int8]
    matched: dict[str, list[gold.Matched]]

    @classmethod
    def of(cls, known: gold.Gold, situation: Situation, seeds: Sequence[int]) -> "Questions":
        """Of the genes of a situation; expression is the mean over its sets."""
        genes, expression = situation.genes, _expression(situation)
        ribosomal = np.array([gold.is_ribosomal(gene) for gene in genes])
        matched = dict[str, list[gold.Matched]]()
        for name, pairs in known.pairs.items():
            directed = name in known.directed
            positive = gold.known_pairs(pairs, genes, directed)
            without = positive[~ribosomal[positive].any(axis=1)]
            asked = {name: without} if directed else {name: without, f"{name} + ribosome": positive}
            for label, own in asked.items():
                rngs = [np.random.default_rng([seed, len(matched)]) for seed in seeds]
                matched[label] = [gold.match_negatives(own, expression, directed, rng) for rng in rngs]
        members = gold.term_members(known.terms, genes)
        return cls(gold.deal_folds(members, np.random.default_rng(seeds[0])), matched)

    def answered(self, score: Matrix) -> dict[str, Any]:
        """AUROC by neighbour voting, and AUROC and average precision of pairs: one figure a seed."""
        both = (score + score.T) / 2  # of a directed score
        figures: dict[str, Any] = {"GO": gold.neighbour_voting(both, self.fold)}
        for name, matched in self.matched.items():
            asked = score if name == "regulators" else both
            figures[name] = [gold.worth(asked, own) for own in matched]
        return figures


def _expression(situation: Situation) -> Matrix:
    """Mean share of each gene, over the sets that have it, (G,)."""
    found = np.full((len(situation.sets), len(situation.genes)), np.nan)
    place = {gene: number for number, gene in enumerate(situation.genes)}
    for row, cells in zip(found, situation.sets, strict=True):
        row[[place[gene] for gene in cells.genes]] = cells.counted.share
    return np.nanmean(found, axis=0)


def measure(statistic: Statistic, situation: Situation, questions: Questions, seeds: Sequence[int]) -> dict[str, Any]:
    """Figures of one row, by rule and by `signed` or `absolute`."""
    started = time.perf_counter()
    real = situation.scores(statistic, situation.sets, situation.pairs)
    seconds = time.perf_counter() - started
    some, few = situation.sampled(statistic, SAMPLED), situation.sampled(statistic, NULL_SAMPLED)
    halves = list[list[dict[str, Matrix]]]()
    for seed in seeds:
        parts = zip(*(cells.halves(seed) for cells in situation.sets), strict=True)
        halves.append([situation.scores(statistic, part, some) for part in parts])
    null = situation.scores(statistic, [cells.null(seeds[0]) for cells in situation.sets], few)
    figures: dict[str, Any] = {"seconds": seconds}
    for rule, score in real.items():
        for sign in ("signed", "absolute"):
            turned = np.abs if sign == "absolute" else np.asarray
            own = questions.answered(turned(score))
            own["halves"] = [agreement(*(turned(half[rule][tuple(some.T)]) for half in both)) for both in halves]
            own |= beyond(turned(null[rule][tuple(few.T)]), turned(score[tuple(situation.pairs.T)]))
            figures[f"{rule} {sign}".strip()] = own
    return figures


def agreement(first: Matrix, second: Matrix) -> float:
    """Share of the best pairs of one half that are among the best of the other."""
    number = max(int(first.size * BEST), 1)
    best = [np.argsort(-np.nan_to_num(half, nan=-np.inf), kind="stable")[:number] for half in (first, second)]
    return float(np.isin(*best).mean())


def beyond(null: Matrix, real: Matrix) -> dict[str, float]:
    """How high null pairs score among real ones."""
    null, real = null[~np.isnan(null)], real[~np.isnan(real)]
    above = float((null > np.percentile(real, 100 * (1 - BEST))).mean())
    return {"null_beyond": above, "null_in_sd": float(null.mean() / max(float(real.std()), 1e-30))}


# ── sets ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_sets(data: Path, names: Sequence[str]) -> list[WholeSet]:
    """Sets with raw counts; what cannot be used is said and left out."""
    found = list[WholeSet]()
    for name in names:
        path = data / "pbmc4k" / "pbmc4k_raw.h5ad" if name == "pbmc4k" else data / "sets" / f"{name}.h5ad"
        read = read_set(path) if path.is_file() else f"{path} is no file"
        if isinstance(read, str):
            say(f"{name}: {read}; left out")
        else:
            found.append(read)
    if not found:
        raise SystemExit("no set can be used: give --sets that lie in the folder of data, with raw counts")
    return found


def situations(sets: Sequence[WholeSet], asked: argparse.Namespace) -> Iterator[Situation]:
    """What is looked at, in turns."""
    first = sets[0]
    for number, wanted in ((asked.genes, {"all", "type"}), (asked.slow_genes, {"slow"})):
        genes = first.most_expressed(number)
        cells = first.cells(genes)
        largest = cells.take(cells.kind == np.bincount(cells.kind).argmax())
        for key, of_type in (("all", cells), ("type", largest)):
            if wanted & set(asked.situations) & {key, "slow"}:
                what = "all cells" if key == "all" else "the largest cell type"
                yield Situation(f"{first.name}, {what}, {genes.size:,} genes", (of_type,), of_type.genes)
    if "pooled" in asked.situations:
        yield pooled(sets, asked.slow_genes)


def pooled(sets: Sequence[WholeSet], number: int) -> Situation:
    """All sets, over the genes that most of them have among their most expressed: highest mean rank of share."""
    rank = dict[str, float]()
    for one in sets:
        share = one.share
        for gene, own in zip(one.genes.tolist(), rankdata(share) * (share > 0) / share.size, strict=True):
            rank[gene] = rank.get(gene, 0.0) + float(own)
    genes = sorted(rank, key=lambda gene: (-rank[gene], gene))[:number]
    parts = list[Cells]()
    for one in sets:
        place = {gene: at for at, gene in enumerate(one.genes.tolist())}
        share = one.share
        parts.append(one.cells(np.array([place[g] for g in genes if g in place and share[place[g]] > 0])))
    return Situation(f"{len(sets)} sets pooled, {len(genes):,} genes", tuple(parts), tuple(genes))


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

HEAD = ("statistic", "GO", "complexes AUROC", "AP", "+ ribosome", "pathways AUROC", "AP", "+ ribosome",
        "regulators AUROC", "AP", "halves", "null > 99 %", "null, sd")  # fmt: skip
PAIRS = (("complexes", 2), ("complexes + ribosome", 1), ("pathways", 2), ("pathways + ribosome", 1), ("regulators", 2))


def figures_of(own: dict[str, Any]) -> list[list[float | None]]:
    """The figures of a row in the order of `HEAD`, each with all its seeds."""
    pairs = [[seed[key] for seed in own[name]] for name, keys in PAIRS for key in ("auroc", "average_precision")[:keys]]
    return [[own["GO"]], *pairs, own["halves"], [own["null_beyond"]], [own["null_in_sd"]]]


def table(entry: dict[str, Any]) -> str:
    """A situation as a table of markdown."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    spread = np.zeros(len(HEAD) - 1)
    for name, row in entry["rows"].items():
        if "reason" in row:
            lines.append(f"| {name} | {row['reason']} |{' |' * (len(HEAD) - 2)}")
            continue
        for variant, own in row.items():
            if variant == "seconds":
                continue
            figures = figures_of(own)
            spread = np.maximum(spread, [np.std(f) if None not in f else 0 for f in figures])
            shown = name if variant == "signed" else f"{name}, {variant.removesuffix(' signed')}"
            lines.append(f"| {shown} | {' | '.join(map(_shown, figures))} |")
    lines.append(f"| *largest sd over seeds* | {' | '.join(f'{one:.3f}' if one else '' for one in spread)} |")
    return "\n".join(lines)


def _shown(figures: Sequence[float | None]) -> str:
    known = [one for one in figures if one is not None]
    return f"{np.mean(known):.3f}" if known else "–"


def head_of(entry: dict[str, Any]) -> str:
    """Of what a table is, in words."""
    asked = ", ".join(f"{name} {number:,} (of {known:,})" for name, (number, known) in entry["positives"].items())
    return f"{entry['name']}; {entry['cells']:,} cells; GO terms {entry['terms']:,}; matched positives: {asked}"


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def describe(situation: Situation, questions: Questions) -> dict[str, Any]:
    """A situation without its rows."""
    matched = {name: own[0] for name, own in questions.matched.items()}
    return {
        "name": situation.name,
        "sets": [cells.name for cells in situation.sets],
        "cells": sum(cells.depth.size for cells in situation.sets),
        "genes": len(situation.genes),
        "terms": len(questions.fold),
        "positives": {name: [len(m.positive), len(m.positive) + m.left_out] for name, m in matched.items()},
    }


def rows_of(situation: Situation, asked: argparse.Namespace) -> Iterator[tuple[str, Statistic | str]]:
    """Statistics of a table, or why one cannot be had."""
    slow = len(situation.sets) == 1 and len(situation.genes) <= asked.slow_genes
    wanted = BESIDE_SLOW if slow else set(statistics()) - set(SLOW)
    for name, statistic in statistics().items():
        if (asked.only and name not in asked.only) or name not in wanted:
            continue
        if name.endswith("within type") and all(np.ptp(cells.kind) == 0 for cells in situation.sets):
            continue  # it is the plain one
        yield name, statistic
    for name in PEERS if slow else ():
        if not asked.only or name in asked.only:
            reason = reason_against(asked.peers, name)
            yield name, reason or Statistic(peer(asked.peers, name), correlation=False)


def run_all(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every situation as its rows come, the last with all."""
    settings = {name: getattr(asked, name) for name in ("sets", "genes", "slow_genes", "seeds")}
    before: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    done = {e["name"]: e for e in before["situations"]} if before.get("settings") == settings else {}
    known = gold.Gold.read(asked.data / "gold", "human")
    names = asked.sets if "pooled" in asked.situations else asked.sets[:1]
    for situation in situations(read_sets(asked.data, names), asked):
        questions = Questions.of(known, situation, asked.seeds)
        entry = describe(situation, questions)
        kept = entry["rows"] = done.get(situation.name, {"rows": {}})["rows"]
        done[situation.name] = entry
        say(head_of(entry))
        for name, statistic in rows_of(situation, asked):
            if name in kept and "reason" not in kept[name]:
                continue
            if isinstance(statistic, str):
                kept[name] = {"reason": statistic}
                continue
            kept[name] = measure(statistic, situation, questions, asked.seeds[: 1 if name in PEERS else None])
            say(f"{name}: {kept[name]['seconds']:.1f} s for all pairs")
            if asked.json:  # after each, so that nothing is lost
                made = {"settings": settings, "situations": list(done.values())}
                asked.json.write_text(json.dumps(made, indent=1) + "\n")
        entry["rows"] = {name: kept[name] for name in (*statistics(), *PEERS) if name in kept}
        yield entry


def main(given: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("PAIRSCAPE_DATA"))
    parser.add_argument("--sets", type=listed(str), default=list(SETS))
    parser.add_argument("--genes", type=int, default=1500)
    parser.add_argument("--slow-genes", type=int, default=700)
    parser.add_argument("--seeds", type=listed(int), default=[0, 1], help="of negatives and halves")
    parser.add_argument("--only", type=listed(str), default=[], help="rows by name")
    parser.add_argument("--situations", type=listed(str), default=list(SITUATIONS))
    parser.add_argument("--peers", type=Path, help="Python of an environment with rustscenic and hotspotsc")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(given)
    if not asked.data or not Path(asked.data, "gold").is_dir():
        parser.error("give the folder that has gold/, sets/ and pbmc4k/, or name it in PAIRSCAPE_DATA")
    asked.data = Path(asked.data)
    if unknown := set(asked.only) - {*statistics(), *PEERS}:
        parser.error(f"--only: no row is called {', '.join(sorted(unknown))}; there are {', '.join(statistics())}")
    if unknown := set(asked.situations) - set(SITUATIONS):
        parser.error(f"--situations: {', '.join(sorted(unknown))}; there are {', '.join(SITUATIONS)}")
    for entry in list(run_all(asked)):
        print(f"\n{head_of(entry)}\n\n{table(entry)}")


if __name__ == "__main__":
    main()
