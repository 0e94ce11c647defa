"""The folder that serves public data without internet access: the one that PAIRSCAPE_DATA names."""

import os
from pathlib import Path

from pairscape.pipeline.errors import InputError

VARIABLE = "PAIRSCAPE_DATA"


def offline_folder() -> Path | None:
    """The folder; None where the variable is not set.

    Raises
    ------
    InputError
        It names no folder.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    if not Path(named).is_dir():
        raise InputError(f"{VARIABLE} is {named!r}, no folder, so nothing can be served from it; correct or unset it.")
    return Path(named)
