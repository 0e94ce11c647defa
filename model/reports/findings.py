"""The report of a prediction: a file of scores in, OUT.html beside OUT.parquet out, with every picture inside."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairscape.model.edges.calls import CALLED_BY, calling_aim, known_thresholds
from pairscape.model.edges.edges import Edges, choose_each, columns_of, names_regulators
from pairscape.model.edges.evidence import (
    CONSIDERED,
    SHOWN,
    Evidence,
    clearest,
    count_edges,
    new_pairs,
    scored_codes,
    scored_group,
)
from pairscape.model.edges.naming import by_symbol
from pairscape.model.edges.scores import facts_of_group
from pairscape.model.edges.tally import KIND_Q, Tally, tally_scores
from pairscape.model.evaluation.shift import shift_words
from pairscape.model.options import EdgeChoice
from pairscape.model.reports.figures import KIND_COLOURS, data_address, score_distribution_figure
from pairscape.model.reports.group_table import GroupTable, table_of_groups
from pairscape.model.reports.heatmap_figures import (
    count_key_figure,
    heatmap_svg,
    residual_key_figure,
    residual_svg,
)
from pairscape.model.reports.page import number, percent, whole, write_page
from pairscape.model.reports.places import report_path
from pairscape.model.reports.score_tables import called_rows, edge_cells, gene_rows, pair_columns, pair_rows
from pairscape.model.reports.within import depth_words, first_lines
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.kinds import KINDS

DRAWN_EDGES = 60  # as many as stay legible
HEATMAPS, OF_EACH_KIND = 12, 3
KIND_WORDS = {
    "rising": "one gene rises with the other",
    "falling": "one gene falls as the other rises",
    "threshold": "one gene steps up once the other passes a level",
    "exclusive": "one gene is off where the other is on",
    "u-shaped": "one gene is high at both ends of the other",
    "opposite": "rising in some cells, falling in the rest",
}


@dataclass(frozen=True, eq=False)
class PredictionReport:
    """Everything that the report is made of.

    Attributes
    ----------
    name, facts, columns
        Of the file of scores: its name without suffix, what made it, its columns.
    pointed
        Whether the source of an edge is a regulator, by the list of pairs or by the network.
    aim
        Aim of the threshold by which edges are counted.
    tally, best
        Sums over all pairs, and the edges of the highest scores.
    evidence, missing
        The best new pairs with their counts, by kind where there are kinds, else under ""; empty where the codes are
        gone; and why.
    groups
        Of cells, scored apart, with the best pairs in each; None where there are none.
    """

    name: str
    facts: dict[str, Any]
    columns: tuple[str, ...]
    pointed: bool
    aim: str
    tally: Tally
    best: Edges | None
    evidence: Mapping[str, Evidence]
    missing: str
    groups: GroupTable | None = None

    @property
    def tells_kinds(self) -> bool:
        """Whether the network tells kinds of dependence."""
        return "kind" in self.columns


def write_findings(path: Path, codes: Codes | None, group: str | None = None) -> Path:
    """Write the report of a file of scores beside it; returns its path.

    `codes` are those of the heatmaps; None: as the file names them, if they are still there. `group`: of cells, whose
    scores it shows; None: all groups combined. InputError where the file cannot be read.
    """
    return write_page(report_path(path, group), "findings.html.j2", page_words(find(path, codes, group)))


def find(path: Path, codes: Codes | None, group: str | None = None) -> PredictionReport:
    """Read and sum up a file of scores, of groups of cells the rows of one."""
    facts, columns = facts_of_group(path, group), columns_of(path)
    regulators = names_regulators(facts)
    pointed = regulators or "forward" in columns
    thresholds = known_thresholds(facts)
    aim = calling_aim(thresholds)
    summed = tally_scores(path, thresholds, thresholds[aim], group, both_ends=not pointed)
    kinds = KINDS[1:] if "kind" in columns else ()
    of_kinds = [new_pairs(CONSIDERED * OF_EACH_KIND, kind, group) for kind in kinds]
    found, new, *each = choose_each(
        path, [EdgeChoice(top=DRAWN_EDGES, group=group), new_pairs(HEATMAPS, group=group), *of_kinds], SHOWN
    )
    best = None if isinstance(found, InputError) else found
    evidence, missing = _evidence(path, facts, codes, new, dict(zip(kinds, each, strict=True)))
    groups = table_of_groups(path, facts, best)
    return PredictionReport(path.stem, facts, columns, pointed, aim, summed, best, evidence, missing, groups)


def _evidence(
    path: Path,
    facts: dict[str, Any],
    codes: Codes | None,
    new: Edges | InputError,
    of_kinds: Mapping[str, Edges | InputError],
) -> tuple[dict[str, Evidence], str]:
    """The best new pairs with their counts, of each kind that has any; or why there are none.

    A report is written all the same.
    """
    try:
        codes = codes or scored_codes(facts, path)
        cells = scored_group(codes, facts, facts.get("group"))
        if isinstance(new, InputError):
            raise new
        if not of_kinds:
            return {"": count_edges(codes, new, cells)}, ""
        chosen = {kind: clearest(best, OF_EACH_KIND) for kind, best in of_kinds.items() if isinstance(best, Edges)}
        return {kind: count_edges(codes, best, cells) for kind, best in chosen.items()}, ""
    except InputError as error:
        return {}, str(error)


# ---------------------------------------------------------------- the page


def page_words(found: PredictionReport) -> dict[str, Any]:
    """What the template of the page is filled with."""
    rows = pair_rows(found.best) if found.best else []
    columns, same = pair_columns(rows)
    return {
        "name": found.name,
        "headline": headline(found),
        "first": first_lines(found.facts),
        "lead": lead(found),
        "facts": known_facts(found),
        "shift": shift_words(found.facts.get("shift")),
        "pictures": draw_pictures(found),
        "called": called_rows(found.tally),
        "has_q": bool(found.tally.significant),
        "prior": found.facts.get("prior"),
        "pairs": rows,
        "pair_columns": columns,
        "same": same,
        "ends": ("Regulator", "Target") if found.pointed else ("Gene", "Gene"),
        "evidence": evidence_groups(found),
        "tells_kinds": found.tells_kinds,
        "missing": found.missing,
        "pointed": found.pointed,
        "genes": gene_rows(found.tally),
        "called_from": found.tally.called_from,
        "trust": trust_rows(found),
        "groups": found.groups,
        "group": found.facts.get("group", ""),
        "record": json.dumps(found.facts, indent=2, ensure_ascii=False, default=str),
    }


def headline(found: PredictionReport) -> str:
    """The number of pairs that are called."""
    if not found.tally.n_scored:
        return "No pair was scored"
    called = found.tally.called[found.aim].pairs
    if found.tells_kinds and found.tally.significant:
        sure = found.tally.significant[KIND_Q].pairs
        return f"{sure:,} of {found.tally.n_pairs:,} pairs depend, at a false discovery rate of {KIND_Q:.0%}"
    if found.tells_kinds:
        return f"{called:,} of {found.tally.n_pairs:,} pairs are called dependent"
    return f"{called:,} of {found.tally.n_pairs:,} pairs are called edges"


def lead(found: PredictionReport) -> str:
    """Where the calls begin, and the sum of the scores."""
    tally, threshold = found.tally, number(found.tally.called_from)
    if found.tells_kinds:
        return _lead_of_kinds(tally, found.facts.get("prior")) + depth_words(found.facts)
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


def _lead_of_kinds(tally: Tally, prior: Any) -> str:
    """What a score means of a network that was trained on planted dependence."""
    share = percent(tally.expected / max(tally.n_scored, 1))
    return (
        f"A score is the probability that two genes depend on each other, if {percent(prior)} of the pairs do. That "
        "share is an assumption (predict --prior): another one moves every score and no rank. By the scores, "
        f"{tally.expected:,.0f} pairs ({share}) depend. The q-values need no such assumption."
    )


def known_facts(found: PredictionReport) -> list[tuple[str, str]]:
    """Pairs, matrix and network, as short terms and values."""
    facts, tally = found.facts, found.tally
    model, matrix = _table(facts, "model"), _table(facts, "matrix")
    known = [
        ("pairs", whole(tally.n_pairs)),
        ("scored by the network", whole(tally.n_scored) if tally.n_scored < tally.n_pairs else "–"),
        ("genes", whole(len(tally.genes))),
        ("cells", whole(matrix.get("n_cells"))),
        ("group of cells", str(facts.get("group") or (facts.get("groups") and "all combined") or "–")),
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


def draw_pictures(found: PredictionReport) -> dict[str, str]:
    """Name of each picture → its data address."""
    of = "dependence" if found.tells_kinds else "an edge"
    drawn = {"distribution": score_distribution_figure(found.tally.histogram, _marked(found.tally.thresholds), of)}
    if found.best is not None:
        from pairscape.model.reports.network_picture import network_figure

        regulators = found.pointed and not found.best.directed
        drawn["network"] = network_figure(by_symbol(found.best)[0], regulators=regulators)
    if found.evidence:
        drawn["count_key"] = count_key_figure(int(next(iter(found.evidence.values())).counts[0].sum()))
        drawn["residual_key"] = residual_key_figure()
    return {name: data_address(figure) for name, figure in drawn.items()}


def _marked(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Thresholds from the lowest on."""
    return dict(sorted(thresholds.items(), key=lambda entry: entry[1]))


def evidence_groups(found: PredictionReport) -> list[dict[str, Any]]:
    """The pairs that are shown, a group of each kind, with its name, what it means, and how many pairs there are."""
    limit = f"a q-value of {KIND_Q:g} or less" if found.tally.significant else "a score that calls them"
    return [
        {
            "kind": kind,
            "colour": KIND_COLOURS.get(kind, ""),
            "words": KIND_WORDS.get(kind, ""),
            "count": f"{found.tally.of_kind[KINDS.index(kind)]:,} pairs with {limit}" if kind else "",
            "pairs": evidence_pictures(shown),
        }
        for kind, shown in found.evidence.items()
    ]


def evidence_pictures(evidence: Evidence) -> list[dict[str, str]]:
    """Heatmap and residual of each pair, with its names and figures."""
    edges = evidence.edges
    names = zip(edges.labels(edges.source), edges.labels(edges.target), strict=True)
    rows = zip(names, evidence.counts, edge_cells(edges), strict=True)
    return [
        {
            "gene_a": a,
            "gene_b": b,
            "counts": data_address(heatmap_svg(image, a, b)),
            "residual": data_address(residual_svg(image, a, b)),
            **cells,
        }
        for (a, b), image, cells in rows
    ]


def trust_rows(found: PredictionReport) -> list[tuple[str, str]]:
    """Sentences on screen, false discovery rate and stability, each where it was asked for."""
    said = [
        ("Screen", screen_words(found.facts.get("screen"))),
        ("False discoveries", fdr_words(found.tally, found.facts.get("fdr"))),
        ("Stability", stability_words(found.best, found.facts.get("stability"))),
    ]
    return [(term, words) for term, words in said if words]


def screen_words(screen: Mapping[str, Any] | None) -> str:
    """What the screen kept from the network, and its recall."""
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
    """Pairs within some false discovery rates."""
    if not tally.significant:
        return ""
    counts = ", ".join(f"{called.pairs:,} pairs at a rate of {limit:g}" for limit, called in tally.significant.items())
    return " ".join([f"By matched decoys: {counts}.", *_sentences(fdr)])


def stability_words(best: Edges | None, stability: Mapping[str, Any] | None) -> str:
    """Stability of the best pairs under resampled cells."""
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
    """The sentence in the facts of a part of the prediction, if any."""
    return [str(facts["sentence"])] if facts and facts.get("sentence") else []
