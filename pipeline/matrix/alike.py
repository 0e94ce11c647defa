"""Whether a matrix holds the kind of values that a network was trained on, and what makes counts alike. Pure."""

from collections.abc import Mapping
from pathlib import Path

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Preset

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
    return (
        f"{run} was trained on {IN_WORDS[trained_on]}, and {matrix} holds {IN_WORDS[given]}: its scores would mean "
        "nothing; ingest the raw counts with the --preset of the training, or train on such values"
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
