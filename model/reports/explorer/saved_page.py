"""The explorer as one file: the best pairs with their pictures, for somebody who has a browser and nothing else."""

import base64
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pairscape.model.reports.explorer.answers import Explorer, numbers
from pairscape.model.reports.explorer.page import render_page
from pairscape.model.reports.explorer.table import Rows, Wanted
from pairscape.model.reports.places import require_own_page
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.write import write_file

MOST_BYTES = 20_000_000  # that a page may have to be sent by mail
MOST_PAIRS = 20_000
MOST_PICTURES = 50_000  # pairs times groups: 200 MB while they are counted


def check_page(path: Path, best: int, scores: Path, *, overwrite: bool) -> None:
    """Refuse a page that cannot be written, before the scores are read.

    Raises
    ------
    InputError
        It has another suffix, exists and may not be replaced, or is not ours; it would be the report of the scores; or
        the number of pairs is out of its range.
    """
    if path.suffix != ".html":
        raise InputError(f"{path}: a page of the explorer is one file of HTML; name it {path.stem}.html.")
    if path.absolute() == scores.with_suffix(".html").absolute():
        raise InputError(f"{path} is where the report of {scores} lies; give the page another name.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: give another name, or allow to overwrite it (--overwrite).")
    require_own_page(path)
    if not 1 <= best <= MOST_PAIRS:
        raise InputError(f"--best is {best}: it is how many pairs the page has; give 1 to {MOST_PAIRS:,}.")


def write_saved_page(explorer: Explorer, path: Path, best: int) -> int:
    """Write the page of the best pairs of all cells; returns its size in bytes.

    Raises
    ------
    InputError
        It would be larger than `MOST_BYTES`.
    """
    each = 1 if explorer.pictures is None else 1 + len(explorer.pictures.names)
    if best * each > MOST_PICTURES:
        raise InputError(
            f"{best:,} pairs in {each - 1:,} groups of cells are {best * each:,} pictures, too many for a page; give "
            f"fewer pairs (--best {MOST_PICTURES // each})."
        )
    page = saved_page(explorer, best)
    if len(page) > MOST_BYTES:
        fit = max(1, int(0.9 * best * MOST_BYTES / len(page)))
        raise InputError(
            f"a page of {best:,} pairs has {len(page) / 1e6:.0f} MB, and more than {MOST_BYTES / 1e6:.0f} MB are hard "
            f"to send; give fewer pairs (--best {fit})."
        )
    write_file(path, page)
    return len(page)


def saved_page(explorer: Explorer, best: int) -> bytes:
    """The page that holds all that it shows."""
    table = explorer.table
    _, rows = table.find(Wanted(group=table.default_group), 0, best)
    genes = np.unique(np.concatenate([table.a[rows], table.b[rows]])).astype(np.int64)
    groups = {group: _columns(explorer, _rows_of(explorer, group, rows), genes) for group in table.groups}
    words, some = explorer.words(), genes.tolist()
    held: dict[str, Any] = {"groups": groups, "of": table.n_pairs}
    if explorer.pictures is not None:
        held["pictures"] = _pictures(explorer, rows, genes)
    words |= {
        "labels": [words["labels"][gene] for gene in some],
        "ids": [words["ids"][gene] for gene in some],
        "modules": [words["modules"][gene] for gene in some] if words["modules"] else [],
        "n_pairs": int(rows.size),
        "saved": held,
    }
    return render_page(words)


def _rows_of(explorer: Explorer, group: str, rows: Rows) -> Rows:
    """The rows of the same pairs in a group, best first."""
    table = explorer.table
    if group == table.default_group:
        return rows
    held, size = table.groups[group], len(table.genes)
    wanted = table.a[rows].astype(np.int64) * size + table.b[rows]
    there = table.a[held].astype(np.int64) * size + table.b[held]
    return np.flatnonzero(np.isin(there, wanted)) + held.start


def _columns(explorer: Explorer, rows: Rows, genes: Rows) -> dict[str, list[Any]]:
    """Some pairs as columns, genes by their number on the page."""
    table = explorer.table
    columns = {name: np.searchsorted(genes, each[rows]).tolist() for name, each in (("a", table.a), ("b", table.b))}
    shown = {name: table.columns[name] for name in table.varied}
    return columns | {name: numbers(values[rows]) for name, values in {"score": table.score, **shown}.items()}


def _pictures(explorer: Explorer, rows: Rows, genes: Rows) -> dict[str, Any]:
    """Counts of some pairs, packed, and the ends of each gene's bins."""
    assert explorer.pictures is not None
    table, pictures = explorer.table, explorer.pictures
    pairs = [(table.genes[a], table.genes[b]) for a, b in zip(table.a[rows], table.b[rows], strict=True)]
    counts = pictures.draw_all(pairs)
    kind = "<u2" if counts.max(initial=0) < 2**16 else "<i4"
    return {
        "bins": pictures.bins,
        "names": ["", *pictures.names],
        "bytes": int(kind[-1]),
        "counts": base64.b64encode(zlib.compress(counts.astype(kind).tobytes(), 9)).decode(),
        "ends": [numbers(ends) for ends in pictures.ends_of([table.genes[gene] for gene in genes.tolist()])],
    }
