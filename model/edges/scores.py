"""Scores of candidate pairs on disk: one parquet file for any tool, with what made it in the file's own metadata.

Contract (`format_version` 1), a row per candidate pair, in the order of the image store: `gene_a`, `gene_b` string
(names as in the matrix); `symbol_a`, `symbol_b` string, their symbols, where the matrix has any, null for a gene
without one; `label` int8, −1 where nothing is known; `score` float32, the probability of an edge at the prior that the
facts name, null where the screen kept the pair from the network; `forward` float32, only of a network
with three classes: the share of it for gene_a → gene_b; `kind` string and `kind_probability` float32, only of a network
of kinds: the likeliest kind of dependence, and its share of the score; `dependence` float32, which the screen ranks by;
`correlation` float32, Spearman's over the binned cells, signed. After `--q-values`: `q_value` float32. After
`--bootstrap`: `score_mean`, `score_sd`, `rank_stability` float32, null but for the best pairs. The facts are JSON under
the key `pairscape`.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.write import replaced

FORMAT, FORMAT_VERSION = "pairscape-scores", 1
KEY = b"pairscape"
ROWS_AT_ONCE = 2**20
NAMES = pa.dictionary(pa.int32(), pa.string())
COLUMNS: dict[str, pa.DataType] = {
    "group": NAMES,
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
}
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


def read_scores(path: Path, columns: Iterable[str] | None = None) -> pa.Table:
    """Columns of a file of scores, None: all; `gene_a` and `gene_b` are dictionaries. Raises like `read_facts`."""
    read_facts(path)
    return pq.read_table(path, columns=None if columns is None else list(columns), read_dictionary=["gene_a", "gene_b"])


def read_symbols(path: Path) -> dict[str, str]:
    """Symbol of each gene of a file of scores, "" for a gene without one; empty where the matrix had none."""
    if not set(SYMBOLS) <= set(pq.read_schema(path).names):
        return {}
    found: dict[str, str] = {}
    file = pq.ParquetFile(path, read_dictionary=[*GENES, *SYMBOLS])
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=[*GENES, *SYMBOLS]):
        for genes, symbols in zip(GENES, SYMBOLS, strict=True):
            named = batch.column(genes)
            rows = _first_rows(named)
            known = (symbol or "" for symbol in batch.column(symbols).take(rows).to_pylist())
            found.update(zip(named.take(rows).to_pylist(), known, strict=True))
    return found


def read_genes_of(path: Path) -> list[str]:
    """Every gene of a file of scores, in the order in which they come up."""
    found: dict[str, None] = {}
    for batch in pq.ParquetFile(path, read_dictionary=[*GENES]).iter_batches(ROWS_AT_ONCE, columns=[*GENES]):
        for genes in batch.columns:
            found.update(dict.fromkeys(genes.take(_first_rows(genes)).to_pylist()))
    return list(found)


def _first_rows(names: pa.DictionaryArray) -> pa.Array:
    """A row for each name that comes up in a column."""
    indices = names.indices.to_numpy(zero_copy_only=False)
    row = np.full(len(names.dictionary), -1, np.int64)
    row[indices[::-1]] = np.arange(indices.size)[::-1]
    return pa.array(np.sort(row[row >= 0]))
