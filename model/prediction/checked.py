"""What a user asks of a prediction, checked before any matrix is opened."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from pairscape.model.networks.bundled import is_bundled
from pairscape.model.networks.device import choose_device
from pairscape.model.networks.published import FACTOR_NETWORK, MOMENT_NETWORK
from pairscape.model.options import DEPTH, Prediction
from pairscape.model.prediction.target import check_target
from pairscape.model.prediction.trained import TrainedRun
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Grouping
from pairscape.pipeline.storage.paths import local_target

UNIVERSAL_WITHIN: str | None = DEPTH  # what `universal` compares cells within where it is not said (docs/predict.md)


@dataclass(frozen=True, eq=False)
class CheckedPrediction:
    """A prediction that a user asks for, checked.

    Attributes
    ----------
    out
        File of scores to write, absolute.
    grouping
        Groups of cells, scored apart.
    """

    trained: TrainedRun
    out: Path
    options: Prediction
    seed: int
    grouping: Grouping = field(default_factory=Grouping)

    @property
    def strata_columns(self) -> tuple[str, ...]:
        """Columns within which cells are compared: first those by which they are grouped, where the network can."""
        asked = self.options.within_columns
        if not self.trained.network.classifier.compares_within:
            return asked
        by = self.grouping.columns
        return (*by, *(column for column in asked if column not in by))

    @property
    def prior(self) -> float:
        """Share of edges among the candidates: as given, or the training's."""
        return self.trained.natural if self.options.prior is None else self.options.prior

    def settled(self, *, countable: bool, strata: bool = False) -> "CheckedPrediction":
        """The same with what is decided that is neither asked for nor refused: q-values, and strata.

        Parameters
        ----------
        countable
            Whether the codes that decoys are counted from are at hand.
        strata
            Whether cells can be compared within strata.
        """
        options, bundled = self.options, is_bundled(self.trained.folder)
        if options.q_values is None:
            apt = bundled and not self.trained.network.classifier.knows_genes
            options = replace(options, q_values=apt and countable)
        if options.within is None and bundled and strata and options.bootstrap is None:
            options = replace(options, within=UNIVERSAL_WITHIN)
        return replace(self, options=options)

    def prior_words(self) -> str:
        """What the scores are, in words."""
        if not self.trained.names_kinds:
            return f"scores at a share of {self.prior:.2%} edges among the candidates"
        return f"score = probability of dependence if a share of {self.prior:.2%} of the candidates depend (--prior)"


def check_prediction(
    run: Path, out: str | Path, options: Prediction, seed: int, grouping: Grouping = Grouping(), *, overwrite: bool
) -> CheckedPrediction:
    """Check what can be checked before any matrix is opened; nothing is written.

    Raises
    ------
    InputError
        The run is damaged or none (see `TrainedRun.open`); decoys or resamples are asked of a network that is given the
        genes' loadings; `out` does not end in .parquet, exists and may not be replaced, or is something else than a
        file of scores; the device is not there.
    """
    choose_device(options.device)
    checked = CheckedPrediction(TrainedRun.open(run), local_target(out).absolute(), options, seed, grouping)
    if options.estimates_confidence and checked.trained.network.classifier.needs_loadings:
        raise InputError(
            f"{checked.trained.folder} is a {FACTOR_NETWORK}, which knows the genes' loadings over all cells: a decoy "
            "or a resample would keep those of the real pair, and its q-values and spreads would mean nothing; leave "
            "out --q-values and --bootstrap, or train another --network."
        )
    _check_within(checked)
    _check_groups(checked)
    check_target(checked.out, overwrite=overwrite)
    return checked


def _check_within(checked: CheckedPrediction) -> None:
    options, network = checked.options, checked.trained.network
    if options.within_columns and not network.classifier.compares_within:
        raise InputError(
            f"--within {options.within}: {checked.trained.folder} is a {network.facts.network}, which sees the picture "
            f"of all cells and with it what --within takes out; give universal or a run of {MOMENT_NETWORK}."
        )


def _check_groups(checked: CheckedPrediction) -> None:
    options, network, by = checked.options, checked.trained.network, checked.grouping.by
    if by is None:
        return
    if options.bootstrap is not None:
        raise InputError(
            f"--by {by} and --bootstrap {options.bootstrap} were given together: resamples are of all cells, not of a "
            "group's; leave out one of the two (cells of a group alone: pairscape ingest --cells)."
        )
    if network.classifier.knows_genes:
        raise InputError(
            f"--by {by}: {checked.trained.folder} is a {network.facts.network}, which looks at a gene's neighbours or "
            "factors over all cells, and with them at what groups take apart; give universal or another run."
        )
