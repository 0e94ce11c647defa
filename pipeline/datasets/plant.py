"""The planting job: an expression store with known truth made of another's cells, and the truth as a list beside it."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from pairscape.pipeline.datasets.designs import Planting
from pairscape.pipeline.datasets.planted import LEAST_CELLS, Deal, copy_names, deal_genes, replant, split_types, truth
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

LIST_HEADER = b"gene_a\tgene_b\tlabel\tkind"  # of the list that is written beside the store


@dataclass(frozen=True)
class PlantedStore:
    """What was planted.

    Attributes
    ----------
    cells, genes, copies
        Shape of the new store, and how many of its genes are copies.
    positives, negatives
        Rows of the list.
    pairs
        Where the list lies.
    treated
        What was done to the values before.
    """

    cells: int
    genes: int
    copies: int
    positives: int
    negatives: int
    pairs: Path
    treated: str

    def line(self) -> str:
        """The same to print."""
        copied = f" ({self.copies:,} of them copies)" if self.copies else ""
        return (
            f"{self.cells:,} cells × {self.genes:,} genes{copied}, values {self.treated}; {self.pairs} lists "
            f"{self.positives:,} planted and {self.negatives:,} other pairs"
        )


def plant_truth(
    source: str | Path | AnnData, target: Path, planting: Planting, *, overwrite: bool = False
) -> PlantedStore:
    """Write a matrix with planted pairs as expression store, and the pairs as `NAME.tsv` beside `NAME.zarr`.

    The store has `obs["planted_type"]` and `uns["pairscape"]["planted"]`. Counts are not kept: what is planted are the
    values of X, normalised as `ingest` does where they are no logarithms. The matrix is held in memory.

    Raises
    ------
    InputError
        The matrix cannot be read or the target not be written; the list is there already;
        too few cells, or genes that enough cells express.
    """
    check_target(target, overwrite=overwrite, sources=[source])
    pairs = target.with_suffix(".tsv")
    if pairs.exists() and not overwrite:
        raise InputError(f"{pairs} exists, and the list of planted pairs goes there: give another name, or --overwrite")
    require_own_file(pairs, LIST_HEADER)
    cells = _log_expression(source)
    if cells.n_obs < LEAST_CELLS:
        raise InputError(
            f"{source if not isinstance(source, AnnData) else 'the AnnData'} has {cells.n_obs} cells: a dependence "
            f"shows in {LEAST_CELLS} at least; give more cells."
        )
    rng = np.random.default_rng([planting.seed, Stream.PLANTING])
    deal = deal_genes(np.diff(cells.X.tocsc().indptr) / cells.n_obs, planting, rng)
    planted = _replanted(cells, deal, planting, rng)
    table = truth(list(planted.var_names), deal, planting, rng)
    with writing(target), replaced(target) as store:
        write_expression(planted, store)
        mark_expression(store)
    with writing(pairs):
        write_file(pairs, table.to_csv(sep="\t", index=False).encode())
    positives = int((table["label"] > 0).sum())
    copies = planted.n_vars - cells.n_vars
    return PlantedStore(
        planted.n_obs,
        planted.n_vars,
        copies,
        positives,
        len(table) - positives,
        pairs,
        STEPS[cells.uns["pairscape"]["preset"]],
    )


def _log_expression(source: str | Path | AnnData) -> AnnData:
    """A matrix in memory, normalised by the rule of `ingest` for such values."""
    cells = read_any(source)
    record = cells.uns["pairscape"]
    judged = Judged(record["value_kind"], record["told_by"])
    asked: Preset = "none" if trusted_record(source) else "auto"
    preset, _ = choose_preset(asked, judged, record["source"])
    cells.X, record["preset"] = normalise(cells.X, preset), preset
    return cells


def _replanted(cells: AnnData, deal: Deal, planting: Planting, rng: np.random.Generator) -> AnnData:
    types = split_types(cells.n_obs, rng)
    x = sparse.csr_matrix(replant(cells.X.tocsc(), deal, planting, types, rng), dtype=np.float32)
    obs = pd.DataFrame({"planted_type": pd.Categorical(np.where(types, "A", "B"))}, index=cells.obs_names)
    var = pd.DataFrame(index=pd.Index(copy_names(list(cells.var_names), deal), dtype=object))
    did = {"source": cells.uns["pairscape"]["source"], "preset": cells.uns["pairscape"]["preset"]}
    did |= {"value_kind": cells.uns["pairscape"]["value_kind"], "planted": asdict(planting)}
    return AnnData(x, obs=obs, var=var, uns={"pairscape": did})
