"""Commands that take files of scores: export, combine, modules, compare, browse; each calls its job."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pairscape.model.options import Combination, EdgeChoice
from pairscape.pipeline.compute.session import first_word, here, say_unless
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

    Examples
    --------
    pairscape export scores.parquet adjacencies.csv --top 1000
    pairscape export scores.parquet network.graphml --max-q 0.05 --kind rising
    """
    first_word(quiet)

    from pairscape.model.edges.export import export_scores, words_of_called
    from pairscape.model.edges.scores import read_facts

    scores, file = local_target(scores), local_target(file)
    name, edges = export_scores(
        scores, file, wanted, format=format, signed=signed, expression=expression, dataset_id=dataset_id, names=names,
        overwrite=overwrite, say=say_unless(quiet),
    )  # fmt: skip
    say_unless(quiet)(
        f"wrote {file}: {len(edges):,} edges as {name}, scores {edges.weight[0]:.3g} to {edges.weight[-1]:.3g}",
        f"expected to be wrong: {words_of_called(edges, read_facts(scores))}",
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

    Examples
    --------
    pairscape combine donor1.parquet donor2.parquet pooled.parquet
    pairscape combine a.parquet b.parquet pooled.parquet --rule log-odds --gene-map orthologues.csv
    """
    first_word(quiet)

    from pairscape.model.prediction.combine import combine_scores

    if len(paths) < 2:
        raise InputError(f"combine takes files of scores and, last, the file to write; {len(paths)} paths are given.")
    *scores, out = [local_target(path) for path in paths]
    with here(quiet) as session:
        outcome = combine_scores(scores, out, wanted, seed, session, overwrite=overwrite)
    say_unless(quiet)(*outcome.lines(out))
    return out


@flat
def modules(
    scores: Any,
    out: Any,
    /,
    *,
    wanted: Annotated[EdgeChoice, Flat] = EdgeChoice(),
    resolution: float = 1.0,
    weighed_by: Literal["score", "correlation"] | None = None,
    names: Literal["symbol", "id"] = "symbol",
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Find modules among the edges of a prediction, by the Leiden algorithm, with the hubs of each.

    Parameters
    ----------
    scores
        File that `predict` made.
    out
        Folder for modules.tsv, modules.gmt (gene sets), network.graphml and a picture; or one file, ending in .tsv,
        .gmt or .graphml. Without a choice of edges they are those that the report calls.
    resolution
        A larger one gives more and smaller modules.
    weighed_by
        What edges are weighed by: the score, or the absolute value of the correlation. Absent: the score, or the
        correlation where half of the scores are all but equal.
    names
        Genes of the sets by symbol, or by id.
    seed
        The same one gives the same modules.
    overwrite
        Replace what is there.
    quiet
        Print no summary.

    Examples
    --------
    pairscape modules scores.parquet modules
    pairscape modules scores.parquet modules --max-q 0.01 --resolution 2
    """
    first_word(quiet)

    from pairscape.model.reports.module_folder import write_modules

    scores, out = local_target(scores), local_target(out)
    write_modules(
        scores, out, wanted, resolution=resolution, weighed_by=weighed_by, names=names, seed=seed, overwrite=overwrite,
        say=say_unless(quiet),
    )  # fmt: skip
    say_unless(quiet)(f"wrote {out}")
    return out


@flat
def compare(
    *paths: Any,
    replicates: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Rank the pairs by how much they change between two groups of cells, or two files of scores.

    Parameters
    ----------
    paths
        File that `predict --by` made, the names of two of its groups, and last the table to write, ending in .parquet;
        or two files of scores and the table. A page with pictures is written beside it.
    replicates
        Column of the cells' annotations, such as the donor, whose cells are dealt as a whole for the q-values. Absent:
        single cells are dealt, among those of like depth.
    seed
        Of what is dealt.
    overwrite
        Replace an existing comparison.
    quiet
        No progress bars, no summary.

    Examples
    --------
    pairscape compare by_type.parquet Monocytes Lymphocytes changed.parquet
    pairscape compare treated.parquet control.parquet changed.parquet --seed 1
    """
    first_word(quiet)

    from pairscape.model.prediction.compare import compare_files, compare_groups
    from pairscape.model.reports.comparison import page_path

    if len(paths) not in (3, 4):
        raise InputError(
            "compare takes four words, SCORES.parquet GROUP GROUP OUT.parquet, or three, A.parquet B.parquet "
            f"OUT.parquet; {len(paths)} are given."
        )
    out = local_target(paths[-1])
    if len(paths) == 3:
        if replicates is not None:
            raise InputError("--replicates is about groups of one file: the cells of two files are not dealt.")
        found = compare_files(local_target(paths[0]), local_target(paths[1]), out, overwrite=overwrite)
    else:
        groups = str(paths[1]), str(paths[2])
        with here(quiet) as session:
            found = compare_groups(
                local_target(paths[0]), groups, out, replicates=replicates, seed=seed, overwrite=overwrite,
                session=session,
            )  # fmt: skip
    say_unless(quiet)(*found.lines(), f"wrote {out}", f"report: {page_path(out)}")
    return out


@flat
def browse(
    scores: Any,
    /,
    *,
    expression: Any = None,
    codes: Any = None,
    modules: Any = None,
    port: int | None = None,
    host: str = "127.0.0.1",
    export: Any = None,
    best: int = 1000,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path | None:
    """Look through a prediction in the browser: a gene, its partners, pictures of a pair, its neighbourhood.

    The page is served to this machine until Ctrl-C; or, with `export`, written as one file for somebody without Python.

    Parameters
    ----------
    scores
        File that `predict` made.
    expression
        Matrix that was predicted on, to encode it again where the codes are gone; they are kept beside the scores.
    codes
        Where the codes that were scored lie, if they were moved. Absent: where the scores say.
    modules
        Folder, or its modules.tsv, that `pairscape modules` wrote: genes get the colours of their modules.
    port
        Of the page. Absent: the first free one from 8765 on.
    host
        Address to listen at. Another than this machine itself lets others in: they need the token of the address.
    export
        Write a page (.html) that holds the best pairs and their pictures, and end.
    best
        How many pairs that page has.
    overwrite
        Replace an earlier page.
    quiet
        Say the address only.

    Returns
    -------
    Path
        The page that was written; None after serving.

    Examples
    --------
    pairscape browse scores.parquet
    pairscape browse scores.parquet --export page.html --best 500
    """
    from pairscape.model.reports.explorer.opening import open_explorer
    from pairscape.model.reports.explorer.saved_page import check_page, write_saved_page

    scores, say = local_target(scores), say_unless(quiet)
    page = None if export is None else local_target(export)
    if page is not None:
        check_page(page, best, scores, overwrite=overwrite)
    if expression is not None:
        codes = _encoded_again(scores, expression, codes, quiet=quiet)
    explorer = open_explorer(scores, codes, modules and local_target(modules), say)
    if page is not None:
        size = write_saved_page(explorer, page, best)
        say(f"wrote {page}: the best {min(best, explorer.table.n_pairs):,} pairs, {size / 1e6:.1f} MB")
        return page
    from pairscape.model.reports.explorer.server import serve_until_interrupted

    serve_until_interrupted(explorer, host, port, say)
    return None


def _encoded_again(scores: Path, expression: Any, codes: Any, *, quiet: bool) -> Path:
    """Where the codes of the matrix of --expression lie."""
    from pairscape.model.prediction.recount import codes_again

    if codes is not None:
        raise InputError("--expression and --codes both say what pictures are counted from; give one of them.")
    with here(quiet) as session:
        return Path(codes_again(scores, expression, session).path)
