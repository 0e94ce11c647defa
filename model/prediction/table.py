"""The rows and columns of a file of scores, from the parts of a finished prediction."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairscape.model.edges.scores import SYMBOLS
from pairscape.model.prediction.candidates import CandidateImages
from pairscape.model.prediction.confidence import Confidence
from pairscape.model.prediction.parts import DIRECTED, Parts
from pairscape.model.prediction.trained import TrainedRun
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.matrix.cell_groups import CellGroups

JOINED_PARTS = 512  # parts, a million pairs, in one row group of the file: what is held while they are joined


def score_columns(
    candidates: CandidateImages, trained: TrainedRun, confidence: Confidence, groups: CellGroups | None
) -> list[str]:
    """Columns of the file of scores."""
    named = ["gene_a", "gene_b", *(SYMBOLS if candidates.symbols is not None else ())]
    scored = ["label", "score", *_told(trained), "dependence", "correlation", *confidence.columns]
    return [*named, *scored, *([] if groups is None else ["group"])]


def _told(trained: TrainedRun) -> tuple[str, ...]:
    """Columns of what a network tells beside the score."""
    if trained.names_kinds:
        return ("kind", "kind_probability")
    return ("forward",) if trained.network.facts.classes == DIRECTED else ()


def score_rows(
    parts: Parts, candidates: CandidateImages, confidence: Confidence, group: str = ""
) -> Iterator[pa.Table]:
    """The rows of the file, or of a group of cells in it, some parts at a time."""
    pairs, names = candidates.pairs, pa.array(candidates.genes.astype(object), pa.string())
    known = candidates.symbols
    symbols = None if known is None else pa.array([symbol or None for symbol in known], pa.string())
    for start in range(0, len(parts), JOINED_PARTS):
        some = range(start, min(start + JOINED_PARTS, len(parts)))
        rows, found = slice(parts.rows(start).start, parts.rows(some[-1]).stop), parts.read(some)
        genes = {name: getattr(pairs, name)[rows].astype(np.int32) for name in ("gene_a", "gene_b")}
        yield pa.table(
            {name: pa.DictionaryArray.from_arrays(pa.array(index), names) for name, index in genes.items()}
            | ({} if symbols is None else _symbol_columns(symbols, genes))
            | {"label": pairs.label[rows]}
            | {name: _or_null(found[name]) for name in found.dtype.names or () if name != "kind"}
            | {"kind": _kind_column(found["kind"])}
            | {name: _or_null(column) for name, column in confidence.rows(rows, found["score"]).items()}
            | {"group": pa.DictionaryArray.from_arrays(np.zeros(found.size, np.int32), pa.array([group]))}
        )


def _symbol_columns(symbols: pa.Array, genes: dict[str, NDArray[np.int32]]) -> dict[str, pa.Array]:
    """`symbol_a` and `symbol_b`, null for a gene without one."""
    named = zip(SYMBOLS, genes.values(), strict=True)
    return {name: symbols.take(pa.array(index)).dictionary_encode() for name, index in named}


def _kind_column(number: NDArray[np.float32]) -> pa.Array:
    """Names of kinds by their number, null for NaN."""
    known = ~np.isnan(number)
    index = pa.array(np.where(known, number, 0).astype(np.int32), mask=~known)
    return pa.DictionaryArray.from_arrays(index, pa.array(KINDS))


def _or_null(column: NDArray[np.float32]) -> pa.Array:
    return pa.array(column, mask=np.isnan(column))
