"""Heatmaps of chosen edges, counted again from the codes that were scored: scores in, edges and counts out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairscape.model.edges.calls import CALLED_Q
from pairscape.model.edges.edges import Edges, GeneCodes, choose_edges, genes_named, symbols_of
from pairscape.model.edges.scores import COMBINED, GENES, facts_of_group, row_groups_of
from pairscape.model.options import EdgeChoice
from pairscape.pipeline.codes.store import Codes, open_codes
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.heatmaps.few import count_few
from pairscape.pipeline.matrix.cell_groups import CellGroups
from pairscape.pipeline.options import Grouping

SHOWN = (
    "label",
    "correlation",
    "forward",
    "kind",
    "kind_probability",
    "q_value",
    "score_mean",
    "score_sd",
    "rank_stability",
)
MOST_PICTURES = 200
CONSIDERED = 500  # pairs of a kind for each that is shown


@dataclass(frozen=True, eq=False)
class Evidence:
    """Chosen edges, best first, with their counts (E, bins, bins); row = bin of the target, column of the source."""

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
    if "combined" in facts:
        raise InputError(
            f"{scores} is pooled from other files and has no heatmaps of its own; show the pair by one of those: "
            f"{', '.join(dict.fromkeys(one['file'] for one in facts['combined']['sets']))}."
        )
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


def count_edges(codes: Codes, edges: Edges, group: CellGroups | None = None) -> Evidence:
    """Count the heatmaps of some edges in this process; InputError where the codes lack a gene.

    `group`: of cells, which alone are counted, of `scored_group`.
    """
    return Evidence(edges, count_few(codes, *edge_genes(codes, edges), None if group is None else group.number)[0])


def scored_group(codes: Codes, facts: dict[str, Any], group: str | None) -> CellGroups | None:
    """A group of cells of a file of scores, alone; None for all groups combined.

    Raises
    ------
    InputError
        The matrix that says which cells it has is gone, or its annotations are others now.
    """
    return None if group in (None, COMBINED) else scored_groups(codes, facts).alone(str(group))


def scored_groups(codes: Codes, facts: dict[str, Any]) -> CellGroups:
    """The groups of cells of a file of scores, read again from the matrix. Raises like `scored_group`."""
    from pairscape.pipeline.heatmaps.grouped import groups_of_codes  # which opens the matrix

    known = facts["groups"]
    found = groups_of_codes(codes, Grouping(",".join(known["columns"]), max(min(known["cells"]), 2)))
    if (list(found.names), found.cells.tolist()) != (known["names"], known["cells"]):
        raise InputError(
            f"the annotations of {codes.provenance.get('matrix')} make other groups by {','.join(known['columns'])} "
            "than those that were scored; predict again."
        )
    return found


def edge_genes(codes: Codes, edges: Edges) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Genes of the codes at both ends of some edges, (E,) each; InputError where the codes lack one."""
    number = {name: at for at, name in enumerate(codes.array("gene").tolist())}
    used = np.unique(np.concatenate([edges.source, edges.target]))
    if missing := [name for name in edges.names(used) if name not in number]:
        raise InputError(f"{codes.path} lacks gene {missing[0]}, so it is not what was scored; predict again.")
    at = np.array([number.get(name, -1) for name in edges.genes], np.int64)
    return at[edges.source], at[edges.target]


def new_pairs(k: int, kind: str | None = None, group: str | None = None) -> EdgeChoice:
    """The choice of the best k pairs, of a kind, that are not known to be edges."""
    return EdgeChoice(top=k, new=True, kind=kind, group=group)


def clearest(best: Edges, k: int) -> Edges:
    """The k pairs most probably of their kind, of more that are the best of that kind; called ones first.

    Scores near 1 hardly differ, so what tells them apart is the probability of the kind.
    """
    clear = best.weight * best.columns["kind_probability"]
    not_called = np.zeros(clear.size, bool) if "q_value" not in best.columns else best.columns["q_value"] > CALLED_Q
    return best.take(np.lexsort((-clear, not_called))[:k])


def scored_edge(scores: Path, gene_a: str, gene_b: str, group: str | None = None) -> Edges:
    """A pair of a file of scores as an edge from gene_a to gene_b, found in either order; InputError if absent.

    Genes are named by id or symbol, as in lists.
    """
    gene_a, gene_b = genes_named(scores, (gene_a, gene_b))
    found = _scored_row(scores, gene_a, gene_b, group)
    if found is None:
        raise InputError(
            f"{scores} holds no pair of {gene_a} and {gene_b}: they were no candidates; not every pair is there."
        )
    row = {name: np.nan if value is None else value for name, value in found.items()}
    if "kind" in row:
        row["kind"] = KINDS.index(row["kind"]) if row["kind"] in KINDS else np.nan
    columns = {name: np.array([row[name]], np.float32) for name in SHOWN if name in row}
    source, target = np.array([0], np.int32), np.array([1], np.int32)
    weight = np.array([row["score"]], np.float32)
    symbols = symbols_of(scores, (gene_a, gene_b))
    return Edges((gene_a, gene_b), source, target, weight, columns, "forward" in row, symbols)


def _scored_row(scores: Path, gene_a: str, gene_b: str, group: str | None) -> dict[str, Any] | None:
    """The row of a pair. No filter of pyarrow's: that loads pandas."""
    file, genes = pq.ParquetFile(scores, read_dictionary=[*GENES]), GeneCodes()
    one, other = (genes.index.setdefault(name, len(genes.index)) for name in (gene_a, gene_b))
    for number in row_groups_of(scores, group):
        ends = file.read_row_group(number, columns=[*GENES])
        a, b = (np.concatenate([genes(chunk) for chunk in ends.column(name).chunks]) for name in GENES)
        at = np.flatnonzero(((a == one) & (b == other)) | ((a == other) & (b == one)))
        if at.size:
            row: dict[str, Any] = file.read_row_group(number).slice(int(at[0]), 1).to_pylist()[0]
            return row
    return None


def best_edges(scores: Path, k: int, gene: str | None, group: str | None = None) -> Edges:
    """The k best pairs of a gene, or without one of all that are no known edges. Raises like `choose_edges`."""
    if gene is None:
        return choose_edges(scores, new_pairs(k, group=group), SHOWN)
    return choose_edges(scores, EdgeChoice(top=k, gene=gene, group=group), SHOWN)


def show_scores(scores: Path, genes: tuple[str, ...], k: int, group: str | None = None) -> Evidence:
    """Count the heatmaps that `pairscape show` draws of a file of scores.

    `genes`: two, a pair; one, its best k pairs; none, the best k new ones.
    `group`: of cells, by whose scores, and over whose cells; absent: all groups combined.

    Raises
    ------
    InputError
        k is out of its range, the codes are gone, or no such pair was scored.
    """
    if not 1 <= k <= MOST_PICTURES:
        raise InputError(f"-k is {k}: it is how many pairs are drawn; give 1 to {MOST_PICTURES}.")
    facts = facts_of_group(scores, group)
    codes = scored_codes(facts, scores)
    if len(genes) == 2:
        edges = scored_edge(scores, *genes, group)
    else:
        edges = best_edges(scores, k, genes[0] if genes else None, group)
    return count_edges(codes, edges, scored_group(codes, facts, group))
