"""Commands that take files of scores: export, combine; each calls its job."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pairscape.model.options import Combination, EdgeChoice
from pairscape.pipeline.compute.session import here, say_unless
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.keywords import flat
from pairscape.pipeline.options import Flat
from pairscape.pipeline.storage.paths import local_target


@flat
def export(
    scores: Any,
    file: Any,
    /,
    *,
    format: Literal["scenic", "beeline", "decoupler", "cytoscape", "sif", "graphml", "parquet", "anndata", "genernib"]
    | None = None,
    wanted: Annotated[EdgeChoice, Flat] = EdgeChoice(),
    signed: bool = False,
    expression: Any = None,
    dataset_id: str | None = None,
    names: Literal["symbol", "id"] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Write the edges of a prediction as the file that another tool reads.

    Parameters
    ----------
    scores
        File that `predict` made.
    file
        File to write. Its suffix decides the format: .csv and .tsv SCENIC's adjacencies, rankedEdges.csv BEELINE's,
        .graphml, .sif, .parquet, .h5ad AnnData.
    format
        For what the suffix does not tell: `decoupler`, `cytoscape` (a table of edges), `beeline`, `genernib`.
    signed
        Weights get the sign of the correlation (`decoupler`, `genernib`).
    expression
        Matrix that is copied into the .h5ad and gets the edges in `varp`. Absent: the genes alone.
    dataset_id
        geneRNIB's name of the data set. Absent: that of the matrix.
    names
        Genes by their symbols or by the matrix's ids. Absent: symbols where there are any, ids in .parquet and .h5ad.
    overwrite
        Replace an existing file.
    quiet
        Print no summary.
    """
    from pairscape.model.edges.export import export_scores

    scores, file = local_target(scores), local_target(file)
    name, edges = export_scores(
        scores, file, wanted, format=format, signed=signed, expression=expression, dataset_id=dataset_id, names=names,
        overwrite=overwrite, say=say_unless(quiet),
    )  # fmt: skip
    say_unless(quiet)(
        f"wrote {file}: {len(edges):,} edges as {name}, scores {edges.weight[0]:.3g} to {edges.weight[-1]:.3g}"
    )
    return file


@flat
def combine(
    *paths: Any,
    wanted: Annotated[Combination, Flat] = Combination(),
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Pool the scores of several data sets, donors or groups into those of one network.

    Parameters
    ----------
    paths
        Files that `predict` made, of different data sets or donors, or one file with groups; last the file of scores to
        write, ending in .parquet. Genes may differ.
    seed
        Of the folds and of the draw of negatives, with --learn.
    overwrite
        Replace an existing file of scores, once the new one is complete.
    quiet
        No progress bars, no summary.
    """
    from pairscape.model.prediction.combine import combine_scores

    if len(paths) < 2:
        raise InputError(f"combine takes files of scores and, last, the file to write; {len(paths)} paths are given.")
    *scores, out = [local_target(path) for path in paths]
    with here(quiet) as session:
        outcome = combine_scores(scores, out, wanted, seed, session, overwrite=overwrite)
    say_unless(quiet)(*outcome.lines(out))
    return out
