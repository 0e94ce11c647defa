"""Ctrl-C: one line and exit status 130 within two seconds, whatever the program is in the middle of.

Python raises KeyboardInterrupt in the main thread, and only between two of its own steps: a compiled loop is finished
first, an interrupt inside a callback of a library is swallowed, what is closed on the way out may wait for others, and
the interpreter takes seconds to take torch apart. So a thread hears the signal as well, and ends the process if that
has not happened by itself.
"""

import atexit
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import Any

STATUS = 130
ENDED_SECONDS = 1.4  # that the program has to end by itself
ANEW = "interrupted; run the same command again: it begins anew"
_GOES_ON = "interrupted; run the same command again: it goes on from what is finished"
LINES = {  # of commands that do not just begin anew
    "train": "interrupted; run the same command again: it goes on after the last epoch that is finished",
    **dict.fromkeys(("ingest", "heatmaps", "predict", "tune", "run"), _GOES_ON),
    "fetch": "interrupted; run the same command again: files that are complete stay, the others begin anew",
    "plant": "interrupted; run the same command again, with --overwrite if a store is finished: it begins anew",
    "browse": "the page is closed",
}


@contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """End the process in one line when the user interrupts the block. For the main thread of a command line."""
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until all stands
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    hook, sys.unraisablehook = sys.unraisablehook, _silent_on_interrupt(sys.unraisablehook)
    end = _End()
    Thread(target=_watch, args=(heard, end), daemon=True).start()
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        yield
    except KeyboardInterrupt:
        end.say()
        if end.signalled.wait(ENDED_SECONDS / 10):  # else it was raised by the program itself
            atexit._run_exitfuncs()  # what has to be removed is; the rest of the interpreter ends with the process
            os._exit(STATUS)
        sys.exit(STATUS)
    finally:
        sys.unraisablehook = hook
        signal.set_wakeup_fd(before)
        os.close(told)  # which ends the thread


def line() -> str:
    """What is said when the command of this process is interrupted."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return ANEW if _keeps_nothing.is_set() else LINES.get(command, ANEW)


_keeps_nothing = Event()


@contextmanager
def keeping_nothing() -> Iterator[None]:
    """Say, of an interrupted block, that the command begins anew: whatever it has finished does not stay."""
    _keeps_nothing.set()
    try:
        yield
    except KeyboardInterrupt:  # of which is yet to be told
        raise
    except BaseException:
        _keeps_nothing.clear()
        raise
    _keeps_nothing.clear()


class _End:
    """Whether the signal has come, and the line, which is said once."""

    def __init__(self) -> None:
        self.signalled, self._said = Event(), Lock()

    def say(self) -> None:
        if self._said.acquire(blocking=False):
            print("pairscape:", line(), file=sys.stderr, flush=True)


def _watch(heard: int, end: _End) -> None:
    """Wait for the signal, then for the end of the program, then no longer."""
    while number := os.read(heard, 1):
        if number[0] == signal.SIGINT:
            end.signalled.set()
            time.sleep(ENDED_SECONDS)
            end.say()
            os._exit(STATUS)
    os.close(heard)


def _silent_on_interrupt(hook: Any) -> Any:
    """A hook for errors that cannot be raised, without those that an interrupt causes."""
    return lambda error: None if issubclass(error.exc_type, KeyboardInterrupt) else hook(error)
