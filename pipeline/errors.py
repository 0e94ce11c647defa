"""The two ways a job ends badly. The front door turns each into one line and an exit status."""

from typing import Any


class InputError(ValueError):
    """The user's input cannot be used: what, the value, why it matters, what to do. Exit status 2."""


class JobError(RuntimeError):
    """The input is good but the job did not finish: what is missing, why, what to do. Exit status 1.

    Attributes
    ----------
    findings
        What a verification found damaged; of any other job None.
    """

    findings: Any = None


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its class, if it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
