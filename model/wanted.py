"""Which of the scored pairs a user wants: the best, the best of each regulator, those beyond a threshold. Pure."""

from dataclasses import dataclass

from pairscape.pipeline.errors import InputError


@dataclass(frozen=True)
class Wanted:
    """A choice among scored pairs; what is left out does not narrow it. Pairs without a score are never chosen.

    Parameters
    ----------
    top
        The best so many edges (pairs, with `both_directions`), after all other conditions.
    per_regulator
        Of each regulator (the first gene of an edge) its best so many targets.
    threshold
        Probability from which on a pair is an edge.
    precision
        The same, placed where validation pairs of the training reached this share of true ones: a target that the file
        of scores has a threshold for, such as 0.9.
    max_q
        Only pairs of at most this q-value, of a prediction made with --q-values.
    new
        Only pairs that are not known to be edges: of label 0, or of none.
    both_directions
        List each pair from either gene. Not for a network that says which way an edge points.

    Raises
    ------
    InputError
        A number is out of its range, or both a threshold and a precision are given.
    """

    top: int | None = None
    per_regulator: int | None = None
    threshold: float | None = None
    precision: float | None = None
    max_q: float | None = None
    new: bool = False
    both_directions: bool = False

    def __post_init__(self) -> None:
        for name in ("top", "per_regulator"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise InputError(f"{name} is {count}: it is how many edges are kept; give 1 or more.")
        for name in ("threshold", "precision", "max_q"):
            if (share := getattr(self, name)) is not None and not 0 < share <= 1:
                raise InputError(f"{name} is {share}: it lies above 0 and is at most 1.")
        if self.threshold is not None and self.precision is not None:
            raise InputError("a threshold and a precision both say where edges begin; give one of them.")

    def words(self) -> str:
        """The choice in words, for whoever opens the file later; "every scored pair" where nothing narrows it."""
        said = [
            f"{name.replace('_', ' ')} {value}"
            for name, value in vars(self).items()
            if value is not None and not isinstance(value, bool)
        ]
        said += [name.replace("_", " ") for name in ("new", "both_directions") if getattr(self, name)]
        return ", ".join(said) or "every scored pair"
