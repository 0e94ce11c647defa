"""Where the reports of predictions lie, and what may be replaced there: without what draws them, for quick refusals."""

from pathlib import Path

from pairscape.model.edges.scores import COMBINED
from pairscape.pipeline.storage.ownership import require_own_file
from pairscape.pipeline.storage.plain_files import file_name

PAGES = (b'content="pairscape"', " · Pairscape ".encode(), b"library_name: pairscape")


def report_path(scores: Path, group: str | None = None) -> Path:
    """Where the report of a file of scores lies, or that of one group of cells."""
    if group in (None, COMBINED):
        return scores.with_suffix(".html")
    return scores.with_name(file_name(f"{scores.stem}.{group}.html"))


def require_own_page(path: Path) -> None:
    """Refuse to write over a page, or a model card, that is not ours; those of earlier versions name us in the title.

    Raises
    ------
    InputError
        It is something else.
    """
    require_own_file(path, *PAGES)
