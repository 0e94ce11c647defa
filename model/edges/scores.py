"""Scores of candidate pairs on disk: one parquet file for any tool, with what made it in the file's own metadata.

Contract (`format_version` 1), a row per candidate pair, in the order of the image store: `gene_a`, `gene_b` string
(names as in the matrix); `symbol_a`, `symbol_b` string, their symbols, where the matrix has any, null for a gene
without one; `label` int8, −1 where nothing is known; `score` float32, the probability of an edge at the prior that the
facts name, null where the screen kept the pair from the network; `forward` float32, only of a network
with three classes: the share of it for gene_a → gene_b; `kind` string and `kind_probability` float32, only of a network
of kinds: the likeliest kind of dependence, and its share of the score; `dependence` float32, which the screen ranks by;
`correlation` float32, Spearman's over the binned cells, signed. After `--q-values`: `q_value` float32. After
`--bootstrap`: `score_mean`, `score_sd`, `rank_stability` float32, null but for the best pairs. After `combine`:
`mean_z`, `log_odds` float32, `sets` int16 (model.edges.pooling), and where the main factors of all pairs were asked for
`factor_correlation` float32 (model.edges.factors). The facts are JSON under the key `pairscape`.

With groups of cells (`--by`) there is a row per pair and group, and the column `group` string: first all pairs of
`combined`, which is all groups together, then all pairs of each group, in the order of the facts `groups` (`columns`,
`names`, `cells`). Row groups of the file do not mix them. Readers work on one group at a time.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairscape.pipeline.errors import InputError, printable
from pairscape.pipeline.storage.write import replaced

if TYPE_CHECKING:
    import pandas as pd

FORMAT, FORMAT_VERSION = "pairscape-scores", 1
KEY = b"pairscape"
ROWS_AT_ONCE = 2**20
NAMES = pa.dictionary(pa.int32(), pa.string())
COLUMNS: dict[str, pa.DataType] = {
    "gene_a": NAMES,
    "gene_b": NAMES,
    "symbol_a": NAMES,
    "symbol_b": NAMES,
    "label": pa.int8(),
    "score": pa.float32(),
    "forward": pa.float32(),
    "kind": NAMES,
    "kind_probability": pa.float32(),
    "dependence": pa.float32(),
    "correlation": pa.float32(),
    "q_value": pa.float32(),
    "score_mean": pa.float32(),
    "score_sd": pa.float32(),
    "rank_stability": pa.float32(),
    "group": NAMES,
    "mean_z": pa.float32(),
    "log_odds": pa.float32(),
    "sets": pa.int16(),
    "factor_correlation": pa.float32(),
}
COMBINED = "combined"  # of rows over all groups of cells
GENES = ("gene_a", "gene_b")
SYMBOLS = ("symbol_a", "symbol_b")
ALWAYS = ("gene_a", "gene_b", "label", "score", "dependence", "correlation")


def write_scores(path: Path, parts: Iterable[pa.Table], columns: Iterable[str], facts: dict[str, Any]) -> None:
    """Write a file of scores part by part, aside, then in one step to its place.

    `parts` are tables of `columns` (names among `COLUMNS`) in order; `facts` say what made the scores, `format` and
    `format_version` are added.
    """
    kept = {"format": FORMAT, "format_version": FORMAT_VERSION, **facts}
    schema = pa.schema([(name, COLUMNS[name]) for name in columns], metadata={KEY: json.dumps(kept).encode()})
    with replaced(path) as unfinished, pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
        for part in parts:
            writer.write_table(part.select(schema.names).cast(schema))


def read_facts(path: Path) -> dict[str, Any]:
    """What made a file of scores.

    Raises
    ------
    InputError
        No such file, not one of ours, or of another version.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with `pairscape predict`.")
    try:
        facts: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {})[KEY])
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no scores of Pairscape; give a file that `pairscape predict` made.") from error
    if (facts.get("format"), facts.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise InputError(
            f"{path} is {facts.get('format')} version {facts.get('format_version')}, this Pairscape reads {FORMAT} "
            f"version {FORMAT_VERSION}; its columns could mean something else: predict again."
        )
    return facts


def no_probability(facts: dict[str, Any]) -> str:
    """The rule by which scores were pooled, where it makes them no probabilities (docs/combine.md); else ""."""
    rule = str((facts.get("combined") or {}).get("rule", ""))
    return rule if rule in ("mean-z", "mean-rank", "factors") else ""


def read_scores(path: Path, columns: Iterable[str] | None = None, group: str | None = None) -> pa.Table:
    """Columns of a file of scores, None: all; `gene_a` and `gene_b` are dictionaries.

    Parameters
    ----------
    group
        Of cells, whose rows are read. Absent: where there are groups, the rows of all groups combined.

    Raises
    ------
    InputError
        As `read_facts` and `row_groups_of`.
    """
    rows = row_groups_of(path, group)
    file, wanted = pq.ParquetFile(path, read_dictionary=[*GENES]), None if columns is None else list(columns)
    return file.read_row_groups(rows, wanted) if rows else file.read(wanted)


def read_every_group(path: Path) -> pa.Table:
    """A whole file of scores, all rows of all groups of cells. Raises like `read_facts`."""
    read_facts(path)
    return pq.read_table(path, read_dictionary=[*GENES])


def groups_in(facts: dict[str, Any]) -> tuple[str, ...]:
    """What may be asked for in a file of scores: `combined` and the names of its groups; () where there are none."""
    groups = facts.get("groups")
    return (COMBINED, *groups["names"]) if groups else ()


def read_frame(path: Path) -> "pd.DataFrame":
    """The same as a DataFrame, with the facts as its `attrs`. Raises like `read_facts`."""
    frame = read_every_group(path).to_pandas()
    frame.attrs = read_facts(path)
    return frame


def facts_of_group(path: Path, group: str | None) -> dict[str, Any]:
    """What a file of scores says of the rows of one group of cells; None: of all groups combined, or of the file.

    Raises
    ------
    InputError
        As `read_facts`; it has no such group.
    """
    facts = read_facts(path)
    number = _group_number(path, facts, group)
    if not number:
        return facts
    groups, own = facts["groups"], facts.get("by_group", {}).get(group, {})
    of_all = ("fdr", "screen", "shift", "explained", "within", "strata", "stability")
    kept = {name: value for name, value in facts.items() if name not in of_all}
    columns = [column for column in facts.get("within", []) if column not in groups["columns"]]
    beyond = {"within": columns} if columns else {}
    return kept | own | beyond | {"group": group, "matrix": facts["matrix"] | {"n_cells": groups["cells"][number - 1]}}


def row_groups_of(path: Path, group: str | None) -> list[int]:
    """Row groups of the file that hold the rows of a group of cells; None: those of all groups combined.

    Raises
    ------
    InputError
        As `read_facts`; it has no such group, or someone has laid the file out anew.
    """
    facts, metadata = read_facts(path), pq.read_metadata(path)
    number = _group_number(path, facts, group)
    if not (known := groups_in(facts)):
        return list(range(metadata.num_row_groups))
    ends = np.cumsum([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
    size, left = divmod(metadata.num_rows, len(known))
    found = np.flatnonzero((ends > number * size) & (ends <= (number + 1) * size))
    if left or not found.size or ends[found[-1]] != (number + 1) * size or (number and number * size not in ends):
        raise InputError(f"{path} was written anew by something else, which mixes its groups of cells; predict again.")
    return [int(i) for i in found]


def _group_number(path: Path, facts: dict[str, Any], group: str | None) -> int:
    known = groups_in(facts)
    if group is None:
        return 0
    if group not in known:
        there = f"it has {', '.join(known)}" if known else "it has no groups of cells (predict --by COLUMN)"
        raise InputError(printable(f"{path} has no group {group!r}: {there}; give one of them."))
    return known.index(group)


def read_symbols(path: Path) -> dict[str, str]:
    """Symbol of each gene of a file of scores, "" for a gene without one; empty where the matrix had none."""
    if not set(SYMBOLS) <= set(pq.read_schema(path).names):
        return {}
    found: dict[str, str] = {}
    file = pq.ParquetFile(path, read_dictionary=[*GENES, *SYMBOLS])
    for batch in file.iter_batches(ROWS_AT_ONCE, row_groups_of(path, None), columns=[*GENES, *SYMBOLS]):
        for genes, symbols in zip(GENES, SYMBOLS, strict=True):
            named = batch.column(genes)
            rows = _first_rows(named)
            known = (symbol or "" for symbol in batch.column(symbols).take(rows).to_pylist())
            found.update(zip(named.take(rows).to_pylist(), known, strict=True))
    return found


def read_genes_of(path: Path) -> list[str]:
    """Every gene of a file of scores, in the order in which they come up."""
    found: dict[str, None] = {}
    file = pq.ParquetFile(path, read_dictionary=[*GENES])
    for batch in file.iter_batches(ROWS_AT_ONCE, row_groups_of(path, None), columns=[*GENES]):
        for genes in batch.columns:
            found.update(dict.fromkeys(genes.unique().to_pylist()))
    return list(found)


def _first_rows(names: pa.DictionaryArray) -> pa.Array:
    """A row for each name that comes up in a column; neither way between numpy and pyarrow loads pandas."""
    indices = np.from_dlpack(names.indices)
    row = np.full(len(names.dictionary), -1, np.int64)
    row[indices[::-1]] = np.arange(indices.size)[::-1]
    first = np.sort(row[row >= 0])
    return pa.Array.from_buffers(pa.int64(), first.size, [None, pa.py_buffer(first)])
