"""The pooling job: files of scores of several sets in, one file of scores out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairscape.model.edges.factors import Factors, find_factors
from pairscape.model.edges.pooling import Columns, pool
from pairscape.model.edges.score_sets import KIND, Pool, match_genes, open_sources
from pairscape.model.edges.scores import GENES, SYMBOLS, read_facts, write_scores
from pairscape.model.options import Combination
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.genes.lists import read_grouped_pairs
from pairscape.pipeline.storage.ownership import require_other

if TYPE_CHECKING:
    from pairscape.model.prediction.learned import Learned

IS = {
    "log-odds": "probability of dependence in these sets at the prior",
    "mean-z": "m / (1 + m) of the size m of the mean z: no probability",
    "mean-rank": "size of the mean signed rank, 0 to 1: no probability",
    "factors": "size of the correlation through the main factors of all pairs, 0 to 1: no probability",
    "learned": "probability that a pair is like those of the gold list, if the share `prior` of the pairs is",
}
THROUGH = "factor_correlation"
POOLED = ("label", "score", "dependence", "correlation", "mean_z", "log_odds", "sets")


@dataclass(eq=False)
class Outcome:
    """What came of it.

    Attributes
    ----------
    seen_in : (sets + 1,)
        Pairs that so many sets have seen.
    repeated, unscored
        Rows that named a pair once more, and rows without a score.
    """

    seen_in: NDArray[np.int64]
    notes: list[str] = field(default_factory=list)
    repeated: int = 0
    unscored: int = 0

    def lines(self, out: Path) -> list[str]:
        """The same to print."""
        n_pairs, sets = int(self.seen_in.sum()), np.arange(self.seen_in.size)
        spread = ", ".join(f"{n:,} in {k}" for k, n in zip(sets, self.seen_in.tolist(), strict=True) if n)
        said = [f"wrote {out}: {n_pairs:,} pairs; seen {spread} of {sets[-1]} sets"]
        if sets[-1] > 1 and not self.seen_in[2:].any():
            said.append("no pair is in two sets or more: nothing was pooled, and each score is that of one set")
        if self.repeated:
            said.append(f"{self.repeated:,} rows named a pair that the file has already, and were left out")
        if self.unscored:
            said.append(f"{self.unscored:,} rows have no score (the screen kept them from the network): no evidence")
        return [*self.notes, *said]


def combine_scores(
    paths: Sequence[Path], out: Path, wanted: Combination, seed: int, session: Session, *, overwrite: bool
) -> Outcome:
    """Pool files of scores into one.

    Parameters
    ----------
    seed
        Of the draw of negatives and of the folds, with `wanted.learn`.

    Raises
    ------
    InputError
        The file to write is no table, is one that is read, exists, or is somebody else's; what `open_sources`,
        `match_genes` and `learn` refuse.
    """
    _check_target(out, paths, overwrite=overwrite)
    sources = match_genes(open_sources(paths, wanted), wanted)
    session.say(*sources.union.notes)
    if wanted.learn is not None:
        read_grouped_pairs(wanted.learn)  # what cannot be read is refused before all pairs are
    factors = _find_factors(sources, wanted, session)
    prior, learned = wanted.prior or sources.sources[0].prior, None
    if wanted.learn is not None:
        from pairscape.model.prediction.learned import EVEN, learn

        prior = wanted.prior or EVEN
        learned = learn(sources, factors, wanted, prior, seed)
        session.say(*learned.lines())
    outcome = Outcome(np.zeros(len(sources.sources) + 1, np.int64))
    parts = _pooled(sources, wanted, prior, (factors, learned), outcome, session)
    symbols = () if sources.union.symbols is None else SYMBOLS
    kinds = KIND if "kind" in sources.columns else ()
    columns = ["gene_a", "gene_b", *symbols, *POOLED[:2], *kinds, *POOLED[2:]] + [THROUGH] * (factors is not None)
    write_scores(out, parts, columns, _facts(sources, wanted, prior, seed, learned))
    return outcome


def _find_factors(sources: Pool, wanted: Combination, session: Session) -> Factors | None:
    """The main factors, where the rule or learned weights take them; InputError where the rule cannot."""
    if wanted.rule != "factors" and wanted.learn is None:
        return None
    found = find_factors(sources, session)
    if isinstance(found, Factors):
        return found
    if wanted.rule == "factors":
        raise InputError(f"{found}; give scores of all pairs of their genes (predict --all-pairs), or another --rule.")
    session.say(f"learned without factors of all pairs: {found}")
    return None


def _check_target(out: Path, paths: Sequence[Path], *, overwrite: bool) -> None:
    if out.suffix != ".parquet":
        raise InputError(f"{out} does not end in .parquet: scores are one table; name it {out.stem}.parquet.")
    require_other(out, paths)
    if out.exists():
        if not overwrite:
            raise InputError(f"{out} exists: give another name, or allow to overwrite it (--overwrite).")
        read_facts(out)  # whatever is no file of scores is not overwritten


def _facts(sources: Pool, wanted: Combination, prior: float, seed: int, learned: "Learned | None") -> dict[str, Any]:
    """What the file says of itself; `pairs` keeps that first genes are regulators."""
    rule = wanted.rule if learned is None else "learned"
    first = sources.sources[0].facts
    return {
        "model": first.get("model"),
        "prior": prior,
        "thresholds": {},
        "pairs": {"regulators": sources.ordered},
        "combined": {
            "rule": rule,
            "score_is": IS[rule],
            "sets": [source.record() for source in sources.sources],
            "gene_map": wanted.gene_map and str(wanted.gene_map),
            "genes_left_out": list(sources.union.notes),
            "learned": None if learned is None else {"seed": seed, **learned.facts},
        },
        "versions": first.get("versions"),
    }


def _pooled(
    sources: Pool,
    wanted: Combination,
    prior: float,
    fitted: "tuple[Factors | None, Learned | None]",
    outcome: Outcome,
    session: Session,
) -> Iterator[pa.Table]:
    """The rows of the file, a range of first genes at a time."""
    ranges, (factors, learned) = sources.parts(), fitted
    session.progress.start("pooling ranges of genes", len(ranges))
    for low, high in ranges:
        rows, repeated = sources.rows(low, high)
        found = pool(rows, sources.sets, "mean-z" if wanted.rule == "factors" else wanted.rule, prior)
        if factors is not None:
            found[THROUGH] = factors.correlation(found["key"])
        if learned is not None:
            found["score"] = learned.score(rows, found)
        elif wanted.rule == "factors":
            found["score"] = np.abs(found[THROUGH])
        outcome.repeated += repeated
        outcome.unscored += int(np.isnan(rows["score"]).sum())
        outcome.seen_in += np.bincount(found["sets"], minlength=outcome.seen_in.size)
        yield _table(sources, rows, found)
        session.progress.advance(1)


def _table(sources: Pool, rows: Columns, found: Columns) -> pa.Table:
    first = {name: rows[name][found["first"]] for name in ("key", "turned")}
    union, genes = sources.union, dict(zip(GENES, sources.genes_of(first), strict=True))
    columns: dict[str, Any] = {name: _named(at, union.names) for name, at in genes.items()}
    if union.symbols is not None:
        known = np.array([bool(symbol) for symbol in union.symbols])
        both = zip(SYMBOLS, genes.values(), strict=True)
        columns |= {name: _named(np.where(known[at], at, -1), union.symbols) for name, at in both}
    columns |= {
        name: pa.array(found[name], from_pandas=True) for name in (*POOLED, *KIND[1:], THROUGH) if name in found
    }
    if "kind" in found:
        columns["kind"] = _named(np.nan_to_num(found["kind"], nan=-1).astype(np.int32), KINDS)
    return pa.table(columns)


def _named(at: NDArray[np.integer], names: Sequence[str]) -> pa.Array:
    """Names by their position; null below 0."""
    return pa.DictionaryArray.from_arrays(pa.array(at.astype(np.int32), mask=at < 0), pa.array(names, pa.string()))
