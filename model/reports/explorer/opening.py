"""The explorer of a file of scores: read, with its pictures and modules found, and what is missing said."""

import csv
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pairscape.model.reports.explorer.answers import Explorer
from pairscape.model.reports.explorer.pictures import find_pictures
from pairscape.model.reports.explorer.table import read_table
from pairscape.pipeline.compute.progress import Say
from pairscape.pipeline.errors import InputError

SAID_PAIRS = 2_000_000  # of a file that keeps one waiting
MODULE_COLUMNS = ("gene", "module")


def open_explorer(scores: Path, codes: Any | None, modules: Path | None, say: Say) -> Explorer:
    """Read a file of scores.

    Parameters
    ----------
    codes
        Where the codes lie; None: where the scores say.
    modules
        Folder or table of `pairscape modules`, if any.
    say
        Told why there are no pictures.

    Raises
    ------
    InputError
        Not a file of scores, codes that do not fit it, or no table of modules.
    """
    pictures, missing = find_pictures(scores, codes)
    if (n_pairs := pq.read_metadata(scores).num_rows) > SAID_PAIRS:
        say(f"reading {n_pairs:,} rows of {scores.name}")
    known = {} if modules is None else read_modules(modules)
    if missing:
        say(missing if pictures else f"no pictures: {missing}")
    return Explorer(read_table(scores), pictures, missing, known)


def read_modules(place: Path) -> dict[str, int]:
    """Module of each gene by its id.

    Raises
    ------
    InputError
        It is no table that `pairscape modules` wrote.
    """
    path = place / "modules.tsv" if place.is_dir() else place
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with `pairscape modules`.")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return {row["gene"]: int(row["module"]) for row in rows}
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        wanted = " and ".join(MODULE_COLUMNS)
        raise InputError(
            f"{path} is no table of modules: it lacks {wanted}; give what `pairscape modules` wrote."
        ) from error
