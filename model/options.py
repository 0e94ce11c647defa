"""The frozen choices of a training run: what the network sees, which rows it learns from, how it is trained. Pure."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

from cyclopts import Parameter

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.kinds import Kind
from pairscape.pipeline.options import LISTED, MIN_MATCHED, check_share, take_paths

Split = Literal["pair", "regulator", "target", "both", "file", "dataset"]
Balance = Literal["down", "over", "natural"]
Negatives = Literal["all", "matched"]
SPLITS = get_args(Split)
MOST_FOLDS = 1000
DEPTH, NOTHING = "depth", "none"  # words among the columns of --within


def _require(good: bool, message: str) -> None:
    if not good:
        raise InputError(message)


@dataclass(frozen=True)
class Rendering:
    """How counts become the network's input; computed on the training device, never stored.

    Parameters
    ----------
    channels
        `log` (CNNC's picture of density), `residual` (dependence, marginals taken out), `log+residual`, or `counts`
        (unscaled, as the original project did).
    pool
        Sums pool × pool bins into one.
    sigma
        Gaussian smoothing in bins after pooling; 0 for none.
    drop_both_zero
        Leave out the cells in which both genes are unexpressed.
    """

    channels: str = "log+residual"
    pool: int = 1
    sigma: float = 0.0
    drop_both_zero: bool = False

    def __post_init__(self) -> None:
        _require(self.pool >= 1, f"pool is {self.pool}: it sums pool × pool bins into one; give 1 or more.")
        _require(self.sigma >= 0, f"sigma is {self.sigma}: a width in bins is not negative; 0 means no smoothing.")


@dataclass(frozen=True)
class Splitting:
    """Which pairs are for training, for validation, for the test. Mirrors (a,b), (b,a) always share a fold.

    Parameters
    ----------
    split
        `both`: both genes of a test pair are unseen in training (the headline; nothing of the labels leaks).
        `regulator`, `target`: gene_a, gene_b unseen. `pair`: only the pair unseen. `file`: as a file says.
        `dataset`: whole stores, those of --test-stores; validation is a share of the training stores' pairs of genes.
    test_share
        Share of the genes (of the pairs, for `pair`) set aside for the test. Under cross-validation it is 1 in `folds`.
    validation_share
        Share of them set aside to choose the best epoch and the thresholds.
    negatives
        `all`, or `matched`: in each fold, partners of the positives swapped, so that each gene is as often positive as
        negative there and labels alone tell nothing; the prevalence is then a half.
    fold_file
        For `file`: a table gene,fold or gene_a,gene_b,fold, or CNNC's division file. Folds are numbers (each is the
        test once, the next one then validation) or the words train, validation, test.
    folds
        Cross-validation over so many groups of genes (of pairs, for `pair`), each the test once; under `both` a pair
        is tested if both genes are of the group, 1 in `folds` of the pairs in all. Absent: one split; for a file of
        numbers, all of them.
    fold
        Only this one of the folds, from 0 up. Absent: all, one after the other.
    min_matched
        Smallest share of the distinct names of a fold file that are to be genes of the store: below it nothing is done,
        and why is said. 0 goes on with whatever matches.
    """

    split: Split = "both"
    test_share: float = 0.3
    validation_share: float = 0.1
    negatives: Negatives = "all"
    fold_file: Annotated[Path | None, LISTED] = None
    folds: int | None = None
    fold: int | None = None
    min_matched: float = field(default=MIN_MATCHED, compare=False)  # a check: it changes nothing that is trained

    def __post_init__(self) -> None:
        take_paths(self)  # from a run's config.toml they come as text
        _require(self.split in SPLITS, f"split {self.split!r} is unknown; give {', '.join(SPLITS)}.")
        _require(self.split != "file" or self.fold_file is not None,
                 "split is file and none is given, so nothing says what is tested; give --fold-file FILE.")  # fmt: skip
        _require(self.split != "dataset" or (self.folds is None and self.negatives == "all"),
                 "split is dataset, whose test is whole stores as they are: folds and matched negatives are for other "
                 "splits; leave them out, or give another --split.")  # fmt: skip
        _require(self.split == "file" or self.fold_file is None,
                 f"fold file {self.fold_file} is given and the split is {self.split}, which would leave it aside; "
                 "give --split file, or no file.")  # fmt: skip
        check_share("min matched", self.min_matched)
        _require(self.negatives in ("all", "matched"), f"negatives {self.negatives!r} is unknown; give all or matched.")
        self._check_folds()
        self._check_shares()

    def _check_shares(self) -> None:
        held_out = (1 / self.folds if self.folds else self.test_share) + self.validation_share
        good = self.test_share > 0 and self.validation_share > 0 and held_out < 1
        held = f"one of {self.folds} folds" if self.folds else f"test share {self.test_share}"
        _require(good, f"{held} and validation share {self.validation_share} must be above 0 and leave something to "
                       "train on: their sum must be below 1.")  # fmt: skip

    def _check_folds(self) -> None:
        if self.folds is not None:
            _require(2 <= self.folds <= MOST_FOLDS, f"folds is {self.folds}: cross-validation needs at least 2 groups, "
                                                    f"to be tested in turn; give 2 to {MOST_FOLDS}.")  # fmt: skip
        if self.fold is None:
            return
        _require(self.folds is not None or self.split == "file",
                 f"fold is {self.fold} and it is not said of how many; give --folds too.")  # fmt: skip
        _require(0 <= self.fold < (self.folds or MOST_FOLDS),
                 f"fold is {self.fold}: folds count from 0; give 0 to {(self.folds or MOST_FOLDS) - 1}.")  # fmt: skip


@dataclass(frozen=True)
class Training:
    """How the network is trained.

    Parameters
    ----------
    network
        Architecture, one of `model.networks.published.NETWORKS`.
    loss
        `cross-entropy`, `weighted` (−w⁺ y log ŷ − w⁻ (1−y) log(1−ŷ)) or `focal`.
    class_weights
        Weights of the classes for `weighted`, in the order of the labels: w⁻ w⁺, or w of none, a→b, b→a. Absent:
        inverse to their frequency in the batches.
    gamma
        Strength of the focus of `focal`; 0 gives the cross-entropy.
    balance
        `down`: every epoch all rows of the rare class and fresh rows of the common one. `over`: all rows of the common
        class, and those of the rare one repeated, as evenly as possible. `natural`: all rows.
    ratio
        Rows of the common class for each of the rare one in every batch, under `down` and `over`.
    epochs
        At most; fewer if the validation score stops rising.
    patience
        Epochs without a better validation score before training stops.
    batch_size
        Images per step, about (the class ratio of a batch is exact).
    optimizer
        `adamw`, `adam` or `sgd` (Nesterov momentum 0.9).
    schedule
        `cosine`: linear warm-up over the first tenth, then a cosine to zero. `constant`.
    learning_rate
        The highest of the schedule.
    weight_decay
        Of the optimizer.
    averaging
        Decay of the moving average of the weights that is evaluated and saved; 0 for none.
    mirror
        Show each image transposed half of the time and average both at prediction. Transposed, label 1 (a→b) is
        label 2 (b→a), and the other way round. Absent: unless gene_a regulates gene_b in every positive pair, which
        no transposed image could say.
    device
        `auto`, `cpu`, `cuda` or `mps`.
    precision
        Of the convolutions and dense layers in training: `float32`, `bfloat16` (autocast), or `auto`, bfloat16 on a
        CUDA GPU that has it. Images are drawn, and pairs scored, in float32 in any case.
    compile
        Train through torch.compile; where this machine has no compiler for it, without, and it is said.
    """

    network: str = "pairnet"
    loss: str = "cross-entropy"
    class_weights: tuple[float, ...] | None = None
    gamma: float = 2.0
    balance: Balance = "down"
    ratio: float = 9.0
    epochs: int = 10
    patience: int = 4
    batch_size: int = 250
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    learning_rate: float = 3e-3
    weight_decay: float = 2e-2
    averaging: float = 0.998
    mirror: bool | None = None
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        _require(self.ratio > 0, f"ratio is {self.ratio}: rows of the common class per rare one must be above 0.")
        _require(self.epochs >= 1, f"epochs is {self.epochs}: at least one pass is needed to learn anything.")
        _require(self.patience >= 1, f"patience is {self.patience}: give 1 or more epochs.")
        _require(self.batch_size >= 2, f"batch size is {self.batch_size}: a batch holds both classes; give 2 or more.")
        _require(self.learning_rate > 0, f"learning rate is {self.learning_rate}: it must be above 0.")
        _require(0 <= self.averaging < 1, f"averaging is {self.averaging}: a decay lies in 0 (none) to below 1.")
        _require(0 <= self.gamma < math.inf, f"gamma is {self.gamma}: the focus of the loss is 0 (none) or more.")
        _require(self.precision in ("auto", "float32", "bfloat16"),
                 f"precision {self.precision!r} is unknown; give auto, float32 or bfloat16.")  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the store and the seed."""

    rendering: Rendering = Rendering()
    splitting: Splitting = Splitting()
    training: Training = Training()


@dataclass(frozen=True)
class Search:
    """What `tune` tries; whatever is not searched is as in the recipe it starts from.

    Parameters
    ----------
    trials
        Recipes to try, pruned ones included; the first is the recipe it starts from.
    trial_epochs
        Epochs of a trial, at most. The best recipe is trained for its full number at the end.
    networks
        Architectures to choose from.
    losses
        Losses to choose from.
    balances
        Balances to choose from; the ratio of `down` is searched as well.
    prune
        Stop a trial whose validation score is below the median of the earlier ones at the same epoch.
    """

    trials: int = 20
    trial_epochs: int = 3
    networks: tuple[str, ...] = ("pairnet", "cnnc")
    losses: tuple[str, ...] = ("cross-entropy", "weighted", "focal")
    balances: tuple[Balance, ...] = ("down",)
    prune: bool = True

    def __post_init__(self) -> None:
        _require(self.trials >= 1, f"trials is {self.trials}: at least one recipe is needed; give 1 or more.")
        _require(self.trial_epochs >= 1, f"trial epochs is {self.trial_epochs}: a trial learns; give 1 or more.")
        for name in ("networks", "losses", "balances"):
            _require(bool(getattr(self, name)), f"{name} is empty: there is nothing to choose from; give one or more.")


@dataclass(frozen=True)
class Prediction:
    """How candidate pairs are scored with a trained network.

    Parameters
    ----------
    prior
        Share of edges that is expected among the candidates; the scores are probabilities at it. Absent: the share
        among the pairs that the network was trained on.
    screen
        Share of the candidates, those whose counts depend most on each other, that the network looks at; the others get
        no score. Absent: all.
    q_values
        Score decoys too, real pairs whose second gene is dealt anew among cells of like depth, and give each pair the
        share of false calls if all pairs that score as high were called. Absent: only with `universal`, where the codes
        are at hand.
    bootstrap
        Resample the cells so many times for the best pairs. Absent: not at all.
    best
        Length of the list of best pairs whose stability the resamples tell.
    within
        Columns of the cells' annotations (obs), comma-separated: cells are compared with each other only where they
        have the same values, so scores, correlations and q-values are of what two genes share beyond these; `depth`
        among them means deciles of the genes that a cell expresses. Absent or `none`: over all cells.
    device
        `auto`, `cpu`, `cuda` or `mps`.
    """

    prior: float | None = None
    screen: float | None = None
    q_values: bool | None = None
    bootstrap: int | None = None
    best: int = 500
    within: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        columns = self.within_columns
        _require(all(columns) and len(set(columns)) == len(columns) and NOTHING not in columns,
                 f"within is {self.within!r}: give one column of the cells' annotations (obs), several different ones "
                 f"with commas between, {DEPTH}, or {NOTHING} by itself for all cells together.")  # fmt: skip
        _require(not columns or self.bootstrap is None,
                 f"within {self.within!r} and bootstrap {self.bootstrap} were given together: a resample has other "
                 "numbers of cells in the strata, which are not counted anew; leave out one of the two.")  # fmt: skip
        _require(self.bootstrap is None or self.bootstrap >= 2,
                 f"bootstrap is {self.bootstrap}: fewer than two resamples have no spread; give some dozens, such as "
                 "100, or leave it out.")  # fmt: skip
        _require(self.best >= 1, f"best is {self.best}: the stability of an empty list cannot be told; give the number "
                                 "of pairs you will look at.")  # fmt: skip
        _require(self.prior is None or 0 < self.prior < 1,
                 f"prior is {self.prior}: the share of edges among the candidates lies between 0 and 1, where either "
                 "would leave nothing to tell; leave it out for that of the training.")  # fmt: skip
        _require(self.screen is None or 0 < self.screen <= 1,
                 f"screen is {self.screen}: the share of the candidates that the network looks at lies above 0 and is "
                 "1 at most; leave it out for all of them.")  # fmt: skip

    @property
    def within_columns(self) -> tuple[str, ...]:
        """Columns within whose values cells are compared, and `DEPTH`; none: all cells are."""
        return () if self.within in (None, NOTHING) else tuple(name.strip() for name in str(self.within).split(","))

    @property
    def estimates_confidence(self) -> bool:
        """Whether q-values or resamples are asked for."""
        return bool(self.q_values) or self.bootstrap is not None


@dataclass(frozen=True)
class Combination:
    """How the scores of several sets become those of one network.

    Parameters
    ----------
    rule
        `mean-z`: pairs by the size of the mean of √n · rho over the sets that have seen them. `log-odds`: by the sum
        of the network's evidence, as a probability of dependence. `mean-rank`: by the mean rank among each set's pairs.
        `factors`: by the correlation through the main factors of all pairs, of one set or several.
    learn
        Gold list of pairs, two columns of genes, such as subunits of one complex: the weight of each set is learned on
        it. A column `complex` (or group, pathway, term; without header the third) names what a pair belongs to, and
        whole groups are then left out in the audit; a column `label` with 0 and 1 brings negatives of its own.
    prior
        Share of pairs that are expected to depend, or with `learn` to be like the gold list; the scores are
        probabilities at it. Absent: that of the first file; with `learn` 0.5.
    group
        Pool this group of files with groups (`predict --by`). Absent: all cells of each file; of one file alone, its
        groups as sets.
    mixed
        Pool scores of different networks, rules of binning or --within all the same.
    gene_map
        File of two columns, names of the same gene in two vocabularies, such as orthologues of two species.
    ignore_case
        Match names of genes that differ only in case.
    """

    rule: Literal["log-odds", "mean-z", "mean-rank", "factors"] = "mean-z"
    learn: Annotated[Path | None, LISTED] = None
    prior: float | None = None
    group: str | None = None
    mixed: bool = False
    gene_map: Annotated[Path | None, LISTED] = None
    ignore_case: bool = False

    def __post_init__(self) -> None:
        take_paths(self)
        _require(self.rule in ("log-odds", "mean-z", "mean-rank", "factors"),
                 f"rule {self.rule!r} is unknown; give log-odds, mean-z, mean-rank or factors.")  # fmt: skip
        _require(self.prior is None or 0 < self.prior < 1,
                 f"prior is {self.prior}: the share of pairs that depend lies between 0 and 1; either would leave "
                 "nothing to tell.")  # fmt: skip


DEEP_CELL = Recipe(
    Rendering(channels="counts", sigma=16.0, drop_both_zero=True),
    Splitting(split="pair"),
    Training(
        network="deep-cell-1",
        balance="natural",
        optimizer="adam",
        schedule="constant",
        learning_rate=0.05,
        weight_decay=0.0,
        averaging=0.0,
        mirror=False,
        precision="float32",
    ),
)
"""The original project's published recipe, which collapses to the majority class; kept to show that it does."""


def preset(name: str) -> Recipe:
    """A recipe by name: `pairscape` (the default) or `deep-cell` (the original's).

    Raises
    ------
    InputError
        Another name.
    """
    _require(name in ("pairscape", "deep-cell"), f"preset {name!r} is unknown; give pairscape or deep-cell.")
    return DEEP_CELL if name == "deep-cell" else replace(Recipe())


@dataclass(frozen=True)
class Drawing:
    """How heatmaps are drawn.

    Parameters
    ----------
    bins
        Fewer bins for the eye, where cells are few: neighbouring ones are added up. A number that divides that of the
        images. Absent: the bins that were counted.
    paper
        Colour of bins without a cell: dark, or light for print.

    Raises
    ------
    InputError
        Fewer than two bins, or another paper.
    """

    bins: int | None = None
    paper: Literal["dark", "light"] = "dark"

    def __post_init__(self) -> None:
        _require(self.bins is None or self.bins >= 2, f"bins is {self.bins}: a heatmap has 2 bins or more each way.")
        _require(self.paper in ("dark", "light"), f"paper {self.paper!r} is unknown; give dark or light.")


@dataclass(frozen=True)
class EdgeChoice:
    """A choice among scored pairs; what is left out does not narrow it. Pairs without a score are never chosen.

    Parameters
    ----------
    top
        The best so many edges (pairs, with `both_directions`), after all other conditions.
    per_regulator
        Of each regulator (the first gene of an edge) its best so many targets.
    threshold
        Probability from which on a pair is an edge; 0 takes every pair.
    precision
        The same, placed where validation pairs of the training reached this share of true ones: a target that the file
        of scores has a threshold for, such as 0.9.
    max_q
        Only pairs of at most this q-value, of a prediction made with --q-values; where neither a threshold nor a
        precision is given, also of a score of one half or more.
    new
        Only pairs that are not known to be edges: of label 0, or of none.
    both_directions
        List each pair from either gene. Not for a network that says which way an edge points.
    gene
        Only pairs with this gene, or with one of several, with commas between them; by symbol or id.
    kind
        Only pairs of this kind of dependence, or of several with commas between them (rising,threshold), of a network
        of kinds: rising, falling, threshold, exclusive, u-shaped or opposite.
    sign
        Only pairs whose correlation has this sign, + or -.
    any_score
        With `max_q`: keep pairs also whose probability is below one half.
    group
        Of a prediction by groups of cells (--by), the one whose scores are taken. Absent: all groups combined.

    Raises
    ------
    InputError
        A number is out of its range, a kind or a sign is unknown, or both a threshold and a precision are given.
    """

    top: int | None = None
    per_regulator: int | None = None
    threshold: float | None = None
    precision: float | None = None
    max_q: float | None = None
    new: bool = False
    both_directions: bool = False
    gene: str | tuple[str, ...] | None = None
    kind: str | tuple[str, ...] | None = None
    sign: Annotated[Literal["+", "-"] | None, Parameter(allow_leading_hyphen=True)] = None
    any_score: bool = False
    group: str | None = None

    def __post_init__(self) -> None:
        for name in self.kinds if self.kind is not None else ():
            if name not in get_args(Kind):
                raise InputError(f"kind {name!r} is unknown; give one or several of {','.join(get_args(Kind))}.")
        if self.kind is not None and not self.kinds:
            raise InputError("kind is empty, so no pair would be left; give one or several, or leave it out.")
        if self.sign not in (None, "+", "-"):
            raise InputError(f"sign {self.sign!r} is unknown; give + or -, that of the correlation.")
        for name in ("top", "per_regulator"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise InputError(f"{name} is {count}: it is how many edges are kept; give 1 or more.")
        if self.gene is not None and not (self.genes and all(self.genes)):
            raise InputError("a gene has no name, so no pair would be left; give one or several, or leave --gene out.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"threshold is {self.threshold}: it is a probability; give 0 to 1.")
        for name in ("precision", "max_q"):
            if (share := getattr(self, name)) is not None and not 0 < share <= 1:
                raise InputError(f"{name} is {share}: it lies above 0 and is at most 1.")
        if self.threshold is not None and self.precision is not None:
            raise InputError("a threshold and a precision both say where edges begin; give one of them.")
        if self.any_score and self.max_q is None:
            raise InputError("any-score keeps pairs of every score that --max-q keeps; give --max-q, or leave it out.")

    @property
    def likelier_than_not(self) -> bool:
        """Whether a q-value alone would choose, so that a score of one half is asked for besides."""
        return self.max_q is not None and not self.any_score and self.threshold is None and self.precision is None

    @property
    def has_cutoff(self) -> bool:
        """Whether the choice says where edges end, by number or by value."""
        limits = (self.top, self.per_regulator, self.threshold, self.precision, self.max_q)
        return any(limit is not None for limit in limits)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are wanted; empty: any."""
        return _listed(self.kind)

    @property
    def genes(self) -> tuple[str, ...]:
        """The genes of which one has to be in a pair; empty: any."""
        return _listed(self.gene)

    def words(self) -> str:
        """The choice in words, for whoever opens the file later; "every scored pair" where nothing narrows it."""
        said = [
            f"{name.replace('_', ' ')} {' or '.join(_listed(value)) if name in ('kind', 'gene') else value}"
            for name, value in vars(self).items()
            if value not in (None, 0) and not isinstance(value, bool)
        ]
        said += ["score at least 0.5"] if self.likelier_than_not else []
        said += [name.replace("_", " ") for name in ("any_score", "new", "both_directions") if getattr(self, name)]
        return ", ".join(said) or "every scored pair"


def _listed(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Names that an option gives, with commas between them or one by one."""
    given = names.split(",") if isinstance(names, str) else names or ()
    return tuple(name.strip() for name in given)
