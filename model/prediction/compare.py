"""The comparison job: scores of two groups of cells, or two files of scores in; a ranked table of what changed out."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairscape.model.edges.calls import CALLED_Q
from pairscape.model.edges.edges import symbols_of
from pairscape.model.edges.evidence import scored_codes
from pairscape.model.edges.scores import read_facts
from pairscape.model.edges.sides import Side, check_groups, read_sides
from pairscape.model.evaluation.evaluate import versions
from pairscape.model.options import DEPTH
from pairscape.model.prediction.bands import Bands
from pairscape.model.prediction.dealing import FIRST, OTHER, SECOND, Dealing, Group
from pairscape.model.prediction.differences import (
    Recount,
    correlation_change,
    null_changes,
    seen_correlations,
    strata_of_groups,
    survey_cells,
)
from pairscape.model.prediction.fdr import BandedDiscovery
from pairscape.model.prediction.within import check_columns
from pairscape.model.reports.comparison import BEST, Comparison, page_path, write_comparison
from pairscape.model.reports.places import require_own_page
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.count import count_pairs
from pairscape.pipeline.heatmaps.memory import portion
from pairscape.pipeline.heatmaps.pairwise import PairRun
from pairscape.pipeline.matrix.cell_groups import column_of, group_cells
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.storage.ownership import require_own_file
from pairscape.pipeline.storage.write import replaced

FORMAT, FORMAT_VERSION = "pairscape-comparison", 1
KEY = b"pairscape"
LEAST_EXPRESSING = 10  # cells of either group that express a gene: the correlation of fewer jumps to 1
LITTLE_OVERLAP = 0.5  # of the depth of two groups, below which it is said
SURE = 1e-6  # scores are cut to here from 0 and 1 for their log-odds
Columns = dict[str, Any]


def compare_groups(
    scores: Path,
    groups: tuple[str, str],
    out: Path,
    *,
    replicates: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    session: Session,
) -> Comparison:
    """Compare two groups of cells of one file of scores, and write the table and its page.

    Parameters
    ----------
    replicates
        Column of the cells' annotations, such as the donor, whose values are dealt as a whole. Absent: single cells.

    Raises
    ------
    InputError
        The target exists and may not be replaced, or is not ours; the groups or the column are not there; the codes or
        the matrix are gone or others; a group is too small, or there are too few replicates.
    """
    _check_target(out, [scores], overwrite=overwrite)
    check_groups(scores, groups)
    facts = read_facts(scores)
    codes = scored_codes(facts, scores)
    obs = _obs(scores, facts).iloc[codes.array("cell")]
    group = _groups(scores, facts, obs, groups)
    dealing = Dealing(
        group, np.zeros_like(group), None if replicates is None else _replicate(obs, replicates, group), seed
    )
    dealing.check()
    first, second, genes = read_sides((scores, scores), groups)
    at = _places(codes, genes, scores)
    depth, expressing = survey_cells(codes, group)
    within = [column for column in facts.get("within") or () if column not in facts["groups"]["columns"]]
    recount = _recount(codes, dealing, obs, depth, within)  # what makes the groups is one value in each
    pairs = Pairs(at[first.gene_a], at[first.gene_b], np.full(first.gene_a.size, -1, np.int8))
    if recount.within is not None:
        one, other = seen_correlations(recount, pairs, session)
        first, second = _correlated(first, one), _correlated(second, other)
    table = _columns(first, second)
    enough = expressing.min(axis=0) >= LEAST_EXPRESSING
    compared = np.asarray(enough[pairs.gene_a] & enough[pairs.gene_b])
    if not compared.any():
        raise InputError(
            f"{scores}: no pair has two genes that {LEAST_EXPRESSING} cells or more express in {groups[0]} and in "
            f"{groups[1]}, so no change can be told; compare larger groups, or predict other pairs."
        )
    table["z"] = np.where(compared, table["z"], np.float32(np.nan))
    share = expressing.sum(axis=0) / sum(dealing.cells)
    table["q_value"], told = _discovered(recount, pairs, share, table["z"], session)
    shares = [expressing[number, at] / dealing.cells[number] for number in (FIRST, SECOND)]
    table |= _expressing(first, (shares[0], shares[1]))
    told |= {
        "scores": str(scores),
        "groups": list(groups),
        "replicates": replicates,
        "seed": seed,
        "within": within,
    }

    def pictures(some: Side) -> list[tuple[Any, Any]]:
        run = PairRun(0, at[some.gene_a].astype(np.int64), at[some.gene_b].astype(np.int64))
        return list(zip(*recount.images(run), strict=True))

    return _written(out, first, second, genes, symbols_of(scores, genes), table, told, pictures)


def compare_files(first: Path, second: Path, out: Path, *, overwrite: bool = False) -> Comparison:
    """Compare two files of scores over the pairs that both have, and write the table and its page, without q-values.

    Raises
    ------
    InputError
        The target exists and may not be replaced, or is not ours; a file cannot be read; no pair is in both.
    """
    _check_target(out, [first, second], overwrite=overwrite)
    paths = (first, second)
    within = [read_facts(path).get("within") for path in paths]
    if within[0] != within[1]:
        raise InputError(
            f"{first} was scored within {_listed(within[0])}, {second} within {_listed(within[1])}: their correlations "
            "mean different things; predict one of them again."
        )
    one, other, genes = read_sides(paths, None)
    table = _columns(one, other)
    told: dict[str, Any] = {
        "scores": [str(first), str(second)],
        "sentence": (
            "There are no q-values: the two files are of different cells, often of other depth and batch, which cannot "
            "be dealt to one another; z is the difference in standard deviations of Fisher's z as if nothing else "
            "differed."
        ),
    }
    codes = [_codes_at_hand(path) for path in paths]

    def pictures(some: Side) -> list[tuple[Any, Any]]:
        return list(zip(*(_counted(held, genes, some) for held in codes if held is not None), strict=True))

    shown = pictures if all(codes) else None
    return _written(out, one, other, genes, symbols_of(first, genes), table, told, shown)


# ---------------------------------------------------------------- the cells


def _groups(scores: Path, facts: dict[str, Any], obs: pd.DataFrame, groups: tuple[str, str]) -> Group:
    """Which cells are in either group, (N,), read again from their annotations."""
    known = facts["groups"]
    again = group_cells(obs, known["columns"], 1)
    group = np.full(len(obs), OTHER, np.uint8)
    for number, name in enumerate(groups):
        members = again.number == (again.names.index(name) if name in again.names else -1)
        expected = known["cells"][known["names"].index(name)]
        if int(members.sum()) != expected:
            raise InputError(
                f"{scores}: its group {name} had {expected:,} cells, the matrix now has {int(members.sum()):,} of it: "
                "the cells' annotations have changed since; predict again."
            )
        group[members] = number
    return group


def _recount(codes: Codes, dealing: Dealing, obs: pd.DataFrame, depth: NDArray[np.int32], within: list[str]) -> Recount:
    """Where the groups are counted: dealt among cells of like depth that are alike in the columns of `within` too."""
    alike = check_columns(obs, within).number
    stratum = strata_of_groups(dealing.group, alike, depth, dealing.seed)
    beyond = None if not within else stratum if DEPTH in within else alike
    return Recount(codes, _portion(codes), replace(dealing, stratum=stratum), beyond)


def _correlated(side: Side, correlation: NDArray[np.float64]) -> Side:
    return replace(side, values=side.values | {"correlation": correlation.astype(np.float32)})


def _obs(scores: Path, facts: dict[str, Any]) -> pd.DataFrame:
    """Annotations of all cells of the matrix that was scored."""
    path = (facts.get("matrix") or {}).get("path")
    if not path:
        raise InputError(f"{scores} does not say which matrix its cells are of; predict again, from a matrix.")
    if not Path(path).exists():
        raise InputError(f"{scores}: the matrix whose cells are in groups is gone ({path}); predict again.")
    return open_expression(path).obs()


def _replicate(obs: pd.DataFrame, column: str, group: Group) -> NDArray[np.int32]:
    """Number of each cell's value, (N,)."""
    code, _ = pd.factorize(column_of(obs, column))
    inside = code[group != OTHER]
    if (inside < 0).any():
        raise InputError(
            f"--replicates {column}: {int((inside < 0).sum()):,} of {inside.size:,} cells have no value, so it is "
            "unknown with which others they are dealt; fill them in, or leave those cells out."
        )
    return code.astype(np.int32)


def _discovered(
    recount: Recount, pairs: Pairs, share: NDArray[np.float64], z: NDArray[np.float32], session: Session
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """q-values by z (P,), NaN where that is, and what the table says of them; `share` of the cells express a gene."""
    seen, q_value = np.abs(z), np.full(z.size, np.nan, np.float32)
    known = np.flatnonzero(~np.isnan(z))
    compared = pairs.take(known)
    bands = Bands.of(compared, share)
    nulls = [null_changes(recount, compared.take(bands.rows(band)), session) for band in range(len(bands))]
    null, of_null = np.concatenate(nulls), np.repeat(np.arange(len(bands), dtype=np.uint8), [len(n) for n in nulls])
    found = BandedDiscovery.estimate([seen[known]], bands.number, null, of_null)
    q_value[known] = found(slice(None), seen[known])
    calls = {str(level): found.calls(level) for level in (0.01, 0.05, 0.1)}
    dealt = "cells of like depth were" if recount.dealing.replicate is None else "whole replicates were"
    return q_value, {
        "dealt": null.size,
        "calls": calls,
        "bands": bands.facts(found.calls_by_band(CALLED_Q)),
        "not_compared": int(np.isnan(seen).sum()),
        "overlap_of_depth": round(recount.dealing.overlap, 4),
        "sentence": (
            f"{calls['0.05']:,} pairs change at a false discovery rate of 5 %, by {null.size:,} pairs counted again "
            f"after {dealt} dealt to two groups of the same sizes anew{bands.words()}."
            f"{_left_out(seen)}{_apart(recount.dealing)}"
        ),
    }


def _left_out(seen: NDArray[np.float32]) -> str:
    """What has to be said of pairs that are not compared."""
    missing = int(np.isnan(seen).sum())
    if not missing:
        return ""
    few = f"fewer than {LEAST_EXPRESSING} cells of a group express one of their genes"
    return f" {missing:,} pairs are not compared, as {few}."


def _apart(dealing: Dealing) -> str:
    """What has to be said where few cells of one group have cells of like depth in the other."""
    if dealing.replicate is not None or dealing.overlap >= LITTLE_OVERLAP:
        return ""
    return (
        f" The groups differ in depth: among cells of like depth a deal moves {dealing.overlap:.0%} of the cells that "
        "it would move among all, so few changes can be called."
    )


def _portion(codes: Codes) -> Any:
    return portion(codes.binning, codes.n_cells, 1.0, None)


# ---------------------------------------------------------------- the table


def _columns(first: Side, second: Side) -> Columns:
    """What is told of each pair on both sides, and its change."""
    table: Columns = {}
    for number, side in enumerate((first, second), 1):
        table |= {f"{name}_{number}": values for name, values in side.values.items()}
    a, b = (side.values["correlation"].astype(np.float64) for side in (first, second))
    table["z"] = correlation_change(a, b, (first.cells, second.cells)).astype(np.float32)
    odds = [_log_odds(side.values["score"]) for side in (first, second)]
    table["evidence"] = (odds[0] - odds[1]).astype(np.float32)
    return table


def _log_odds(score: NDArray[np.float32]) -> NDArray[np.float64]:
    cut = np.clip(score.astype(np.float64), SURE, 1 - SURE)
    return np.asarray(np.log(cut / (1 - cut)))


def _expressing(pairs: Side, shares: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Columns:
    """Share of the cells that express each gene of a pair, on both sides."""
    return {
        f"expressing_{end}_{number}": share[gene].astype(np.float32)
        for end, gene in (("a", pairs.gene_a), ("b", pairs.gene_b))
        for number, share in enumerate(shares, 1)
    }


def _written(
    out: Path,
    first: Side,
    second: Side,
    genes: tuple[str, ...],
    symbols: tuple[str, ...] | None,
    table: Columns,
    told: dict[str, Any],
    pictures: Callable[[Side], list[tuple[Any, Any]]] | None,
) -> Comparison:
    """Rank the pairs, and write table and page."""
    order = np.argsort(-np.abs(np.nan_to_num(table["z"])), kind="stable")  # q-values of a band do not rise so
    pairs = first.take(order)
    names, cells = (first.name, second.name), (first.cells, second.cells)
    facts = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "names": list(names), "cells": list(cells), **told,
        "versions": versions(),
    }  # fmt: skip
    ranked = {name: values[order] for name, values in table.items()}
    found = Comparison(out.stem, names, cells, genes, symbols, pairs.gene_a, pairs.gene_b, ranked, facts)
    write_table(out, found)
    best = pairs.take(np.arange(min(BEST, len(found))))
    write_comparison(out, found, [] if pictures is None else pictures(best))
    return found


ORDER = (
    "correlation_1", "correlation_2", "z", "q_value", "score_1", "score_2", "evidence", "kind_1", "kind_2",
    "expressing_a_1", "expressing_a_2", "expressing_b_1", "expressing_b_2",
)  # fmt: skip


def write_table(path: Path, found: Comparison) -> None:
    """Write a row a pair, the most changed first, aside, then in one step to its place; unknown values are null."""
    columns: dict[str, pa.Array] = {}
    ends = {"a": found.gene_a, "b": found.gene_b}
    for end, gene in ends.items():
        columns[f"gene_{end}"] = pa.DictionaryArray.from_arrays(pa.array(gene), pa.array(found.genes, pa.string()))
    if found.symbols is not None:
        known = pa.array([symbol or None for symbol in found.symbols], pa.string())
        for end, gene in ends.items():
            columns[f"symbol_{end}"] = known.take(pa.array(gene)).dictionary_encode()
    for name in ORDER:
        if name in found.columns:
            columns[name] = _stored(name, found.columns[name])
    table = pa.table(columns).replace_schema_metadata({KEY: json.dumps(found.facts).encode()})
    with replaced(path) as part:
        pq.write_table(table, part, compression="zstd")


def _stored(name: str, values: NDArray[np.float32]) -> pa.Array:
    missing = np.isnan(values)
    if not name.startswith("kind"):
        return pa.array(values, mask=missing)
    index = pa.array(np.where(missing, 0, values).astype(np.int32), mask=missing)
    return pa.DictionaryArray.from_arrays(index, pa.array(KINDS))


# ---------------------------------------------------------------- places


def _places(codes: Codes, genes: tuple[str, ...], scores: Path) -> NDArray[np.int32]:
    """Where each gene is among those of the codes."""
    at = pd.Index(codes.array("gene").astype(object)).get_indexer(pd.Index(genes))
    if (at < 0).any():
        raise InputError(f"{codes.path} lacks gene {genes[int((at < 0).argmax())]}, so it is not what {scores} was "
                         "scored from; predict again.")  # fmt: skip
    return at.astype(np.int32)


def _listed(columns: list[str] | None) -> str:
    return ", ".join(columns or ["nothing"])


def _codes_at_hand(path: Path) -> Codes | None:
    """The codes of a file of scores, None where they are gone: only pictures need them."""
    try:
        return scored_codes(read_facts(path), path)
    except InputError:
        return None


def _counted(codes: Codes, genes: tuple[str, ...], pairs: Side) -> NDArray[np.signedinteger]:
    at = _places(codes, genes, Path(codes.path)).astype(np.int64)
    return count_pairs(codes, at[pairs.gene_a], at[pairs.gene_b])[0]


def _check_target(out: Path, sources: list[Path], *, overwrite: bool) -> None:
    """Refuse a target before any work."""
    if out.suffix != ".parquet":
        raise InputError(f"{out} does not end in .parquet: a comparison is a table; name it {out.stem}.parquet.")
    if any(out.absolute() == source.absolute() for source in sources):
        raise InputError(f"{out} is what is read; give another name.")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists: give another name, or allow to overwrite it (--overwrite).")
    require_own_file(out, FORMAT.encode())
    require_own_page(page_path(out))
