"""The frozen facts that travel from the command line to the plan and from the plan to every worker. Pure."""

import os
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cyclopts import Parameter

from pairscape.pipeline.errors import InputError

BinningRule = Literal["max", "range", "quantile", "rank"]
LabelSource = Literal["given", "replicate"]
LabelStatistic = Literal["spearman", "residual"]
LabelSign = Literal["+", "-"]
NegativeRule = Literal["random", "matched"]
Classes = Literal["labels", "kinds"]
Organism = Literal["human", "mouse"]

Flat = Parameter(name="*")  # of a command's parameter: its fields are options of the command
LISTED = "or, in Python, names, tuples or a table"  # of a file: what may be given in its place

HERE = ("local", "threads", "synchronous")  # schedulers of this machine
QUEUES = ("slurm", "pbs", "lsf", "sge")
PLATFORMS = (*HERE, *QUEUES, "kubernetes", "gateway")

MIN_MATCHED = 0.5  # share of names below which a wrong species, case or kind of id is likelier than a small matrix
CHUNK_PAIRS = 256  # images that are compressed together: the unit of reading
SHARD_PAIRS = 8192  # images in one file: the unit of writing, of a receipt, of repair
SHARD_BYTES = SHARD_PAIRS * 32 * 32 * 4  # uncompressed; finer bins put fewer images into a shard, not more bytes
CODES_CELLS = 16_384  # cells in one shard of the code store
HASH_CELLS = 16_384  # cells hashed together; part of what a content hash means, so never to be changed


class Stream(IntEnum):
    """Numbers that keep the random draws of one seed apart: `default_rng([seed, Stream.NAME])`, one name a purpose.

    The bytes of stores and runs depend on them, so a number never changes; five are shared by two purposes that never
    meet in one draw. Take the next free number for a new purpose. The order of training images has streams of its own,
    in `model.batches.order`, by seed and epoch.
    """

    CELL_HALVES = 1
    FOLDS = 2
    BASELINES = 3
    VALIDATION_ROWS = 4
    THRESHOLD_ROWS = 5
    MATCHED_FOLDS = 6
    MEAN_IMAGES = 6
    NEGATIVES = 6
    EXAMPLES = 7
    PLANTING = 7
    STORE_HALVES = 8
    GENE_BOOTSTRAP = 9
    SHIFT_SAMPLE = 9
    REFERENCE_GENES = 10
    CELL_GROUPS = 11
    SCREEN_SAMPLE = 11
    RANDOM_PAIRS = 12
    RESAMPLES = 12
    DEPTH_TIES = 13
    DECOY_CELLS = 14
    DECOY_PAIRS = 15
    PLANTING_CHOICES = 16
    DEPTH_NULL = 17
    GOLD_PAIRS = 18
    DEALT_GROUPS = 19
    DEALT_PAIRS = 20


def check_share(name: str, value: float) -> None:
    """Refuse what is no share.

    Raises
    ------
    InputError
        `value` is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}: a share lies between 0 and 1; 0.5 is half of the names, 0 asks for none.")


def expand_home(path: str) -> str:
    """A path with `~` and `$NAME` filled in, as a shell does it outside of quotes; a name that is there stays."""
    return path if os.path.lexists(path) else os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111


def take_paths(options: Any) -> None:
    """Make paths of the fields that take one, of a frozen dataclass whose text they may be given as."""
    for field in fields(options):
        given = getattr(options, field.name)
        if given is not None and "Path" in str(field.type):
            object.__setattr__(options, field.name, Path(expand_home(os.fspath(given))))


@dataclass(frozen=True)
class Binning:
    """How the expression of a gene becomes a bin.

    Parameters
    ----------
    scale
        Rule that places a gene's bin edges; the rules are told apart in `pipeline.codes.binning`.
    bins
        Bins per gene, so that an image is bins × bins. Codes are uint8 and 0 means "not expressed": 2 to 255.
    """

    scale: BinningRule = "max"
    bins: int = 32

    def __post_init__(self) -> None:
        if not 2 <= self.bins <= 255:
            raise InputError(f"bins is {self.bins}: codes are one byte with 0 kept for 'not expressed'; give 2 to 255.")
        if self.scale not in ("max", "range", "quantile", "rank"):
            raise InputError(f"scale is {self.scale!r}, no known binning rule; give max, range, quantile or rank.")

    @property
    def shard_pairs(self) -> int:
        """Images per shard: 8192 at 32 bins and below, fewer at finer bins, always whole chunks."""
        whole = SHARD_BYTES // (self.bins**2 * 4 * CHUNK_PAIRS)
        return CHUNK_PAIRS * min(max(whole, 1), SHARD_PAIRS // CHUNK_PAIRS)


@dataclass(frozen=True)
class Grouping:
    """Groups of cells that are counted apart.

    Parameters
    ----------
    by
        Column of the cells' annotations (obs), such as cell type, donor or condition; several, with commas between
        them, are crossed. Every cell is counted in its group. Absent: all cells together.
    min_group_cells
        Cells from which on a group is shown; the cells of smaller ones are left out, and it is said.
    """

    by: str | None = None
    min_group_cells: int = 100

    def __post_init__(self) -> None:
        if self.by is not None and not all(self.columns):
            raise InputError(
                f"by is {self.by!r}: give a column of the cells' annotations, or several with commas between them "
                "(cell_type,condition)."
            )
        if self.min_group_cells < 2:
            raise InputError(
                f"min group cells is {self.min_group_cells}: a heatmap of fewer than 2 cells shows nothing."
            )
        if self.by is None and self.min_group_cells != 100:
            raise InputError("--min-group-cells is about groups of cells: give --by COLUMN too, or leave it out.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of obs; () where all cells are counted together."""
        return () if self.by is None else tuple(name.strip() for name in self.by.split(","))


@dataclass(frozen=True)
class PairSource:
    """Which gene pairs are candidates, and where their labels come from.

    Parameters
    ----------
    pairs
        File of pairs, one a line: gene_a, gene_b and, if known, the label (0 none, 1 a→b or undirected, 2 b→a).
    classes
        What the label of a listed pair is. `labels`: as the file says it. `kinds`: the kind of dependence that its
        column `kind` names, as `plant` writes it (none, rising, falling, threshold, exclusive, u-shaped, opposite).
    regulators
        File of regulators (one symbol a line, or a table with a `TF` column): candidates are regulators × targets.
    targets
        File of target genes. Absent: every gene of the matrix.
    network
        File of known edges regulator → target, or the name of a label source: `collectri`, `dorothea`. A candidate that
        is an edge gets label 1, any other 0. Of a ranking, such as GRNBoost's adjacencies, the next two say which.
    network_top
        Only so many edges of the network, those that it ranks highest. Absent: all.
    network_threshold
        Only the edges of the network from this importance on. Absent: all.
    organism
        Whose genes a label source by name should name: `human` or `mouse`. Absent: human.
    all_pairs
        Every unordered pair of genes.
    min_share
        Only pairs of genes that at least this share of the cells express, such as 0.1. Absent: of all genes; where
        `predict` is given no pairs, 0.01.
    labels
        `given`: from `pairs` or `network`. `replicate`: co-expression in a held-out half of the cells (see
        `pipeline.genes.labels`); the images then come from the other half.
    threshold
        Replicate labels: |correlation| in the held-out half from which a pair is positive. Absent: 0.3.
    fdr
        Replicate labels: false discovery rate (Benjamini-Hochberg) at which a pair is positive, in place of the
        threshold. For some hundred cells: with many, any correlation is significant.
    sign
        Replicate labels: only positive (`+`) or only negative (`-`) correlations are positives. Absent: both.
    label_statistic
        Replicate labels: `spearman`, or `residual`, the correlation of analytic Pearson residuals, for which the matrix
        must hold raw counts (layers["counts"]).
    image_cells
        Replicate labels: show only so many cells of the image half. Absent: all of it.
    negatives
        `random`: the candidates that are no edge, or some of them. `matched`: partners of the positives swapped, so
        that each gene is as often positive as negative. Whatever is not chosen stays in the store unlabelled.
    negatives_per_positive
        How many `random` negatives are kept for each positive. Absent: all candidates that are no edge.
    gene_map
        File of two columns, such as symbol and Entrez id: a name in a list that the matrix lacks is looked up there,
        from either column to the other.
    ignore_case
        Match names that differ from those of the matrix only in case, as human and mouse spelling do.
    min_matched
        Smallest share of the distinct names of each list (regulators, targets, network, pairs) that are to be genes of
        the matrix: below it nothing is done, and why is said. 0 goes on with whatever matches.
    """

    pairs: Annotated[Path | None, LISTED] = None
    classes: Classes = "labels"
    regulators: Annotated[Path | None, LISTED] = None
    targets: Annotated[Path | None, LISTED] = None
    network: Annotated[Path | None, LISTED] = None
    network_top: int | None = None
    network_threshold: float | None = None
    organism: Organism | None = None
    all_pairs: bool = False
    min_share: float | None = None
    labels: LabelSource = "given"
    threshold: float | None = None
    fdr: float | None = None
    sign: Annotated[LabelSign | None, Parameter(allow_leading_hyphen=True)] = None
    label_statistic: LabelStatistic = "spearman"
    image_cells: int | None = None
    negatives: NegativeRule = "random"
    negatives_per_positive: float | None = None
    gene_map: Annotated[Path | None, LISTED] = None
    ignore_case: bool = False
    min_matched: float = MIN_MATCHED

    def __post_init__(self) -> None:
        take_paths(self)
        check_share("min matched", self.min_matched)
        if self.min_share is not None and not 0 < self.min_share <= 1:
            raise InputError(
                f"min share is {self.min_share:g}: the share of the cells that express a gene lies above 0 and is 1 at "
                "most; 0.1 is a tenth of them."
            )
        ways = [self.pairs is not None, self.regulators is not None, self.all_pairs]
        if sum(ways) != 1 and not self._says_min_share_alone():
            raise InputError(
                f"{sum(ways)} sources of pairs given, one is needed: --pairs FILE, --regulators FILE or --all-pairs."
            )
        if self.regulators is None and (self.targets or self.network):
            raise InputError("--targets and --network describe regulator × target pairs: give --regulators FILE too.")
        if self.organism not in (None, *get_args(Organism)):
            raise InputError(f"organism {self.organism!r} is unknown; give human or mouse.")
        if self.organism is not None and self.network is None:
            raise InputError(
                "--organism says whose genes a label source names: give --network collectri or dorothea too."
            )
        self._check_classes()
        self._check_network()
        self._check_replicate()
        self._check_negatives()

    @property
    def names_pairs(self) -> bool:
        """Whether it says which pairs are candidates; else only, for `predict`, which genes are."""
        return self.pairs is not None or self.regulators is not None or self.all_pairs

    def _says_min_share_alone(self) -> bool:
        others = (field for field in fields(self) if field.name != "min_share")
        return self.min_share is not None and all(getattr(self, field.name) == field.default for field in others)

    def _check_classes(self) -> None:
        if self.classes not in get_args(Classes):
            raise InputError(f"classes {self.classes!r} is unknown; give labels or kinds.")
        if self.classes == "kinds" and (self.pairs is None or self.labels != "given"):
            raise InputError(
                "--classes kinds takes labels from the column kind of a list: give --pairs FILE, as `pairscape plant` "
                "writes it, and no other --labels."
            )

    def _check_network(self) -> None:
        if self.network is None and (self.network_top is not None or self.network_threshold is not None):
            raise InputError("--network-top and --network-threshold choose edges of a network: give --network too.")
        if self.network_top is not None and self.network_threshold is not None:
            raise InputError("--network-top and --network-threshold both say which pairs are edges; give one of them.")
        if self.network_top is not None and self.network_top < 1:
            raise InputError(f"network top is {self.network_top}: a network has one edge at least.")

    def _check_replicate(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise InputError(f"threshold is {self.threshold}: |Spearman| lies between 0 and 1; 0.3 is usual.")
        if self.fdr is not None and not 0 < self.fdr < 1:
            raise InputError(f"fdr is {self.fdr}: a false discovery rate lies between 0 and 1; 0.05 is usual.")
        if self.fdr is not None and self.threshold is not None:
            raise InputError("--fdr and --threshold both say which pairs are positive; give one of them.")
        if self.image_cells is not None and self.image_cells < 2:
            raise InputError(f"image cells is {self.image_cells}: a heatmap of fewer than 2 cells shows nothing.")
        if self.sign not in (None, *get_args(LabelSign)):
            raise InputError(f"sign {self.sign!r} is unknown; give + or -, or leave it out for both.")
        if self.label_statistic not in get_args(LabelStatistic):
            raise InputError(f"label statistic {self.label_statistic!r} is unknown; give spearman or residual.")
        statistic = None if self.label_statistic == "spearman" else self.label_statistic
        given = (("fdr", self.fdr), ("image-cells", self.image_cells), ("sign", self.sign))
        for name, value in (*given, ("label-statistic", statistic)):
            if value is not None and self.labels != "replicate":
                raise InputError(f"--{name} is about replicate labels: give --labels replicate too, or leave it out.")

    def _check_negatives(self) -> None:
        share = self.negatives_per_positive
        if share is not None and share <= 0:
            raise InputError(f"negatives per positive is {share:g}: give more than 0, or leave it out for all of them.")
        if self.negatives == "matched" and share is not None:
            raise InputError("--negatives matched gives one negative a positive; leave out --negatives-per-positive.")
        if self.all_pairs and self.labels == "given" and (self.negatives == "matched" or share is not None):
            raise InputError("negatives are chosen among labelled pairs and --all-pairs has no labels; give "
                             "--labels replicate, or a network.")  # fmt: skip


@dataclass(frozen=True)
class Compute:
    """Where the work runs.

    Parameters
    ----------
    scheduler
        `local` (processes on this machine), `threads`, `synchronous`; the address of a running Dask scheduler, such as
        `tcp://10.0.0.1:8786` or `tls://…`, or the scheduler file (.json) that it wrote; `slurm`, `pbs`, `lsf` or `sge`
        for jobs of a queue; `kubernetes` or `gateway`. Absent: the client at hand in this Python, else
        `DASK_SCHEDULER_ADDRESS`, else `local`.
    workers
        Number of workers. Absent: one a core; of a queue, Kubernetes or a gateway, as their configuration says, else
        one. Ignored where a running scheduler is given.
    memory_limit
        Memory per worker, such as `4GB`. Absent: an equal share of this machine's memory, or as configured.
    lifetime
        Workers of a queue end by themselves after this time, such as `55m`, and are replaced. Absent: as
        dask-jobqueue's configuration says (`worker-extra-args`), else at the walltime, when their tasks are repeated.
    tls_ca
        PEM file for `tls://`: the certificate of the authority. Absent: that of Dask's configuration
        (distributed.comm.tls), as of the other two.
    tls_cert
        PEM file: our certificate.
    tls_key
        PEM file: its key.
    """

    scheduler: str | None = None
    workers: int | None = None
    memory_limit: str | None = None
    lifetime: str | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        take_paths(self)
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers is {self.workers}: at least one is needed.")
        name = self.scheduler
        if name is not None and name not in PLATFORMS and "://" not in name and not name.endswith(".json"):
            raise InputError(
                f"scheduler {name!r} is unknown; give {', '.join(PLATFORMS)}, an address such as tcp://10.0.0.1:8786, "
                "or a scheduler file that ends in .json."
            )
        if self.lifetime is not None and name not in QUEUES:
            raise InputError(
                f"lifetime is {self.lifetime}, and only jobs of a queue end at a walltime; leave out --lifetime, or "
                f"give --scheduler {', '.join(QUEUES)}."
            )
        given = [self.tls_ca, self.tls_cert, self.tls_key]
        if any(given) and not all(given):
            raise InputError("--tls-ca, --tls-cert and --tls-key belong together: one alone proves nothing; give all.")


# What a user may choose of an ingest, checked before anything is read.

Orientation = Literal["auto", "genes-by-cells", "cells-by-genes"]
Preset = Literal["auto", "scanpy", "log1p", "none", "cnnc", "deep-cell"]
Join = Literal["inner", "outer"]
Features = Literal["genes", "all"]


@dataclass(frozen=True)
class Choices:
    """How a matrix is read, what of it is kept, and what is done to its values.

    Parameters
    ----------
    preset
        `scanpy`: raw counts to 10,000 per cell, log1p. `log1p`: only the logarithm. `none`: already normalised.
        `cnnc`: log10(x + 0.01), as CNNC does with RPKM, stored shifted by 2 so that 0 stays "not expressed".
        `deep-cell`: the original project's steps (no constant genes, genes in more than 10 % of the cells, 100 per
        cell, log2(x + 1)). `auto`: `scanpy` for raw counts, else as the values tell, and said.
    min_cells
        Only genes that at least so many cells express.
    min_genes
        Only cells that express at least so many genes.
    cells
        Only cells that meet a condition on columns of obs: "cell_type == 'dendritic'".
    genes
        Store only the genes of this list, one name per line.
    highly_variable
        Store only so many most variable genes (scanpy, flavour seurat), beside those of --genes if both are given:
        candidates for pairs. Cells are normalised over all genes before.
    gene_map
        File of two columns that gives the matrix's genes symbols, such as Entrez ids and symbols.
    gene_column
        Column of the genes' annotations that has their symbols. Absent: the first of those in use (docs/names.md).
    orientation
        What the rows of a text file are; `auto` tells from the names.
    layer
        Take this layer in place of X; `raw` takes `.raw`.
    key
        The table of a file that holds several, such as `rpkm`.
    join
        Of several matrices, the genes that all of them have (`inner`) or that any has (`outer`).
    features
        `genes`: rows and columns that are no genes or cells (HTSeq's counters, spike-ins, antibodies, columns of
        annotations) are left out before cells are scaled, and named. `all`: nothing is left out.

    Raises
    ------
    InputError
        A choice that is none of the known ones, or a number out of range.
    """

    preset: Preset = "auto"
    min_cells: int = 1
    min_genes: int = 1
    orientation: Orientation = "auto"
    layer: str | None = None
    key: str | None = None
    join: Join = "inner"
    features: Features = "genes"
    gene_map: Annotated[Path | None, LISTED] = None
    gene_column: str | None = None
    cells: str | None = None
    genes: Annotated[Path | None, LISTED] = None
    highly_variable: int | None = None

    def __post_init__(self) -> None:
        take_paths(self)
        known = {"preset": Preset, "orientation": Orientation, "join": Join, "features": Features}
        for name, kind in known.items():
            if getattr(self, name) not in get_args(kind):
                raise InputError(f"{name} {getattr(self, name)!r} is unknown: give one of {', '.join(get_args(kind))}")
        for name, least in (("min_cells", self.min_cells), ("min_genes", self.min_genes)):
            if least < 1:
                raise InputError(
                    f"{name} is {least}: genes and cells without any expression have no heatmap; give 1 or more"
                )
        if self.highly_variable is not None and self.highly_variable < 2:
            raise InputError(f"highly_variable is {self.highly_variable}: gene pairs need two genes; give 2 or more")


def required_source(source: PairSource | None) -> PairSource:
    """The source of pairs that was given.

    Raises
    ------
    InputError
        None was given; the message names the ways.
    """
    return source if source is not None and source.names_pairs else PairSource()  # which says what is missing
