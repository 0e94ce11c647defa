"""Which columns of the cells' annotations explain the best pairs: those within whose values they fall.

Where cells of two conditions are scored together, the best pairs are those that the condition moves, and nothing in a
score says so. So the best pairs are scored again within the values of every column that could be it; that costs some
dozen images.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pairscape.model.options import DEPTH
from pairscape.model.prediction.candidates import CandidateImages
from pairscape.model.prediction.parts import Cost, Job, score_images
from pairscape.model.prediction.stability import best_rows
from pairscape.model.prediction.within import check_columns, lay_strata
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.pairs import Pairs

BEST, LEAST_PAIRS = 15, 5
LEFT = 0.5  # of a correlation: less is left where a column explains the most of it
WARNED = 1 / 3  # of the best pairs: from so many on it is said
CONSIDERED = 2000  # best pairs, of which those of distinct genes are taken
FROM = 0.5  # score of a pair that depends more likely than not
MOST_VALUES, LEAST_CELLS, IN_LARGE = 20, 50, 0.9  # of a column: its values, and how many cells are in values of so many
MOST_COLUMNS = 40


def find_explained(job: Job, candidates: CandidateImages, seed: int, session: Session) -> list[dict[str, Any]]:
    """Columns that explain a third of the best pairs or more, those that explain most first; else two of them together.

    A pair is explained where it scores below 0.5 within the values of the column, or where less than half of its
    correlation is left. Each column as `column`, `pairs` that were looked at, those `explained`, and a `sentence`. What
    the job compares within already is taken out of all.
    """
    columns = () if job.within is None else job.within.columns
    obs, codes = candidates.obs, candidates.codes
    if obs is None or codes is None:
        return []
    score = np.concatenate([job.parts.read([part])["score"] for part in range(len(job.parts))])
    rows = distinct_best(candidates.pairs, score)
    if rows.size < LEAST_PAIRS:
        return []
    pairs = candidates.pairs.take(rows)
    genes, images = np.stack([pairs.gene_a, pairs.gene_b], axis=1), candidates.read(rows)
    folder, silent = Path(job.parts.folder), replace(session, progress=Session().progress)
    before = score_images(replace(job, threshold=None), images, genes, Cost())["correlation"]

    def look(*added: str) -> dict[str, Any]:
        wanted = (*columns, *added)
        strata = lay_strata(codes, check_columns(obs, wanted), wanted, genes, folder, seed, silent)
        within = score_images(replace(job, within=strata, threshold=None), images, genes, Cost())
        lost = (within["score"] < FROM) | (np.abs(within["correlation"]) < LEFT * np.abs(before))
        return {"column": ",".join(added), "pairs": int(rows.size), "explained": int(lost.sum())}

    found = sorted((look(column) for column in _possible(obs, columns)), key=lambda known: -known["explained"])
    told = [known for known in found if known["explained"] >= WARNED * rows.size]
    if not told and len(found) > 1:  # cells may be of several types in several conditions
        together = [known["column"] for known in found[:2]]
        if _fits(obs, (*columns, *together)) and (both := look(*together))["explained"] >= WARNED * rows.size:
            told = [both]
    return [known | {"sentence": _sentence(known, columns)} for known in told]


def _fits(obs: pd.DataFrame, columns: tuple[str, ...]) -> bool:
    """Whether cells can be compared within columns."""
    try:
        check_columns(obs, columns)
    except InputError:
        return False
    return True


def distinct_best(pairs: Pairs, score: NDArray[np.floating]) -> NDArray[np.int64]:
    """The best pairs of which no two share a gene, ascending: at most BEST, with scores of FROM or more."""
    best = best_rows(score, CONSIDERED)
    used, found = set[int](), list[int]()
    for row in best[np.argsort(-score[best], kind="stable")]:
        genes = {int(pairs.gene_a[row]), int(pairs.gene_b[row])}
        if score[row] >= FROM and len(found) < BEST and not genes & used:
            found.append(row)
            used |= genes
    return np.sort(np.array(found, np.int64))


def _possible(obs: pd.DataFrame, taken: tuple[str, ...]) -> Iterator[str]:
    """Columns with a few values, of many cells each, and depth."""
    if DEPTH not in taken and DEPTH not in obs.columns:
        yield DEPTH
    names = [str(name) for name in obs.columns if str(name) not in taken and str(name) != DEPTH]
    for name in names[:MOST_COLUMNS]:
        if not (_fits(obs, (name,)) and _fits(obs, (*taken, name))):
            continue
        cells = check_columns(obs, [name]).cells
        if 2 <= cells.size <= MOST_VALUES and cells[cells >= LEAST_CELLS].sum() >= IN_LARGE * len(obs):
            yield name


def _sentence(found: dict[str, Any], columns: tuple[str, ...]) -> str:
    best = f"{found['explained']} of the {found['pairs']} best pairs"
    add = ",".join([*columns, found["column"]])
    return f"within {found['column']} {best} score below {FROM:g} or lose half of their correlation: add --within {add}"
