"""Files with bytes of their own, which can be read again, and names for files that are made of names of genes."""

import os
from pathlib import Path
from stat import S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFSOCK

from pairscape.pipeline.errors import InputError

LONGEST_NAME = 100  # characters of a name that is made of names of genes
SPECIAL = {S_IFIFO: "a pipe", S_IFSOCK: "a socket", S_IFCHR: "a device", S_IFBLK: "a device"}


def check_plain_file(place: str | Path) -> None:
    """Refuse what has no bytes of its own to be read twice; what is not there is somebody else's matter.

    Raises
    ------
    InputError
        It is a pipe, a socket or a device.
    """
    try:
        kind = SPECIAL.get(S_IFMT(os.stat(place).st_mode))  # noqa: PTH116 — quicker, and called for each chunk
    except (OSError, ValueError):
        return
    if kind is not None:
        raise InputError(
            f"{place} is {kind}, which can be read once at most, and a matrix or list is read more often: write its "
            "content to a file, and give that"
        )


def moved(place: str | Path) -> InputError:
    """The error for a file that was there before."""
    return InputError(f"{place} has been moved or removed meanwhile: give its new place")


def file_name(text: str) -> str:
    """A name for a file that is made of names of genes: what would mean a folder, or could not be typed, becomes _."""
    bare = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in text)
    stem, _, suffix = bare.rpartition(".")
    return f"{stem.lstrip('.-')[:LONGEST_NAME] or '_'}.{suffix}"
