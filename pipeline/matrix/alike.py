"""What presets make of values in words, and whether two matrices hold values of one kind. Pure."""

from collections.abc import Mapping
from pathlib import Path

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Preset

STEPS: Mapping[Preset, str] = {
    "scanpy": "scaled to 10,000 per cell, log1p",
    "log1p": "log1p",
    "none": "kept as they are",
    "cnnc": "log10(x + 0.01), stored shifted by 2 so that 0 stays not expressed",
    "deep-cell": "scaled to 100 per cell, log2(x + 1)",
}

# What is done to raw counts for a network that was trained on values of a kind.
ALIKE: Mapping[str, Preset] = {"log": "auto", "counts": "none", "deep-cell": "deep-cell"}
IN_WORDS = {
    "log": "logarithms of normalised values",
    "counts": "raw counts",
    "cnnc": "log10(x + 0.01), preset cnnc",
    "deep-cell": "the values of preset deep-cell",
}


def unlike(trained_on: str, given: str, run: Path, matrix: str) -> str:
    """In words that a network was trained on values of another kind than a matrix holds; "" where it was not."""
    if not trained_on or not given or trained_on == given:
        return ""
    known, held = (IN_WORDS.get(values, values) for values in (trained_on, given))
    return (
        f"{run} was trained on {known}, and {matrix} holds {held}: its scores would mean nothing; ingest the raw "
        "counts with the --preset of the training, or train on such values"
    )


def refuse_unlike(trained_on: str, given: str, run: Path, matrix: str) -> None:
    """Refuse values of another kind than those a network was trained on, where both are known.

    Raises
    ------
    InputError
        They differ.
    """
    if differs := unlike(trained_on, given, run, matrix):
        raise InputError(differs)
