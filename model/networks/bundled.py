"""The network that comes with the package: `universal` names it wherever a trained run is asked for."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.results import look

NAME = "universal"
WEIGHTS = "model.safetensors"


def bundled_folder() -> Path:
    """Where the network lies in this installation; the folder may be missing."""
    return Path(str(files("pairscape"))) / NAME


def is_bundled(folder: Path) -> bool:
    """Whether a folder is that of the network that comes with the package."""
    return folder.absolute() == bundled_folder()


def find_run(named: Any, say: Callable[..., None]) -> Any:
    """The run that a user names: what was given, but for `universal` the network that comes with the package.

    A run of that name in the working directory goes first; `say` is told which of the two it is.

    Raises
    ------
    InputError
        `universal` is asked for, and this installation lacks it.
    """
    if str(named) != NAME:
        return named
    own, bundled = Path(NAME), bundled_folder()
    if (own / WEIGHTS).is_file() or look(own) is not None:
        say(f"{NAME}: the run {own.absolute()}, not the network of that name that comes with Pairscape")
        return own
    if not (bundled / WEIGHTS).is_file():
        raise InputError(
            f"{NAME}: this installation lacks the network that comes with Pairscape ({bundled / WEIGHTS}); install "
            "Pairscape again, or give a folder that `pairscape train` made."
        )
    say(f"{NAME}: the network that comes with Pairscape, described in {bundled / 'model-card.md'}")
    return bundled


def run_folder(recorded: str) -> Path:
    """The folder of a run as a job records it: `universal` is wherever this installation has it."""
    return bundled_folder() if recorded == NAME else Path(recorded)
