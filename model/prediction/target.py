"""Where a prediction may write its scores, looked at before a network, and what runs it, are loaded."""

from pathlib import Path

from pairscape.model.edges.scores import read_facts
from pairscape.model.reports.places import report_path, require_own_page
from pairscape.pipeline.errors import InputError


def check_target(out: Path, *, overwrite: bool) -> None:
    """Refuse a file of scores that may not be written.

    Raises
    ------
    InputError
        `out` does not end in .parquet, exists and may not be replaced, or is something else than a file of scores.
    """
    if out.suffix != ".parquet":
        raise InputError(f"{out} does not end in .parquet: scores are one table; name it {out.stem}.parquet.")
    if (report := report_path(out)).exists() and not (overwrite or out.exists()):
        raise InputError(f"{report} exists, and the report goes there: give another name, or --overwrite.")
    require_own_page(report)
    if not out.exists():
        return
    if not overwrite:
        raise InputError(f"{out} exists: give another name, or allow to overwrite it (--overwrite).")
    read_facts(out)  # whatever is no file of scores is not overwritten
