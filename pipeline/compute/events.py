"""A log of what a job does, as JSON lines: one object a line, written when it happens, for machines to read."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, TextIO

from pairscape.pipeline.errors import InputError


class Events:
    """Log of a job; without a file it writes nothing.

    Every line has `time` (UTC), `seconds` since the log was opened, `event`, and facts of its own. Lines are appended,
    so that the runs of an interrupted job stand below each other; each begins with `start`.

    Parameters
    ----------
    path
        File to append to. Absent: nothing is noted.

    Raises
    ------
    InputError
        The file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._started, self._lock, self._file = time.monotonic(), Lock(), _opened(path)

    def __enter__(self) -> "Events":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.write("end", ok=False, why=" ".join(str(error).split()) or type(error).__name__)
        self.close()

    def write(self, event: str, **facts: Any) -> None:
        """Write one line; any thread may.

        Parameters
        ----------
        facts
            What is to be known of it, fit for JSON.
        """
        if self._file is None:
            return
        now, seconds = datetime.now(UTC).isoformat(timespec="milliseconds"), round(time.monotonic() - self._started, 3)
        line = json.dumps({"time": now, "seconds": seconds, "event": event, **facts})
        with self._lock:
            if not self._file.closed:  # a worker's message may arrive after the end
                self._file.write(f"{line}\n")

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            with self._lock:
                self._file.close()


def _opened(path: Path | None) -> TextIO | None:
    if path is None:
        return None
    try:
        return path.open("a", buffering=1, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"--events {path} cannot be written ({error.strerror or error}): give a file in a folder that exists and "
            "that you may write to."
        ) from error
