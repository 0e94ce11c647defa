"""The two ways a job ends badly. The front door turns each into one line and an exit status.

What a message quotes comes from files and may hold anything, so it is made safe to print here, for all of them.
"""

import re
import unicodedata
from typing import Any

INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, surrogate, line and paragraph separators
LONGEST_WORD, LONGEST_MESSAGE = 300, 4000  # characters of a message that are shown
ENDLESS = re.compile(rf"(\S{{{LONGEST_WORD}}})\S+")


class InputError(ValueError):
    """The user's input cannot be used: what, the value, why it matters, what to do. Exit status 2."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shown(message))


class JobError(RuntimeError):
    """The input is good but the job did not finish: what is missing, why, what to do. Exit status 1.

    Attributes
    ----------
    findings
        What a verification found damaged; of any other job None.
    """

    findings: Any = None

    def __init__(self, message: str = "") -> None:
        super().__init__(in_one_line(message))


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its class, if it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def printable(text: str) -> str:
    r"""The same text with what a terminal would obey written out: \x1b[2J as those six characters, a line end as \n."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if unicodedata.category(c) not in INVISIBLE or c == "\t" else repr(c)[1:-1] for c in text)


def in_one_line(text: str) -> str:
    """The same text with a blank for each end of a line, safe to print."""
    return printable(" ".join(str(text).splitlines()))


def shown(text: str) -> str:
    """The same text as printed in one message: safe, and no longer than a screen."""
    text = ENDLESS.sub(r"\1…", in_one_line(str(text)[: 4 * LONGEST_MESSAGE]))
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"
