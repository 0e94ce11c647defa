"""Names in a user's list → genes of a matrix: as they are spelled, through a map of names, or in any case. Pure.

Every step is asked for: a name that the matrix has is never translated, and a translation that fits two genes is none.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.genes import Resolution, require_matches, resolve

EXAMPLES = 3


@dataclass(frozen=True)
class Vocabulary:
    """The genes of a matrix, and the ways in which a list may name them.

    Attributes
    ----------
    genes, symbols
        Ids and, if known, symbols of the matrix's genes.
    aliases
        Names of the same gene in two vocabularies, in either order.
    ignore_case
        Whether names match that differ only in case.
    """

    genes: Sequence[str]
    symbols: Sequence[str] | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    ignore_case: bool = False

    def find(self, names: list[str], what: str, file: Path) -> Resolution:
        """Where each name lies in the matrix.

        Parameters
        ----------
        what
            The names in the plural, for the message.
        file
            Where they come from.

        Raises
        ------
        InputError
            None of them is a gene of the matrix.
        """
        plain = not self.aliases and not self.ignore_case
        found = resolve(names if plain else self._translated(names), self.genes, self.symbols)
        require_matches(found, what=what, file=file)
        return found

    def _translated(self, names: list[str]) -> list[str]:
        own, folded, partners = {*self.genes, *(self.symbols or ())}, self._folded(), self._partners()
        return [name if name in own else self._translate(name, folded, partners) for name in names]

    def _translate(self, name: str, folded: dict[str, set[int]], partners: dict[str, set[str]]) -> str:
        spellings = [name, *partners.get(self._fold(name), ())]
        genes = set().union(*(folded.get(self._fold(spelling), ()) for spelling in spellings))
        return self.genes[genes.pop()] if len(genes) == 1 else name

    def _fold(self, name: str) -> str:
        return name.lower() if self.ignore_case else name

    def _folded(self) -> dict[str, set[int]]:
        """Name → the genes that bear it, as id or symbol."""
        positions = defaultdict(set)
        for names in (self.genes, self.symbols or ()):
            for gene, name in enumerate(names):
                positions[self._fold(name)].add(gene)
        positions.pop("", None)
        return positions

    def _partners(self) -> dict[str, set[str]]:
        partners = defaultdict(set)
        for one, other in self.aliases:
            partners[self._fold(one)].add(other)
            partners[self._fold(other)].add(one)
        return partners


def examples(names: Iterable[str]) -> str:
    """The first few distinct names, to be shown."""
    return ", ".join(list(dict.fromkeys(names))[:EXAMPLES])
