"""`predict` of an AnnData: no file is named, and the scores are returned or kept in it; of files it is the command's.

Kept scores are `varp[key]`, genes × genes, and `uns[key]` with the whole table (`scores`) and what it says of itself
(`facts`, as JSON, which every version of AnnData writes).
"""

import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairscape.model import commands
from pairscape.pipeline.compute.session import say_unless
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.keywords import with_keywords

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame

KEY = "pairscape"
SCORES, FACTS = "scores", "facts"


def predict_anndata(
    adata: "AnnData", /, *, model: Any = "universal", key_added: str | None = None, **options: Any
) -> Any:
    """Score pairs of genes of an AnnData, which is all that is read; files of the job are temporary.

    Parameters
    ----------
    model
        Of an AnnData that is given first: the trained run, as RUN otherwise.
    key_added
        Of an AnnData that is given first: keep the scores in it as `varp[key_added]`, genes × genes, sparse and
        symmetric, with the table and its facts in `uns[key_added]`, and return None. With `by` the matrix is that of
        all groups combined. Scores kept there before are replaced; of what else has that name, `overwrite` decides.

    Raises
    ------
    InputError
        What `predict` refuses; `key_added` is no name, or is taken.
    """
    import tempfile

    _check_options(options)
    if key_added is not None:
        _check_key(adata, key_added, overwrite=bool(options.get("overwrite")))
    with tempfile.TemporaryDirectory(prefix="pairscape-") as folder:
        table: Any = commands.predict(model, adata, Path(folder, "scores.parquet"), **options)
        say_unless(bool(options.get("quiet")))(
            "these files were temporary and are gone; show, report and browse need them: "
            f"pairscape.predict({str(model)!r}, adata, 'scores.parquet') keeps them"
        )
    table.attrs = _without_folder(table.attrs, folder)
    if key_added is None:
        return table
    _keep(adata, key_added, table, options.get("gene_column"))
    return None


@partial(with_keywords, command=commands.predict, other=predict_anndata)
def predict(*args: Any, **options: Any) -> Any:
    """As `predict_anndata` where an AnnData is given first, else as the command."""
    if not args or not is_anndata(args[0]):
        _check_files(args, options)
        return commands.predict(*args, **options)
    if len(args) > 1:
        raise InputError(
            f"predict takes an AnnData alone and returns its scores; {len(args)} are given: name no file, or give all "
            "of it: predict('universal', adata, 'scores.parquet')."
        )
    return predict_anndata(args[0], **options)


def is_anndata(given: Any) -> bool:
    """Whether this is an AnnData, told without importing anndata."""
    module = sys.modules.get("anndata")
    return module is not None and isinstance(given, module.AnnData)


def kept_scores(adata: "AnnData", key: str) -> "DataFrame":
    """The table of scores that `predict` kept in an AnnData, with its facts as `attrs`.

    Raises
    ------
    InputError
        There is none under this name.
    """
    held = adata.uns.get(key)
    if not _is_ours(held):
        keys = [name for name, value in adata.uns.items() if _is_ours(value)]
        there = f"there are some under {' and '.join(map(repr, keys))}" if keys else "there are none"
        raise InputError(
            f"uns[{key!r}] holds no scores; {there}: pairscape.predict(adata, key_added={key!r}) keeps them."
        )
    table: DataFrame = held[SCORES].copy()
    table.attrs = json.loads(str(held[FACTS]))
    return table


# ── what is given ────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_files(args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    """Refuse what only an AnnData that is given first may have, and what is neither that nor a path."""
    for name in ("key_added", "model"):
        if name in options:
            raise InputError(
                f"{name} is about an AnnData that is given first: predict(adata, {name}={options[name]!r})."
            )
    if args and not isinstance(args[0], str | os.PathLike) and not hasattr(args[0], "fs"):  # which a URL's object has
        kind = type(args[0]).__name__
        raise InputError(
            f"predict takes an AnnData, or RUN MATRIX OUT.parquet, and a {kind} is neither; of a MuData give one "
            "modality (mdata['rna']), of a table an AnnData made of it."
        )
    if len(args) == 2 and is_anndata(args[1]):
        raise InputError("predict takes the AnnData first where no file is named: predict(adata, model=RUN).")


def _check_options(options: Mapping[str, Any]) -> None:
    if str(options.get("network")) == "universal":
        raise InputError(
            "network is a list of known edges; what scores the pairs is model: predict(adata, model='universal')."
        )
    if options.get("images") is not None:
        raise InputError("images is a store in place of a matrix: predict(RUN, 'scores.parquet', images=STORE).")


def _check_key(adata: "AnnData", key: Any, *, overwrite: bool) -> None:
    if not isinstance(key, str) or not key.strip() or "/" in key:
        raise InputError(f"key_added is {key!r}: it names the scores in varp and uns; give a word without '/'.")
    held = adata.uns.get(key)
    free = held is None or _is_ours(held) or _has_record(held)
    if overwrite or (free and (key not in adata.varp or _is_ours(held))):
        return
    where = "varp" if free else "uns"
    raise InputError(f"{where}[{key!r}] holds something else already; give another key_added, or overwrite=True.")


def _is_ours(held: Any) -> bool:
    return isinstance(held, Mapping) and {SCORES, FACTS} <= set(held)


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _keep(adata: "AnnData", key: str, table: "DataFrame", gene_column: str | None) -> None:
    """Write scores into an AnnData; what `ingest` says of it under the same name stays."""
    facts, scores = json.dumps(table.attrs), table.copy()
    scores.attrs, scores.index = {}, scores.index.astype(str)
    held = adata.uns.get(key)
    record = {name: value for name, value in held.items() if name not in (SCORES, FACTS)} if _has_record(held) else {}
    adata.varp[key] = matrix_of(adata, table, gene_column)
    adata.uns[key] = {**record, FACTS: facts, SCORES: scores}


def _has_record(held: Any) -> bool:
    """Whether `ingest` says there how the matrix was made, beside which scores may lie."""
    from pairscape.pipeline.matrix.expression import as_record

    return bool(as_record(held))


def matrix_of(adata: "AnnData", table: "DataFrame", gene_column: str | None) -> Any:
    """Scores as (G, G) symmetric CSR float32; of a pair that was scored in both orders the higher one."""
    import numpy as np
    import pandas as pd
    from scipy import sparse

    from pairscape.model.edges.scores import COMBINED
    from pairscape.pipeline.genes.columns import name_genes

    ids = name_genes(pd.DataFrame(adata.var).set_axis(adata.var_names.astype(str), axis=0), gene_column).ids
    rows = table[table["score"].notna()]
    rows = rows[rows["group"] == COMBINED] if "group" in rows else rows
    rows = rows.sort_values("score", kind="stable")
    place = {name: at for at, name in enumerate(ids)}
    ends = np.sort([rows[end].astype(object).map(place).to_numpy(np.int64) for end in ("gene_a", "gene_b")], axis=0)
    _, last = np.unique((ends[0] * len(ids) + ends[1])[::-1], return_index=True)
    kept = len(rows) - 1 - last
    (a, b), score = ends[:, kept], rows["score"].to_numpy(np.float32)[kept]
    there = np.concatenate([a, b]), np.concatenate([b, a])
    return sparse.csr_matrix((np.tile(score, 2), there), shape=(len(ids), len(ids)))


def _without_folder(value: Any, folder: str) -> Any:
    """Facts with the names of files alone where they lay in a folder that is gone."""
    if isinstance(value, dict):
        return {name: _without_folder(part, folder) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_folder(part, folder) for part in value]
    return value.removeprefix(f"{folder}/") if isinstance(value, str) else value
