"""What a job runs in: its client, its progress bars, its words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairscape.pipeline.options import Compute

if TYPE_CHECKING:
    from distributed import Client

    from pairscape.pipeline.compute.progress import Progress


@contextmanager
def _progress(quiet: bool) -> "Iterator[Progress]":
    from pairscape.pipeline.compute.progress import Bars, Silent

    if quiet:
        yield Silent()
    else:
        with Bars() as bars:
            yield bars


@contextmanager
def _client(compute: Compute, quiet: bool, reads: list[Any], writes: str | Path | None) -> "Iterator[Client | None]":
    """The client that the work goes to; of what is read, matrices in memory are no one else's business."""
    from functools import partial

    from pairscape.pipeline.compute.clusters import open_client

    places = [path for path in reads if isinstance(path, str | Path)]
    with open_client(compute, partial(_say, quiet), reads=places, writes=writes) as client:
        yield client


def _say(quiet: bool, *lines: str) -> None:
    if not quiet:
        print(*lines, sep="\n", flush=True)
