"""Dask's own report of a job: task stream, bandwidth, load of workers and scheduler, as one HTML page."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from distributed import Client, performance_report

from pairscape.pipeline.errors import InputError


@contextmanager
def reported(client: Client | None, path: Path | None) -> Iterator[None]:
    """Write the report of what runs inside, also of what failed there, as long as the scheduler is there to tell.

    Parameters
    ----------
    path
        Page to write. Absent: nothing is.

    Raises
    ------
    InputError
        There is no cluster to report on, bokeh is not installed, or there is no such folder.
    """
    if path is None:
        yield
        return
    if client is None:
        raise InputError(
            "--performance-report is about a cluster, and --scheduler synchronous starts none; give local."
        )
    if find_spec("bokeh") is None:
        raise InputError(
            "--performance-report draws with bokeh, which is not installed here (the scheduler needs it too): "
            "pip install 'pairscape[dashboard]'."
        )
    if not path.absolute().parent.is_dir():
        raise InputError(
            f"--performance-report {path}: there is no folder {path.parent}; make it, or give another path."
        )
    report = performance_report(filename=str(path))
    report.__enter__()
    try:
        yield
    finally:
        if client.status == "running":
            report.__exit__(None, None, None)
