"""The planting job: an expression store with known truth made of another's cells, and the truth as a list beside it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.datasets.confounded import Groups, confound, draw_confounded
from pairscape.pipeline.datasets.designs import DEPTH, LEAST_CELLS, Planting, numbered
from pairscape.pipeline.datasets.planted import (
    copy_names,
    deal_genes,
    draw_forms,
    eligible_genes,
    replant,
    split_types,
    truth,
)
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.alike import STEPS
from pairscape.pipeline.matrix.normalize import choose_preset, normalise
from pairscape.pipeline.matrix.open import read_any
from pairscape.pipeline.matrix.prepare import trusted_record
from pairscape.pipeline.matrix.store import write_expression
from pairscape.pipeline.matrix.value_kinds import Judged
from pairscape.pipeline.options import Preset, Stream
from pairscape.pipeline.storage.ownership import check_target, mark_expression, require_own_file
from pairscape.pipeline.storage.write import replaced, write_file, writing

FIRST_FIELDS = 7  # of a planting that every store records; of the others only what was asked for
DEPTH_GROUPS = 10
CELLS_A_GROUP = 10  # on average, at least: of smaller groups nothing is independent within
LIST_HEADER = b"gene_a\tgene_b\tlabel\tkind"  # of the list that is written beside the store


@dataclass(frozen=True)
class PlantedStore:
    """What was planted.

    Attributes
    ----------
    store
        Where it lies.
    cells, genes, copies
        Shape of the new store, and how many of its genes are copies.
    source_cells
        Cells that the source has.
    positives, negatives, confounded
        Rows of the list, and how many of the negatives are confounded.
    pairs
        Where the list lies.
    treated
        What was done to the values before.
    """

    store: Path
    cells: int
    genes: int
    copies: int
    source_cells: int
    positives: int
    negatives: int
    confounded: int
    pairs: Path
    treated: str

    def line(self) -> str:
        """The same to print."""
        of = f" of {self.source_cells:,}" if self.source_cells > self.cells else ""
        copied = f" ({self.copies:,} of them copies)" if self.copies else ""
        confounded = f", {self.confounded:,} of them confounded" if self.confounded else ""
        return (
            f"{self.cells:,}{of} cells × {self.genes:,} genes{copied}, values {self.treated}; {self.pairs} lists "
            f"{self.positives:,} planted and {self.negatives:,} other pairs{confounded}"
        )


def plant_truth(
    source: str | Path | AnnData, target: Path, planting: Planting, *, overwrite: bool = False
) -> Iterator[PlantedStore]:
    """Write a matrix with planted pairs as expression store, and the pairs as `NAME.tsv` beside `NAME.zarr`.

    The store has `obs["planted_type"]` and `uns["pairscape"]["planted"]`. Counts are not kept: what is planted are the
    values of X, normalised as `ingest` does where they are no logarithms. The matrix is held in memory. Of several
    stores one is written after the other, as they are asked for; before the first, all names are checked.

    Raises
    ------
    InputError
        The matrix cannot be read or a target not be written; a list is there already; too few cells, or genes that
        enough cells express; there are no such groups.
    """
    stores = numbered(target, planting.stores)
    for store in stores:
        check_target(store, overwrite=overwrite, sources=[source])
        pairs = _list_of(store)
        if pairs.exists() and not overwrite:
            raise InputError(
                f"{pairs} exists, and the list of planted pairs goes there: give another name, or --overwrite"
            )
        require_own_file(pairs, LIST_HEADER)
    cells = _log_expression(source)
    if cells.n_obs < LEAST_CELLS:
        raise InputError(
            f"{source if not isinstance(source, AnnData) else 'the AnnData'} has {cells.n_obs} cells: a dependence "
            f"shows in {LEAST_CELLS} at least; give more cells."
        )
    groups = None if planting.groups is None else _groups(cells, planting.groups)
    for number, store in enumerate(stores, 1):
        yield _planted(cells, groups, store, planting, [number] if planting.stores > 1 else [])


def _list_of(store: Path) -> Path:
    return store.with_suffix(".tsv")


def _log_expression(source: str | Path | AnnData) -> AnnData:
    """A matrix in memory, normalised by the rule of `ingest` for such values."""
    cells = read_any(source)
    record = cells.uns["pairscape"]
    judged = Judged(record["value_kind"], record["told_by"])
    asked: Preset = "none" if trusted_record(source) else "auto"
    preset, _ = choose_preset(asked, judged, record["source"])
    cells.X, record["preset"] = normalise(cells.X, preset), preset
    return cells


def _groups(cells: AnnData, name: str) -> Groups:
    """The groups of the cells that a user names; cells without one are a group of their own."""
    if name == DEPTH:
        depth = np.argsort(np.argsort(np.diff(cells.X.tocsr().indptr), kind="stable"), kind="stable")
        return Groups(depth * DEPTH_GROUPS // cells.n_obs, ordered=True)
    if name not in cells.obs:
        there = ", ".join(map(str, cells.obs.columns)) or "none"
        raise InputError(f"groups {name!r} is no column of obs ({there}); give one of them, or {DEPTH}.")
    code = pd.factorize(cells.obs[name], sort=False, use_na_sentinel=False)[0].astype(np.int64)
    number = int(code.max()) + 1
    if not 2 <= number <= cells.n_obs / CELLS_A_GROUP:
        raise InputError(
            f"groups {name!r} makes {number:,} groups of {cells.n_obs:,} cells: give a column with 2 groups or more, "
            f"of {CELLS_A_GROUP} cells or more on average."
        )
    return Groups(code, ordered=False)


def _groups_of(groups: Groups, some: NDArray[np.int64], planting: Planting) -> Groups:
    """The groups of some of the cells."""
    code = groups.code[some]
    if np.unique(code).size < 2:
        raise InputError(
            f"groups {planting.groups!r}: the {some.size:,} cells that were drawn are all of one group, which shifts "
            "nothing; give more --cells, another --seed or other groups."
        )
    return Groups(code, groups.ordered)


def _planted(
    cells: AnnData, groups: Groups | None, target: Path, planting: Planting, number: list[int]
) -> PlantedStore:
    """Plant and write one store; where there are several, its number decides what is drawn."""
    rng = np.random.default_rng([planting.seed, Stream.PLANTING, *number])
    choices = np.random.default_rng([planting.seed, Stream.PLANTING_CHOICES, *number])
    some = _drawn_cells(cells, planting, choices)
    if groups is not None:
        groups = _groups_of(groups, some, planting)
    planted, table = _replanted(cells[some], groups, planting, rng, choices)
    with writing(target), replaced(target) as store:
        write_expression(planted, store)
        mark_expression(store)
    pairs = _list_of(target)
    with writing(pairs):
        write_file(pairs, table.to_csv(sep="\t", index=False).encode())
    positives = int((table["label"] > 0).sum())
    return PlantedStore(
        store=target,
        cells=planted.n_obs,
        genes=planted.n_vars,
        copies=planted.n_vars - cells.n_vars,
        source_cells=cells.n_obs,
        positives=positives,
        negatives=len(table) - positives,
        confounded=planting.confounded_pairs,
        pairs=pairs,
        treated=STEPS[cells.uns["pairscape"]["preset"]],
    )


def _drawn_cells(cells: AnnData, planting: Planting, rng: np.random.Generator) -> NDArray[np.int64]:
    """The cells of a store, ascending: as many as are asked for, or all."""
    least, most = (min(number, cells.n_obs) for number in planting.cells_range)
    number = round(np.exp(rng.uniform(log(least), log(most))))
    return np.sort(rng.permutation(cells.n_obs)[:number])


def _replanted(
    cells: AnnData, groups: Groups | None, planting: Planting, rng: np.random.Generator, choices: np.random.Generator
) -> tuple[AnnData, pd.DataFrame]:
    """The matrix with planted pairs, and their list."""
    x = cells.X.tocsc()
    eligible = eligible_genes(np.diff(x.indptr), cells.n_obs, planting)
    deal, types = deal_genes(eligible, cells.n_vars, planting, rng), split_types(cells.n_obs, rng)
    forms = draw_forms(deal, planting, choices)
    confounded = draw_confounded(
        eligible, planting.confounded_pairs, groups is not None, planting.strength_range, choices
    )
    made = [
        replant(x, deal, forms, types, planting.background == "real", rng),
        confound(x, confounded, groups, choices),
    ]
    copies = np.concatenate([deal.source[cells.n_vars :], confounded.source.T.ravel()])
    var = pd.DataFrame(index=pd.Index(copy_names(list(cells.var_names), copies), dtype=object))
    obs = pd.DataFrame({"planted_type": pd.Categorical(np.where(types, "A", "B"))}, index=cells.obs_names)
    if groups is not None:
        obs["planted_group"] = pd.Categorical(groups.code.astype(str))
    did = {"source": cells.uns["pairscape"]["source"], "preset": cells.uns["pairscape"]["preset"]}
    did |= {"value_kind": cells.uns["pairscape"]["value_kind"], "planted": _record(planting)}
    table = truth(
        list(var.index), deal, planting, rng,
        forms if isinstance(planting.strength, str) else (), confounded if planting.confounded else None,
    )  # fmt: skip
    planted = sparse.csr_matrix(sparse.hstack(made, format="csc"), dtype=np.float32)
    return AnnData(planted, obs=obs, var=var, uns={"pairscape": did}), table


def _record(planting: Planting) -> dict[str, Any]:
    asked = asdict(planting)
    later = {field.name for field in fields(planting)[FIRST_FIELDS:] if asked[field.name] == field.default}
    return {name: value for name, value in asked.items() if name not in later}
