"""Pairscape: gene-pair inference from single-cell data with images of joint expression.

Every command of the command line is a function of this package: `pairscape train images.zarr run --epochs 3` is
`pairscape.train("images.zarr", "run", epochs=3)`; `pairscape.pl` draws. docs/python.md shows them. Each is imported
when it is first asked for, so that importing one module of the package loads nothing else.
"""

from importlib import import_module
from typing import Any

from pairscape.surroundings import hiding_file, place_caches

__all__ = [
    "__version__", "app", "browse", "combine", "compare", "demo", "deploy", "doctor", "evaluate", "export", "fetch",
    "heatmaps", "ingest", "main", "modules", "pl", "plan", "plant", "predict", "report", "run", "show", "simulate",
    "train", "tune", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """A command by its name, imported at the first use."""
    if name not in __all__:
        raise AttributeError(f"module 'pairscape' has no attribute {name!r}")
    try:
        if name == "pl":
            return import_module("pairscape.pl")
        return getattr(import_module("pairscape.command_line"), name)
    except Exception as error:  # whatever a file in the place of a library does
        if (told := hiding_file(error)) is None:
            raise
        raise ImportError(told) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


place_caches()  # before anything imports numba
