"""What the report of a prediction says of strata: what was taken out of the scores, and what should have been."""

from collections.abc import Mapping
from typing import Any

from pairscape.model.options import DEPTH


def depth_words(facts: Mapping[str, Any]) -> str:
    """What a score has to do with the depth of cells."""
    if DEPTH in (facts.get("within") or ()):
        return ""
    return (
        " Scores count what unlike depth of the cells does to a pair; q-values do not, as their decoys share it. Trust "
        "the q-values."
    )


def first_lines(facts: Mapping[str, Any]) -> list[str]:
    """What a reader has to know before any score: columns that explain the best pairs, and what was taken out."""
    said = [str(column["sentence"]) for column in facts.get("explained") or []]
    warned = [f"{sentence[:1].upper()}{sentence[1:]}." for sentence in said]
    if not facts.get("within"):
        return warned
    columns = " and ".join(facts["within"])
    return [
        *warned,
        f"Scores are of dependence beyond {columns}: cells are compared within {facts['strata']:,} strata.",
    ]
