"""Tables of the page of a prediction: called pairs, the best pairs, the genes with most edges; values in, text out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pairscape.model.edges.calls import Called
from pairscape.model.edges.edges import Edges
from pairscape.model.edges.tally import Tally
from pairscape.model.reports.page import number, percent, probability, signed, whole

LISTED_PAIRS = 25
GENES = 20  # rows of the table of genes


def called_rows(tally: Tally) -> list[dict[str, str]]:
    """Each rule by which pairs are called, how many it calls, and which share of them is expected to be wrong."""
    placed = sorted(tally.thresholds.items(), key=lambda entry: entry[1])
    rules = [(aim, f"score ≥ {number(threshold)}", tally.called[aim]) for aim, threshold in placed if tally.called]
    for limit, called in tally.significant.items():
        rules.append((f"false discovery rate {limit:g}", f"q ≤ {limit:g}", called))
        if tally.likely[limit].pairs < called.pairs:
            rules.append((f"both measures, {limit:g}", f"q ≤ {limit:g}, score ≥ 0.5", tally.likely[limit]))
    return [{"aim": aim, "rule": rule, **_wrong_cells(called)} for aim, rule, called in rules]


def _wrong_cells(called: Called) -> dict[str, str]:
    by_score, by_q = (_wrong(share, called.pairs) for share in (called.by_score, called.by_q))
    return {"pairs": whole(called.pairs), "by_score": by_score, "by_q": by_q}


def _wrong(share: float | None, pairs: int) -> str:
    """How many of some pairs are expected to be wrong, and which share of them that is."""
    if share is None:
        return "–"
    return f"about {float(f'{share * pairs:.2g}'):,.0f} ({percent(share)})"


COLUMN_WORDS = {  # column of the file: heading
    "kind": "Kind",
    "correlation": "Correlation",
    "q_value": "q-value",
    "score_mean": "Resampled score",
    "rank_stability": "Rank stability",
    "known": "Label",
}


def pair_columns(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, str], str]:
    """Columns of the table of pairs beside names and score that tell rows apart; what all rows share, in a sentence."""
    values = {name: {row[name] for row in rows} for name in COLUMN_WORDS}
    told = {name: words for name, words in COLUMN_WORDS.items() if len(values[name]) > 1}
    same = {words: next(iter(values[name])) for name, words in COLUMN_WORDS.items() if len(values[name]) == 1}
    shared = [f"{words} {value}" for words, value in same.items() if value != "–"]
    return told, f"In every row: {', '.join(shared)}." if shared else ""


def pair_rows(edges: Edges) -> list[dict[str, Any]]:
    """The best pairs, a line each."""
    some = edges.some(slice(LISTED_PAIRS))
    names = zip(some.labels(some.source), some.labels(some.target), strict=True)
    lines = zip(names, edge_cells(some), strict=True)
    return [{"rank": at, "gene_a": a, "gene_b": b, **cells} for at, ((a, b), cells) in enumerate(lines, 1)]


KNOWN = ("label", "correlation", "q_value", "score_mean", "score_sd", "rank_stability", "kind_probability")


def edge_cells(edges: Edges) -> list[dict[str, Any]]:
    """Values of each edge as text."""
    columns = edges.columns
    empty = np.full(len(edges), np.nan, np.float32)
    known = {name: columns.get(name, empty) for name in KNOWN}
    kinds = edges.kinds or [None] * len(edges)
    return [
        {
            "score": probability(edges.weight[row]),
            "width": 100 * float(edges.weight[row]),
            "known": {1: "known", 2: "known", 0: "labelled none"}.get(_label(known["label"][row]), "new"),
            "kind": f"{kinds[row]} {_or_dash(number, known['kind_probability'][row])}" if kinds[row] else "–",
            "correlation": _or_dash(signed, known["correlation"][row]),
            "q_value": _or_dash(number, known["q_value"][row]),
            "score_mean": _with_spread(known["score_mean"][row], known["score_sd"][row]),
            "rank_stability": _or_dash(number, known["rank_stability"][row]),
        }
        for row in range(len(edges))
    ]


def _label(value: float) -> int:
    return -1 if np.isnan(value) else int(value)


def _or_dash(words: Any, value: float) -> str:
    return "–" if np.isnan(value) else str(words(float(value)))


def _with_spread(mean: float, spread: float) -> str:
    return _or_dash(number, mean) + ("" if np.isnan(spread) else f" ± {number(float(spread))}")


def gene_rows(tally: Tally) -> list[dict[str, Any]]:
    """The genes with most edges, those of the higher sum of scores first among equals."""
    order = np.lexsort((-tally.expected_of, -tally.called_of))[:GENES]
    return [
        {
            "gene": (tally.symbols[gene] if tally.symbols else "") or tally.genes[gene],
            "scored": whole(int(tally.scored_of[gene])),
            "called": whole(int(tally.called_of[gene])),
            "expected": f"{tally.expected_of[gene]:,.1f}",
            "width": 100 * float(tally.called_of[gene] / max(tally.called_of[order[0]], 1)),
        }
        for gene in order.tolist()
        if tally.scored_of[gene] > 0
    ]
