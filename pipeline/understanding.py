"""What names of genes tell. A stand-in of the smallest size, replaced at the merge."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.genes import IdKind, id_kind


@dataclass(frozen=True)
class Understanding:
    """What names of genes tell."""

    id_kind: IdKind
    species: str = ""
    duplicates: tuple[str, ...] = ()
    excel_mangled: tuple[str, ...] = ()


def describe_names(genes: Sequence[str], symbols: Sequence[str] | None = None) -> Understanding:
    """What names of genes tell."""
    return Understanding(id_kind(genes))
