"""The report of a prediction, OUT.html beside OUT.parquet: one file that needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pairscape.model.edges.edges import Edges, Tally, choose_edges, columns_of, names_regulators, tally_scores
from pairscape.model.edges.scores import read_facts
from pairscape.model.evaluation.shift import shift_words
from pairscape.model.options import Wanted
from pairscape.model.reports import heatmap_figures
from pairscape.model.reports.figures import data_address, score_distribution_figure
from pairscape.model.reports.heatmap_figures import pair_figure
from pairscape.model.reports.network_picture import network_figure
from pairscape.model.reports.page import number, percent, probability, signed, whole, write_page
from pairscape.pipeline.codes.store import Codes, open_codes
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.count import count_pairs

# What lies behind a prediction: the heatmaps of chosen pairs, counted again from the codes that were scored.

SHOWN = ("label", "correlation", "forward", "q_value", "score_mean", "score_sd", "rank_stability")
MOST_PICTURES = 200


@dataclass(frozen=True, eq=False)
class Evidence:
    """Chosen edges with their joint counts.

    Attributes
    ----------
    edges
        Best first.
    counts : (E, bins, bins)
        Row = bin of the target, column = bin of the source.
    """

    edges: Edges
    counts: NDArray[np.signedinteger]


def scored_codes(facts: dict[str, Any], scores: Path) -> Codes:
    """The codes that a file of scores was counted from.

    Raises
    ------
    InputError
        The file names none, they are gone, or others lie there now.
    """
    named = facts.get("codes") or {}
    if not named.get("path"):
        raise InputError(f"{scores} does not say which codes it was counted from, so no heatmap can be drawn.")
    path = Path(named["path"])
    again = "predict again to count the same pairs once more"
    if not path.exists():
        raise InputError(f"{scores}: the codes that its heatmaps are counted from are gone ({path}); {again}.")
    codes = open_codes(path)
    if named.get("content_hash") not in (None, codes.content_hash):
        raise InputError(f"{path} holds other codes than those that {scores} was scored from; {again}.")
    return codes


def count_edges(codes: Codes, edges: Edges) -> Evidence:
    """Count the heatmaps of some edges in this process.

    Raises
    ------
    InputError
        The codes lack a gene.
    """
    number = {name: at for at, name in enumerate(codes.array("gene").tolist())}
    used = np.unique(np.concatenate([edges.source, edges.target]))
    if missing := [name for name in edges.names(used) if name not in number]:
        raise InputError(f"{codes.path} lacks gene {missing[0]}, so it is not what was scored; predict again.")
    at = np.array([number.get(name, -1) for name in edges.genes], np.int64)
    return Evidence(edges, count_pairs(codes, at[edges.source], at[edges.target])[0])


def new_edges(scores: Path, k: int) -> Edges:
    """The best k pairs that are not known to be edges.

    Raises
    ------
    InputError
        As `model.edges.edges.choose_edges`.
    """
    return choose_edges(scores, Wanted(top=k, new=True), SHOWN)


def scored_edge(scores: Path, gene_a: str, gene_b: str) -> Edges:
    """A pair of a file of scores as an edge from gene_a to gene_b, found in either order.

    Raises
    ------
    InputError
        The pair was not scored.
    """
    read_facts(scores)
    a, b = pc.field("gene_a"), pc.field("gene_b")
    either = ((a == gene_a) & (b == gene_b)) | ((a == gene_b) & (b == gene_a))
    rows = pq.read_table(scores, filters=either).to_pylist()
    if not rows:
        raise InputError(
            f"{scores} holds no pair of {gene_a} and {gene_b}; names are as in the matrix, and not every pair is there."
        )
    row = {name: np.nan if value is None else value for name, value in rows[0].items()}
    columns = {name: np.array([row[name]], np.float32) for name in SHOWN if name in row}
    source, target = np.array([0], np.int32), np.array([1], np.int32)
    weight = np.array([row["score"]], np.float32)
    return Edges((gene_a, gene_b), source, target, weight, columns, "forward" in row)


def draw_evidence(found: Evidence) -> Figure:
    """The heatmaps in a grid, each with its residual beneath and its score above."""
    edges = found.edges
    titles = [title_of(edges, row) for row in range(len(edges))]
    names = edges.names(edges.source), edges.names(edges.target)
    return pair_figure(found.counts, titles, *names, residual=True)


def title_of(edges: Edges, row: int) -> str:
    """Score and correlation of an edge in a few letters."""
    score, correlation = float(edges.weight[row]), edges.columns.get("correlation", np.full(len(edges), np.nan))[row]
    words = "not scored" if np.isnan(score) else f"score {probability(score)}"
    return words if np.isnan(correlation) else f"{words}, ρ {correlation:+.2f}".replace("-", "−")


def show_scores(scores: Path, pair: tuple[str, str] | None, k: int) -> Evidence:
    """Count what `pairscape show` draws of a file of scores: one pair, or the best k new ones.

    Raises
    ------
    InputError
        k is out of its range; as `scored_codes`, `scored_edge` and `new_edges`.
    """
    if not 1 <= k <= MOST_PICTURES:
        raise InputError(f"-k is {k}: it is how many pairs are drawn; give 1 to {MOST_PICTURES}.")
    codes = scored_codes(read_facts(scores), scores)
    edges = new_edges(scores, k) if pair is None else scored_edge(scores, *pair)
    return count_edges(codes, edges)


DRAWN_EDGES = 60  # as many as stay legible
LISTED_PAIRS = 25
HEATMAPS = 12
GENES, TARGETS = 20, 5  # rows of the table of regulators, and the targets named in each
LIKELY = {"more likely than not": 0.5}  # where training placed no threshold for a precision
CALLED_BY = ("precision 0.5", "precision 0.9")  # thresholds by which edges are counted, the first that is there


@dataclass(frozen=True, eq=False)
class Findings:
    """All that the report is drawn from.

    Attributes
    ----------
    name
        Of the file of scores, without suffix.
    facts
        What made the scores.
    columns
        Of the file.
    pointed
        Whether edges have a source that means something: a regulator by the list of pairs, or by the network.
    aim
        What the threshold by which edges are counted is placed for.
    tally
        The pairs summed up.
    best
        The edges of the highest scores.
    evidence
        The best new pairs with their counts; None where the codes are gone.
    missing
        Why there is no evidence.
    """

    name: str
    facts: dict[str, Any]
    columns: tuple[str, ...]
    pointed: bool
    aim: str
    tally: Tally
    best: Edges | None
    evidence: Evidence | None
    missing: str


def report_path(scores: Path) -> Path:
    """Where the report of a file of scores lies."""
    return scores.with_suffix(".html")


def write_findings(path: Path, codes: Codes | None) -> Path:
    """Write the report of a file of scores beside it.

    Parameters
    ----------
    path
        The file of scores.
    codes
        What it was counted from, for the heatmaps. None: as the file names them, if they are still there.

    Returns
    -------
    Path
        The report, with the suffix .html.

    Raises
    ------
    InputError
        As `model.edges.scores.read_facts`.
    """
    return write_page(report_path(path), "findings.html.j2", page_words(find(path, codes)))


def find(path: Path, codes: Codes | None) -> Findings:
    """Read what the report tells, see `write_findings`."""
    facts, columns = read_facts(path), columns_of(path)
    regulators = names_regulators(facts)
    pointed = regulators or "forward" in columns
    thresholds = {aim: float(p) for aim, p in (facts.get("thresholds") or {}).items() if p is not None}
    aim = next((known for known in CALLED_BY if known in thresholds), next(iter(LIKELY)))
    called_from = (thresholds | LIKELY)[aim]
    summed = tally_scores(path, thresholds | LIKELY, called_from, both_ends=not pointed)
    best = choose_edges(path, Wanted(top=DRAWN_EDGES), SHOWN) if summed.n_scored else None
    evidence, missing = _evidence(path, facts, codes)
    return Findings(path.stem, facts, columns, pointed, aim, summed, best, evidence, missing)


def _evidence(path: Path, facts: dict[str, Any], codes: Codes | None) -> tuple[Evidence | None, str]:
    """The best new pairs with their counts, or why there are none: a report is written all the same."""
    try:
        return count_edges(codes or scored_codes(facts, path), new_edges(path, HEATMAPS)), ""
    except InputError as error:
        return None, str(error)


# ---------------------------------------------------------------- the page


def page_words(found: Findings) -> dict[str, Any]:
    """What the template of the page is filled with."""
    return {
        "name": found.name,
        "headline": headline(found),
        "lead": lead(found),
        "facts": known_facts(found),
        "shift": shift_words(found.facts.get("shift")),
        "pictures": draw_pictures(found),
        "thresholds": found.tally.thresholds,
        "called": found.tally.called,
        "pairs": pair_rows(found.best) if found.best else [],
        "pair_columns": pair_columns(found),
        "ends": ("Regulator", "Target") if found.pointed else ("Gene", "Gene"),
        "evidence": evidence_pictures(found.evidence) if found.evidence else [],
        "missing": found.missing,
        "pointed": found.pointed,
        "genes": gene_rows(found.tally),
        "called_from": found.tally.called_from,
        "trust": trust_rows(found),
        "record": json.dumps(found.facts, indent=2, ensure_ascii=False, default=str),
    }


def headline(found: Findings) -> str:
    """How many pairs are called."""
    if not found.tally.n_scored:
        return "No pair was scored"
    called = found.tally.called[found.aim]
    return f"{called:,} of {found.tally.n_pairs:,} pairs are called edges"


def lead(found: Findings) -> str:
    """Where the calls begin, and how many edges the scores themselves promise."""
    tally, threshold = found.tally, number(found.tally.called_from)
    if found.aim in CALLED_BY:
        share = float(found.aim.removeprefix("precision "))
        where = (
            f"Called from a score of {threshold} on, where {percent(share)} of the calls among the validation pairs of "
            "the training were right."
        )
    else:
        where = f"Called from a score of {threshold} on: more likely an edge than not."
    promised = (
        f" If the scores can be taken at their word, {tally.expected:,.0f} of the scored pairs are edges"
        f" ({percent(tally.expected / max(tally.n_scored, 1))}); a share of {percent(found.facts.get('prior'))} was"
        " expected beforehand."
    )
    return where + promised


def known_facts(found: Findings) -> list[tuple[str, str]]:
    """What was scored with what, as short terms and values."""
    facts, tally = found.facts, found.tally
    model, matrix = _table(facts, "model"), _table(facts, "matrix")
    known = [
        ("pairs", whole(tally.n_pairs)),
        ("scored by the network", whole(tally.n_scored) if tally.n_scored < tally.n_pairs else "–"),
        ("genes", whole(len(tally.genes))),
        ("cells", whole(matrix.get("n_cells"))),
        ("matrix", _file_name(matrix.get("path") or _table(facts, "images").get("path"))),
        ("trained run", _file_name(model.get("run"))),
        ("network", str(model.get("network") or "–")),
        ("weights", str(model.get("weights") or "–")[:12]),
        ("prior", percent(facts.get("prior"))),
        ("known edges among the pairs", whole(tally.n_known) if tally.n_known else "–"),
    ]
    return [(term, value) for term, value in known if value != "–"]


def _table(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = facts.get(name)
    return found if isinstance(found, dict) else {}


def _file_name(path: Any) -> str:
    return Path(str(path)).name if path else "–"


def draw_pictures(found: Findings) -> dict[str, str]:
    """Name of each picture → its data address."""
    drawn = {"distribution": score_distribution_figure(found.tally.histogram, _marked(found.tally.thresholds))}
    if found.best is not None:
        drawn["network"] = network_figure(found.best, regulators=found.pointed and not found.best.directed)
    if found.evidence is not None:
        drawn["count_key"] = heatmap_figures.count_key_figure(int(found.evidence.counts[0].sum()))
        drawn["residual_key"] = heatmap_figures.residual_key_figure()
    return {name: data_address(figure) for name, figure in drawn.items()}


def _marked(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Thresholds from the lowest on."""
    return dict(sorted(thresholds.items(), key=lambda entry: entry[1]))


def evidence_pictures(evidence: Evidence) -> list[dict[str, str]]:
    """Heatmap and residual of each pair, with its names and figures."""
    edges = evidence.edges
    names = zip(edges.names(edges.source), edges.names(edges.target), strict=True)
    rows = zip(names, evidence.counts, _cells(edges), strict=True)
    return [
        {
            "gene_a": a,
            "gene_b": b,
            "counts": data_address(heatmap_figures.heatmap_figure(image, a, b)),
            "residual": data_address(heatmap_figures.residual_figure(image, a, b)),
            **cells,
        }
        for (a, b), image, cells in rows
    ]


# ---------------------------------------------------------------- tables

COLUMN_WORDS = {  # column of the file: heading
    "correlation": "Correlation",
    "q_value": "q-value",
    "score_mean": "Resampled score",
    "rank_stability": "Rank stability",
}


def pair_columns(found: Findings) -> dict[str, str]:
    """Columns of the table of pairs beside names and score: those of the file that hold anything there."""
    best = found.best
    if best is None:
        return {}
    return {
        name: words
        for name, words in COLUMN_WORDS.items()
        if name in best.columns and not np.isnan(best.columns[name][:LISTED_PAIRS]).all()
    }


def pair_rows(edges: Edges) -> list[dict[str, Any]]:
    """The best pairs, a line each."""
    some = edges.some(slice(LISTED_PAIRS))
    names = zip(some.names(some.source), some.names(some.target), strict=True)
    lines = zip(names, _cells(some), strict=True)
    return [{"rank": at, "gene_a": a, "gene_b": b, **cells} for at, ((a, b), cells) in enumerate(lines, 1)]


def _cells(edges: Edges) -> list[dict[str, Any]]:
    """What is known of each edge, as text."""
    columns = edges.columns
    empty = np.full(len(edges), np.nan, np.float32)
    known = {name: columns.get(name, empty) for name in ("label", *COLUMN_WORDS, "score_sd", "forward")}
    return [
        {
            "score": probability(edges.weight[row]),
            "width": 100 * float(edges.weight[row]),
            "known": {1: "known", 2: "known", 0: "labelled none"}.get(_label(known["label"][row]), "new"),
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
            "gene": tally.genes[gene],
            "scored": whole(int(tally.scored_of[gene])),
            "called": whole(int(tally.called_of[gene])),
            "expected": f"{tally.expected_of[gene]:,.1f}",
            "width": 100 * float(tally.called_of[gene] / max(tally.called_of[order[0]], 1)),
        }
        for gene in order.tolist()
        if tally.scored_of[gene] > 0
    ]


def trust_rows(found: Findings) -> list[tuple[str, str]]:
    """What screen, false discovery rate and stability say, each where it was asked for."""
    said = [
        ("Screen", screen_words(found.facts.get("screen"))),
        ("False discoveries", fdr_words(found.tally, found.facts.get("fdr"))),
        ("Stability", stability_words(found.best, found.facts.get("stability"))),
    ]
    return [(term, words) for term, words in said if words]


def screen_words(screen: Mapping[str, Any] | None) -> str:
    """What the screen kept from the network, and what that costs."""
    if not screen:
        return ""
    kept = f"Only the pairs of highest dependence went to the network, a share of {percent(screen.get('fraction'))}."
    recall = screen.get("recall")
    found = ", ".join(f"{percent(share)} of its best {k}" for k, share in recall.items()) if recall else ""
    if not found:
        return kept
    sample = whole(screen.get("sample"))
    return f"{kept} Of a random sample of {sample} pairs that the network saw whole, the screen keeps {found}."


def fdr_words(tally: Tally, fdr: Mapping[str, Any] | None) -> str:
    """Pairs within some rates of false discoveries."""
    if not tally.significant:
        return ""
    counts = ", ".join(f"{count:,} pairs at a rate of {limit:g}" for limit, count in tally.significant.items())
    return " ".join([f"By matched decoys: {counts}.", *_sentences(fdr)])


def stability_words(best: Edges | None, stability: Mapping[str, Any] | None) -> str:
    """How steady the best pairs are when cells are drawn anew."""
    if best is None or "rank_stability" not in best.columns:
        return ""
    steady = best.columns["rank_stability"]
    steady = steady[~np.isnan(steady)]
    if not steady.size:
        return ""
    median, lowest = number(float(np.median(steady))), number(float(steady.min()))
    ours = f"Of the best {steady.size} pairs, the median rank stability is {median}, the lowest {lowest}."
    return " ".join(_sentences(stability)) or ours


def _sentences(facts: Mapping[str, Any] | None) -> Sequence[str]:
    """What a part of the prediction says of itself in words, if it does."""
    return [str(facts["sentence"])] if facts and facts.get("sentence") else []
