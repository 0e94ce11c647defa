"""A matrix as heatmaps are made of it: our own stores and logarithms as they lie, all else ingested beside the result.

So raw counts mean the same wherever they are given: what `pipeline.matrix.ingest` makes of them, by the same rule.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anndata import AnnData

from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.annotations import SAID
from pairscape.pipeline.matrix.expression import Expression, open_expression, own_record, values_of
from pairscape.pipeline.matrix.formats.hdf5_zarr import existing, opened
from pairscape.pipeline.matrix.open import open_source
from pairscape.pipeline.matrix.source import IN_MEMORY, Source
from pairscape.pipeline.matrix.value_kinds import Judged, judge, sampled
from pairscape.pipeline.options import Compute, Preset
from pairscape.pipeline.storage.digests import digest
from pairscape.pipeline.storage.paths import holds_store, is_remote, located, spelled

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
    if record and not isinstance(source, AnnData):
        return open_expression(located(source), gene_column)
    with tempfile.TemporaryDirectory() as scratch:
        found = open_source(source, gene_column=gene_column, scratch=Path(scratch), progress=Silent())
    if found.name.endswith(ANNDATA) and found.judged.kind == "log" and _lies_in_root(found.name):
        as_it_lies = open_expression(located(source), gene_column)
        told = {note for note in found.notes if not note.startswith(SAID)}
        if told <= set(as_it_lies.notes):  # nothing is left out but annotations
            say(f"{found.name}: {found.judged.words()}, taken as they are ({found.judged.why})", *as_it_lies.notes)
            return replace(as_it_lies, values="log")
    how = {"preset": "none" if record else preset, "gene_column": gene_column}
    return _ingested(source, found, beside, how, compute, say)


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
    if isinstance(source, AnnData):
        said, expression = source.uns.get("pairscape"), source
        record = said if isinstance(said, Mapping) else {}
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


def _ingested(
    source: Any,
    found: Source,
    beside: Path,
    how: Mapping[str, Any],
    compute: Compute | None,
    say: Callable[..., None],
) -> Expression:
    """The expression store beside the result, made unless it is there already."""
    from pairscape.pipeline.matrix.ingest import ingest  # scanpy is loaded only where counts are normalised
    from pairscape.pipeline.matrix.normalize import STEPS

    if is_remote(beside):
        raise InputError(
            f"{beside} is a URL, and {found.name} has to be ingested first, which is done beside it: run `pairscape "
            "ingest`, and give the store, or its URL"
        )
    path = beside.with_name(f"{beside.stem}.expression.zarr")
    made_from = digest({"stamp": found.stamp, **how})
    record = trusted_record(path) if holds_store(path) else {}
    if path.exists() and "made_from" not in record:
        raise InputError(f"{path} exists, and {found.name} has to be ingested there: give the result another name")
    if record.get("made_from") != made_from:
        made = ingest(source, path, **how, overwrite=True, compute=compute, made_from=made_from)
        say(*(f"{found.name}: {note}" for note in made.notes if not note.startswith("taken for")))
        record = trusted_record(path)
    what = found.judged.words() if found.judged.kind != "raw counts" else "raw counts"
    say(f"{found.name}: {what}, {STEPS[record['preset']]}, as `pairscape ingest` does; kept in {path}")
    return replace(open_expression(path), values=values_of(record))
