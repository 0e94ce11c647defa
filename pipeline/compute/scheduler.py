"""The link of a job to its scheduler: results as they come, the number of threads, messages, and a scheduler that is
gone.

Dask waits for ever on a scheduler that does not answer: after a closed connection it marks results as cancelled, after
a cut one it reports nothing. So the scheduler is asked every few seconds.
"""

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from distributed import Client, Future, as_completed
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError

from pairscape.pipeline.errors import JobError

POLL_SECONDS = 0.01
PULSE_SECONDS = 5.0  # between two questions to the scheduler
# What Dask raises when a connection closed; of the two cancellations neither is the other.
GONE = (asyncio.CancelledError, concurrent.futures.CancelledError, ClosedClientError, CommClosedError)
SILENT_SECONDS = 60.0  # without an answer, after which it counts as gone; a busy one answers late


def scheduler_gone(client: Client) -> JobError:
    """The error that reports a scheduler that does not answer."""
    address = client.scheduler.address if client.scheduler is not None else "this address"
    return JobError(
        f"the Dask scheduler at {address} is gone (it ended, or the network to it was cut); what is finished is kept, "
        "run the same command again for the rest."
    )


@contextmanager
def attached(client: Client) -> Iterator[None]:
    """Turn the many errors of a lost connection inside the block into one.

    Raises
    ------
    JobError
        The scheduler is gone.
    """
    try:
        yield
    except GONE as error:
        raise scheduler_gone(client) from error
    except OSError as error:  # of a connection that is not made again, or of something else
        if client.status == "running":
            raise
        raise scheduler_gone(client) from error


class SchedulerLink:
    """The connection of a job to its scheduler.

    Attributes
    ----------
    threads
        Threads of all workers at the last question; the number changes while a cluster adapts.
    """

    def __init__(self, client: Client) -> None:
        self._client, self._asked, self.threads = client, 0.0, 1
        self._ask()

    def next_batch(self, ready: as_completed) -> list[Future[Any]]:
        """Futures that have ended; sometimes none, so that the caller can submit more for workers that joined.

        Raises
        ------
        JobError
            The scheduler is gone.
        """
        while not ready.has_ready():
            self._require_running()
            if time.monotonic() - self._asked > PULSE_SECONDS:
                self._ask()
                return []
            time.sleep(POLL_SECONDS)
        return list(ready.next_batch(block=False))

    def gather(self, futures: list[Future[Any]]) -> dict[Future[Any], Any]:
        """Results by future, none of them None; a result that was lost with its worker is left out."""
        if not futures:
            return {}
        numbered = dict(enumerate(futures))
        found = self._answered(lambda: self._client.gather(numbered, errors="skip", asynchronous=True))
        return {futures[number]: result for number, result in found.items() if result is not None}

    def _ask(self) -> None:
        threads = self._answered(lambda: self._client.scheduler.ncores())  # type: ignore[union-attr]
        self.threads, self._asked = max(sum(threads.values()), 1), time.monotonic()

    def _answered(self, question: Callable[[], Any]) -> Any:
        self._require_running()
        try:
            return self._client.sync(question, callback_timeout=SILENT_SECONDS)
        except (OSError, *GONE) as error:  # timeouts are OSErrors
            raise scheduler_gone(self._client) from error

    def _require_running(self) -> None:
        if self._client.status != "running":
            raise scheduler_gone(self._client)


@contextmanager
def subscribed(client: Client, topics: Mapping[str, Callable[[dict[str, Any]], None]]) -> Iterator[None]:
    """Call a function, in the client's own thread, for each message of a topic of the scheduler."""
    for topic, tell in topics.items():
        client.subscribe_topic(topic, lambda event, tell=tell: tell(event[1]))
    try:
        yield
    finally:
        for topic in topics:
            if client.status == "running":
                client.unsubscribe_topic(topic)
