"""Packages that only some users need: imported when they are, and named when they are missing."""

from importlib import import_module
from types import ModuleType

from pairscape.pipeline.errors import InputError


def optional(package: str, extra: str, purpose: str) -> ModuleType:
    """The package, imported.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(
            f"{purpose} needs {package}, which cannot be imported here ({error}); pip install 'pairscape[{extra}]'."
        ) from error
