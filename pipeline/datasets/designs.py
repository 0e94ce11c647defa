"""What a simulated atlas and planted truth are to be like, as a user asks for them. Pure."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from pairscape.pipeline.errors import InputError

Kind = Literal["linear", "saturating", "threshold", "u-shaped", "exclusive", "simpson"]


@dataclass(frozen=True)
class Atlas:
    """A simulated atlas, as a user asks for it.

    Parameters
    ----------
    cells, genes
        Its shape.
    density
        Share of its values that are above zero, as obtained on average: above 1/genes, as every cell expresses a gene,
        and at most 0.95. Single-cell RNA sequencing has 0.02 to 0.2.
    types
        Cell types, each with marker genes of its own; every type has a cell.
    seed
        Decides every value: the same seed gives the same atlas on any number of workers.
    """

    cells: int
    genes: int
    density: float
    types: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("cells", self.cells), ("genes", self.genes)):
            if not 2 <= value < 2**31:
                raise InputError(f"{name} is {value}: an atlas has 2 to 2,147,483,647 of them.")
        if not 0 < self.density <= 0.95:
            raise InputError(
                f"density is {self.density:g}: the share of values above zero lies above 0 and, so that counts stay "
                "small, at 0.95 or below; 0.05 is usual."
            )
        if self.density * self.genes <= 1:
            raise InputError(
                f"density is {self.density:g} of {self.genes} genes, one gene a cell or less, and every cell expresses "
                f"one at least; give more than {1 / self.genes:.2g}, or more genes."
            )
        if not 1 <= self.types <= self.cells:
            raise InputError(f"types is {self.types}, and every type has a cell; give 1 to {self.cells}, as the cells.")
        if not 0 <= self.seed < 2**62:
            raise InputError(f"seed is {self.seed}: give a whole number from 0 to 2**62 - 1.")


@dataclass(frozen=True)
class Planting:
    """Which dependences are planted into the cells of a matrix; `pipeline.datasets.planted` says how.

    Parameters
    ----------
    kinds
        Kinds of dependence, joined by commas: linear, saturating, threshold, u-shaped, exclusive, simpson. Each gets an
        equal share of the pairs.
    planted_pairs
        Number of planted pairs. Each takes two genes of its own; beyond half of the genes, copies of genes are used.
    strength
        Share of the standard deviation of a target's score that comes from its driver: 0 nothing, 1 all of it.
    negatives_per_positive
        Pairs of a driver with another pair's target, for each planted pair, in the list.
    directed
        List planted pairs both ways, driver → target as 1, target → driver as 2, to learn the direction.
    background
        `independent`: all else is dealt at random, so that a pair is dependent if, and only if, it is planted. `real`:
        drivers and the genes that are not planted stay in their cells, so that negatives show real co-expression.
    seed
        Decides pairs and values.
    """

    kinds: str
    planted_pairs: int
    strength: float = 0.8
    negatives_per_positive: int = 10
    directed: bool = False
    background: Literal["independent", "real"] = "independent"
    seed: int = 0

    def __post_init__(self) -> None:
        for kind in self.kind_list:
            if kind not in get_args(Kind):
                raise InputError(f"kind {kind!r} is unknown; give {', '.join(get_args(Kind))}, joined by commas.")
        if not 0 < self.strength < 1:
            raise InputError(f"strength is {self.strength:g}: above 0, as nothing is planted else, and below 1.")
        if self.negatives_per_positive < 1:
            raise InputError(
                f"negatives per positive is {self.negatives_per_positive}: a list has both; give 1 or more."
            )
        if self.planted_pairs <= self.negatives_per_positive:
            raise InputError(
                f"planted pairs is {self.planted_pairs}: negatives pair a driver with {self.negatives_per_positive} "
                "targets of other pairs; give more pairs, or fewer --negatives-per-positive."
            )
        if self.background not in ("independent", "real"):
            raise InputError(f"background {self.background!r} is unknown; give independent or real.")

    @property
    def kind_list(self) -> list[Kind]:
        """The kinds one by one."""
        return [cast(Kind, kind.strip()) for kind in self.kinds.split(",")]
