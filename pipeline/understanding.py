"""What names of genes tell. A stand-in of the smallest size, replaced at the merge."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.genes import IdKind, id_kind


@dataclass(frozen=True)
class Understanding:
    """What names of genes tell."""

    kind: IdKind

    def lines(self) -> list[str]:
        """What is understood, a fact a line."""
        return [f"gene names: {self.kind}"]


def describe_names(genes: Sequence[str], symbols: Sequence[str] | None = None) -> Understanding:
    """What the names of genes are."""
    return Understanding(id_kind(genes))
