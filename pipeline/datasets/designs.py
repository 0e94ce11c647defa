"""What a simulated atlas and planted truth are to be like, as a user asks for them. Pure."""

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal, cast, get_args

from pairscape.pipeline.errors import InputError

Shape = Literal["linear", "saturating", "threshold", "u-shaped", "exclusive", "simpson"]
PlantedKind = Literal[Shape, "rising", "falling", "opposite"]

LEAST_CELLS = 50  # below, no dependence can be seen
MOST_CONFOUNDED = 0.9  # share of the negatives
DEPTH = "depth"  # name of the groups of cells of like depth


@dataclass(frozen=True)
class Atlas:
    """A simulated atlas, as a user asks for it.

    Parameters
    ----------
    cells
        How many cells it has.
    genes
        How many genes.
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
class Form:
    """How the target of a planted pair answers its driver.

    Attributes
    ----------
    shape
        Response to the driver.
    strength
        Share of the standard deviation of the target's score that comes from the driver.
    turned
        Whether the response is upside down: falling, a step down, an inverted U.
    """

    shape: Shape
    strength: float
    turned: bool = False


@dataclass(frozen=True)
class Planting:
    """Which dependences are planted into the cells of a matrix; `pipeline.datasets.planted` says how.

    Parameters
    ----------
    kinds
        Kinds of dependence, joined by commas: linear, saturating, threshold, u-shaped, exclusive, simpson; rising
        (linear or saturating), falling (its mirror), opposite (simpson). Each gets an equal share of the pairs.
    planted_pairs
        Number of planted pairs, in each store. Each takes two genes of its own; beyond half of the genes, copies of
        genes are used.
    strength
        Share of the standard deviation of a target's score that comes from its driver: 0 nothing, 1 all of it. A range
        such as 0.06:0.8: each pair draws its own from it, evenly, and the list has it in a column.
    negatives_per_positive
        Pairs of a driver with another pair's target, for each planted pair, in the list.
    directed
        List planted pairs both ways, driver → target as 1, target → driver as 2, to learn the direction.
    background
        `independent`: all else is dealt at random, so that a pair is dependent if, and only if, it is planted. `real`:
        drivers and the genes that are not planted stay in their cells, so that negatives show real co-expression.
    seed
        Decides pairs and values.
    turned
        Share of the thresholds that step down, and of the u-shaped pairs that are an inverted U.
    min_expressing
        Plant genes that at least so many cells express. Absent: a quarter of the cells.
    cells
        Number of cells, drawn at random, or a range such as 100:3000, of which each store draws its number (evenly on a
        logarithmic scale); at most those that are there. Absent: all.
    stores
        How many are planted, independently: beyond one they are numbered, NAME-1.zarr, NAME-2.zarr, …
    confounded
        Share of the negatives that are pairs of two more genes which groups of cells shift together, although they are
        independent within each group. They come beside the other negatives; the list says so in a column.
    groups
        Column of obs whose groups shift every second one of these pairs (`depth`: ten groups of like depth); the store
        has them as obs["planted_group"]. Absent: all are shifted by hidden groups, drawn for each pair.
    """

    kinds: str
    planted_pairs: int
    strength: float | str = 0.8
    negatives_per_positive: int = 10
    directed: bool = False
    background: Literal["independent", "real"] = "independent"
    seed: int = 0
    turned: float = 0.0
    min_expressing: int | None = None
    cells: int | str | None = None
    stores: int = 1
    confounded: float = 0.0
    groups: str | None = None

    def __post_init__(self) -> None:
        for kind in self.kind_list:
            if kind not in get_args(PlantedKind):
                raise InputError(
                    f"kind {kind!r} is unknown; give {', '.join(get_args(PlantedKind))}, joined by commas."
                )
        if isinstance(self.strength, str) and ":" not in self.strength:
            object.__setattr__(self, "strength", _number("strength", self.strength))
        if not 0 < min(self.strength_range) <= max(self.strength_range) < 1:
            raise InputError(f"strength is {self.strength}: above 0, as nothing is planted else, and below 1.")
        self._check_list()
        self._check_stores()
        self._check_confounded()

    def _check_list(self) -> None:
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
        if not 0 <= self.turned <= 1:
            raise InputError(f"turned is {self.turned:g}: a share of thresholds and u-shaped pairs, from 0 to 1.")

    def _check_stores(self) -> None:
        if self.min_expressing is not None and self.min_expressing < 2:
            raise InputError(f"min expressing is {self.min_expressing}: one cell shows no dependence; give 20 or so.")
        if self.stores < 1:
            raise InputError(f"stores is {self.stores}: give 1 or more.")
        if self.cells is None:
            return
        if any(number < LEAST_CELLS or number % 1 for number in self.cells_range):
            raise InputError(
                f"cells is {self.cells}: give a whole number, or two such as 100:3000, of {LEAST_CELLS} cells or more, "
                "as fewer show no dependence."
            )

    def _check_confounded(self) -> None:
        if not 0 <= self.confounded <= MOST_CONFOUNDED:
            raise InputError(
                f"confounded is {self.confounded:g}: a share of the negatives, from 0 to {MOST_CONFOUNDED:g}."
            )
        if self.groups is not None and not self.confounded:
            raise InputError("--groups says which groups shift confounded pairs: give --confounded SHARE too.")

    @property
    def kind_list(self) -> list[PlantedKind]:
        """The kinds one by one."""
        return [cast(PlantedKind, kind.strip()) for kind in self.kinds.split(",")]

    @property
    def strength_range(self) -> tuple[float, float]:
        """The smallest and the largest strength."""
        return _range("strength", self.strength)

    @property
    def cells_range(self) -> tuple[float, float]:
        """The smallest and the largest number of cells; without bounds where all are taken."""
        return (inf, inf) if self.cells is None else _range("cells", self.cells)

    @property
    def confounded_pairs(self) -> int:
        """How many confounded pairs come beside the other negatives of a store."""
        return round(self.planted_pairs * self.negatives_per_positive * self.confounded / (1 - self.confounded))


def _range(name: str, value: float | str) -> tuple[float, float]:
    """A number twice, or the two that a colon joins, the smaller first."""
    ends = [_number(name, end) for end in str(value).split(":")]
    if len(ends) > 2 or ends[0] > ends[-1]:
        raise InputError(f"{name} is {value}: give one number, or the least and the most, joined by a colon.")
    return ends[0], ends[-1]


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{name} is {value!r}, no number; give one, or a range such as 1:2.") from None


def numbered(store: Path, stores: int) -> list[Path]:
    """Where planted stores go: NAME.zarr, or NAME-1.zarr, NAME-2.zarr, … where there are several."""
    if stores == 1:
        return [store]
    return [store.with_name(f"{store.stem}-{number}{store.suffix}") for number in range(1, stores + 1)]
