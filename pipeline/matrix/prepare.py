"""A matrix as heatmaps are made of it: our own stores and logarithms as they lie, all else ingested beside the result.

So raw counts mean the same wherever they are given: what `pipeline.matrix.ingest` makes of them, by the same rule.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.alike import STEPS
from pairscape.pipeline.matrix.expression import Expression, as_record, open_expression, own_record
from pairscape.pipeline.matrix.formats.hdf5_zarr import existing, opened
from pairscape.pipeline.matrix.source import IN_MEMORY, is_anndata
from pairscape.pipeline.matrix.value_kinds import Judged, judge, sampled
from pairscape.pipeline.options import Compute, Preset
from pairscape.pipeline.storage.digests import digest
from pairscape.pipeline.storage.paths import is_remote, located, spelled

ANNDATA = (".h5ad", ".zarr")  # that can be read as they lie


def prepared(
    source: Any,
    beside: Path,
    *,
    preset: Preset = "auto",
    compute: Compute | None,
    gene_column: str | None = None,
    say: Callable[..., None],
) -> Expression:
    """Open a matrix for counting; counts and normalised values, other formats and an AnnData in memory are ingested.

    Parameters
    ----------
    source
        A path or URL of any format that `open_source` knows, or an AnnData.
    beside
        The result: what has to be ingested goes to `NAME.expression.zarr` beside it, and is found again there.
    preset
        As of `ingest`, for what has to be ingested.
    gene_column
        The column that has the symbols of the genes. Absent: the first of those in use.
    say
        Told in a line what was done to the values, and what was left out.

    Raises
    ------
    InputError
        It cannot be opened; what its values are cannot be told; it has to be ingested, and the result is a URL.
    """
    record = trusted_record(source)
    if record and not is_anndata(source):
        return open_expression(located(source), gene_column)
    from pairscape.pipeline.matrix.open import source_stamp  # which knows every format

    how = {"preset": "none" if record else preset, "gene_column": gene_column}
    path, made_from = beside.with_name(f"{beside.stem}.expression.zarr"), digest({"stamp": source_stamp(source), **how})
    there = trusted_record(path) if not is_remote(path) and path.exists() else {}
    if there.get("made_from") != made_from:
        if (as_it_lies := _logarithms(source, gene_column, say)) is not None:
            return as_it_lies
        _refuse_place(path, there, _name(source))
        there = _ingest(source, path, how, made_from, compute, say)
    what = f"{there['value_kind']}, {STEPS[there['preset']]}, as `pairscape ingest` does"
    say(f"{_name(source)}: {what}; kept in {path}")
    return open_expression(path)


def counts_of(expression: Expression) -> Expression:
    """The raw counts of a matrix: itself, or its layer `counts`.

    Raises
    ------
    InputError
        It has no such layer, or the layer holds something else.
    """
    counts = expression if expression.values == "counts" else expression.layer("counts")
    name = expression.path or IN_MEMORY
    if counts is None:
        raise InputError(
            f"{name} holds no raw counts (layers['counts']), and Pearson residuals are made of them: run `pairscape "
            "ingest` on the raw counts, which keeps them, or leave --label-statistic out"
        )
    if (found := _sampled(counts)).kind not in ("raw counts", "fractional counts"):
        raise InputError(
            f"{name}: layers['counts'] holds {found.words()}, and Pearson residuals are made of raw counts; give "
            "a matrix with its counts, or leave --label-statistic out"
        )
    return counts


def _name(source: Any) -> str:
    return IN_MEMORY if is_anndata(source) else spelled(source)


def _logarithms(source: Any, gene_column: str | None, say: Callable[..., None]) -> Expression | None:
    """An AnnData of others on a disk that holds logarithms, of which nothing but annotations is left out; else None."""
    if is_anndata(source) or not spelled(source).endswith(ANNDATA) or not _lies_in_root(spelled(source)):
        return None
    from pairscape.pipeline.matrix.annotations import SAID
    from pairscape.pipeline.matrix.open import open_source

    with tempfile.TemporaryDirectory() as scratch:
        found = open_source(source, gene_column=gene_column, scratch=Path(scratch), progress=Silent())
    if found.judged.kind != "log":
        return None
    as_it_lies = open_expression(located(source), gene_column)
    if {note for note in found.notes if not note.startswith(SAID)} - set(as_it_lies.notes):
        return None
    say(f"{found.name}: {found.judged.words()}, taken as they are ({found.judged.why})", *as_it_lies.notes)
    return replace(as_it_lies, values="log")


def _lies_in_root(place: str) -> bool:
    """Whether a file is an AnnData, and not one that holds some."""
    with opened(place) as root:
        return "X" in root


def trusted_record(source: Any) -> Mapping[str, Any]:
    """What an AnnData of our making says of it; empty for all else, and where its values contradict it.

    Raises
    ------
    InputError
        It is a store of ours that holds no matrix.
    """
    if is_anndata(source):
        record, expression = as_record(source.uns.get("pairscape")), source
    elif not (place := spelled(source)).endswith(ANNDATA):
        return {}
    else:
        with opened(existing(place, ANNDATA)) as root:
            if (kind := str(root.attrs.get("format", ""))).startswith("pairscape-"):
                raise InputError(f"{place} is a store of {kind.removeprefix('pairscape-')}, and no matrix with an X")
            record = own_record(root)
        expression = located(source)
    if not record or record.get("preset") == "none":
        return record
    return {} if _sampled(open_expression(expression)).kind == "raw counts" else record


def _sampled(expression: Expression) -> Judged:
    """What the first and the last cells of a matrix hold."""
    runs = sampled(expression.n_cells)
    return judge([expression.rows(*run) for run in {runs[0], runs[-1]}], expression.path or IN_MEMORY)


def _refuse_place(path: Path, there: Mapping[str, Any], name: str) -> None:
    """Refuse to ingest to a URL, or over a store that was not made here."""
    if is_remote(path):
        raise InputError(
            f"{path} is a URL, and {name} has to be ingested first, which is done beside the result: run `pairscape "
            "ingest`, and give the store, or its URL"
        )
    if path.exists() and "made_from" not in there:
        raise InputError(f"{path} exists, and {name} has to be ingested there: give the result another name")


def _ingest(
    source: Any, path: Path, how: Mapping[str, Any], made_from: str, compute: Compute | None, say: Callable[..., None]
) -> Mapping[str, Any]:
    """Make the expression store beside the result, say what was left out, and return its record."""
    from pairscape.pipeline.matrix.ingest import ingest  # scanpy is loaded only where counts are normalised

    made = ingest(source, path, **how, overwrite=True, compute=compute, made_from=made_from)
    say(*(f"{_name(source)}: {note}" for note in made.notes))
    return trusted_record(path)
