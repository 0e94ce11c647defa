"""Pairscape: gene-pair inference from single-cell data with images of joint expression.

The front door. Every command is a plain function, so the command line and the notebook are one interface:
`pairscape train images.zarr run` is `pairscape.train("images.zarr", "run")`. It parses, opens the cluster and calls;
the work is done in `pipeline` (matrix → heatmaps) and `model` (heatmaps → classifier).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from pairscape.model.options import Prediction, Recipe, Rendering, Search, Splitting, Training, Wanted
from pairscape.model.options import preset as recipe_preset
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.options import Atlas, Binning, Compute, PairSource, Planting

if TYPE_CHECKING:  # `pairscape --help` loads neither torch nor dask: commands import what they need
    from distributed import Client

    from pairscape.pipeline.compute.progress import Progress
    from pairscape.pipeline.datasets.fetch import Place
    from pairscape.pipeline.datasets.registry import DataSet
    from pairscape.pipeline.heatmaps.job import Request

__version__ = version("pairscape")

Flat = Parameter(name="*")

app = App(
    name="pairscape",
    help=__doc__.splitlines()[0],
    version=__version__,
    help_on_error=False,
    suppress_keyboard_interrupt=False,
)


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command
def demo(
    out: Path = Path("data/demo"), /, *, seed: int = 0, scheduler: str = "local", quiet: bool = False
) -> dict[str, Any]:
    """The whole job on real cells, nothing to download: 700 PBMC cells, 292,230 pairs, a trained and audited network.

    Parameters
    ----------
    out
        Folder for the stores and the run; an earlier demo there is replaced.
    seed
        Decides the split of the cells, the folds and the training.
    scheduler
        Where the heatmaps are counted, as in `heatmaps`.
    quiet
        No progress bars, no table.

    Returns
    -------
    dict
        What `metrics.json` holds.
    """
    from pairscape.pipeline.datasets.fetch import demo_cells

    out = Path(out)
    _clear_demo(out)
    ingest(demo_cells(), out / "expression.zarr", quiet=quiet)
    pairs = PairSource(all_pairs=True, labels="replicate")
    heatmaps(
        out / "expression.zarr",
        out / "images.zarr",
        source=pairs,
        binning=Binning("rank"),
        codes=out / "codes.zarr",
        compute=Compute(scheduler),
        seed=seed,
        quiet=quiet,
    )
    return train(out / "images.zarr", out / "run", seed=seed, quiet=quiet)


@app.command
def run(config: Path, /, *, dry_run: bool = False, quiet: bool = False) -> None:
    """The whole job from one file: ingest, heatmaps, train, predict, export, as far as the file names them; resumes.

    Every option of every step is checked before the first one begins.

    Parameters
    ----------
    config
        TOML file; its tables are the commands, the names in them the commands' options. docs/run.md shows one.
    dry_run
        Show the commands and run none.
    quiet
        No progress bars, no summaries.
    """
    from contextlib import chdir

    from pairscape.jobfile import is_done, noted, read_job, resumed, step_digests

    folder, steps = read_job(config := Path(config))
    with chdir(config.absolute().parent):
        for step in steps:
            app.parse_args(step.words, exit_on_error=False, print_error=False)
        for step, digest in zip(steps, step_digests(steps), strict=True):
            done = is_done(folder, step, digest)
            _say(quiet, f"pairscape {' '.join(step.words)}{'  (done before)' if done else ''}")
            if done or dry_run:
                continue
            words = [*resumed(folder, step), *["--quiet"] * quiet]
            with noted(folder, step, digest):
                app(words, exit_on_error=False, print_error=False, result_action="return_value")


@app.command
def ingest(
    *matrices: Any,
    preset: Literal["auto", "scanpy", "log1p", "none", "cnnc", "deep-cell"] = "auto",
    min_cells: int = 1,
    min_genes: int = 1,
    cells: str | None = None,
    genes: Path | None = None,
    highly_variable: int | None = None,
    gene_map: Path | None = None,
    orientation: Literal["auto", "genes-by-cells", "cells-by-genes"] = "auto",
    layer: str | None = None,
    key: str | None = None,
    join: Literal["inner", "outer"] = "inner",
    compute: Annotated[Compute | None, Flat] = None,
    dry_run: bool = False,
    overwrite: bool = False,
    events: Path | None = None,
    quiet: bool = False,
) -> None:
    """Any supported matrix to an expression store: AnnData on Zarr, log-normalised, cells × genes; resumes by itself.

    What was understood of the matrix is shown before the store is written. Where it is not said where the work runs, a
    small matrix is done in this process, a large one by a local worker a core.

    Parameters
    ----------
    matrices
        One matrix or several to be joined on their genes, and last the store to write, ending in .zarr. A matrix is an
        h5ad, AnnData-Zarr, Cell Ranger h5 or folder, loom, table of text (.gz), pandas HDF5 or xarray Zarr, by path,
        pattern in quotes or URL; in Python also an AnnData, or a list of these.
    preset
        `scanpy`: raw counts to 10,000 per cell, log1p. `log1p`: only the logarithm. `none`: already normalised.
        `cnnc`: log10(x + 0.01), as CNNC does with RPKM, stored shifted by 2 so that 0 stays "not expressed".
        `deep-cell`: the original project's steps (no constant genes, genes in more than 10 % of the cells, 100 per
        cell, log2(x + 1)). `auto`: `scanpy` for raw counts, else as the values tell, and said.
    min_cells, min_genes
        Keep genes expressed in at least so many cells, and cells that express at least so many genes.
    cells
        Only cells that meet a condition on columns of obs: "cell_type == 'dendritic'".
    genes
        Store only the genes of this list, one name per line.
    highly_variable
        Store only so many most variable genes (scanpy, flavour seurat), beside those of --genes if both are given:
        candidates for pairs. Cells are normalised over all genes before.
    gene_map
        File of two columns that gives the matrix's genes symbols, such as Entrez ids and symbols.
    orientation
        What the rows of a text file are; `auto` tells from the names.
    layer
        Take this layer in place of X; `raw` takes `.raw`.
    key
        The table of a file that holds several, such as `rpkm`.
    join
        Of several matrices, the genes that all of them have (`inner`) or that any has (`outer`).
    dry_run
        Say what was understood, and write nothing.
    overwrite
        Replace an existing store.
    events
        As in `heatmaps`.
    quiet
        No progress bars, no summary.
    """
    from functools import partial

    from pairscape.pipeline.compute.events import Events
    from pairscape.pipeline.compute.tasks import Usage
    from pairscape.pipeline.matrix.ingest import ingest as ingest_matrix

    *sources, expression = _matrices(matrices)
    say = partial(_say, quiet)
    with Events(events) as log, _progress(quiet) as progress:
        log.write("start", command="ingest", expression=str(expression), version=__version__)
        ingest_matrix(
            sources[0] if len(sources) == 1 else sources, Path(expression), preset=preset, min_cells=min_cells,
            min_genes=min_genes, cells=cells, genes=genes, highly_variable=highly_variable, gene_map=gene_map,
            orientation=orientation, layer=layer, key=key, join=join, compute=compute, dry_run=dry_run,
            overwrite=overwrite, progress=progress, show=lambda summary: say(*summary.lines()), say=say,
            usage=Usage(events=log),
        )  # fmt: skip
        log.write("end", ok=True)
    say(f"nothing was written to {expression}: a dry run" if dry_run else f"wrote {expression}")


@app.command
def plan(
    expression: Any,
    /,
    *,
    source: Annotated[PairSource | None, Flat] = None,
    binning: Annotated[Binning, Flat] = Binning(),
    codes: Path | None = None,
    compute: Annotated[Compute, Flat] = Compute(),
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """What a heatmap job will cost, before spending: pairs, shards, tasks, bytes on disk, memory per task, time.

    Time and bytes are measured on some thousands of these very images, by as many of the workers as this machine has
    cores, or by all those of a running scheduler.

    Parameters
    ----------
    expression
        Expression store, or any AnnData .zarr or .h5ad.
    codes
        Where an earlier job kept the encoded matrix. Absent: a sample of the cells is encoded, for the plan alone.
    seed
        Of the split of the cells under `--labels replicate`, and of the draw of negatives.
    quiet
        No progress bars, no table.
    """
    from dataclasses import asdict

    from pairscape.pipeline.compute.clusters import measuring, worker_threads
    from pairscape.pipeline.datasets.networks import with_network
    from pairscape.pipeline.heatmaps.job import resolve_request
    from pairscape.pipeline.heatmaps.plan import plan_heatmaps
    from pairscape.pipeline.matrix.expression import open_expression

    matrix = open_expression(expression)
    with with_network(_required(source), None) as (source, notes):
        request = resolve_request(matrix, source, seed)
    _say(quiet, *notes, *request.chosen.notes, _label_note(request))
    with _progress(quiet) as progress, _client(measuring(compute), quiet, [expression], _scratch()) as client:
        workers = compute.workers or worker_threads(client)
        cost = plan_heatmaps(matrix, request, binning, codes, compute, workers, client, progress)
    limit = f" of {cost.worker_bytes / 1e6:,.0f} MB per worker" if cost.worker_bytes else ""
    _say(
        quiet,
        f"pairs            {cost.pairs:,}",
        f"cells            {cost.cells:,} of {matrix.n_cells:,}, {cost.cells_at_once:,} at once",
        f"shards           {cost.shards:,} of {binning.shard_pairs:,} images",
        f"tasks            {cost.tasks:,} for {workers} workers",
        f"image store      about {cost.store_bytes / 1e6:,.0f} MB on disk",
        f"memory per task  at most {cost.task_bytes / 1e6:,.0f} MB{limit}",
        f"time             about {_duration(cost.encode_seconds)} to encode, {_duration(cost.seconds)} to count",
        f"largest job      any number of cells and pairs, images of up to {cost.most_bins} × {cost.most_bins} bins",
    )
    return asdict(cost)


@app.command
def heatmaps(
    expression: Any,
    images: Any,
    /,
    *,
    source: Annotated[PairSource | None, Flat] = None,
    binning: Annotated[Binning, Flat] = Binning(),
    codes: Any = None,
    compute: Annotated[Compute, Flat] = Compute(),
    seed: int = 0,
    events: Path | None = None,
    performance_report: Path | None = None,
    quiet: bool = False,
) -> None:
    """Count the joint expression heatmap of every candidate pair into an image store; resumes by itself.

    Parameters
    ----------
    expression
        Expression store, or any AnnData .zarr or .h5ad, by path or URL; in Python also an AnnData.
    images
        Image store to write: a folder, or a URL such as s3://bucket/images.zarr. If an earlier run of the same job was
        interrupted, only what is missing is computed.
    codes
        Where the encoded matrix is kept for reuse, path or URL. Absent: beside the images.
    seed
        Of the split of the cells under `--labels replicate`, and of the draw of negatives.
    events
        File to which what happens is appended as JSON lines: plan, tasks, attempts that failed, workers lost, end.
    performance_report
        HTML page of Dask's own measurements to write. It needs bokeh (pip install 'pairscape[dashboard]').
    quiet
        No progress bars, no summary.
    """
    import time

    from pairscape.pipeline.compute.clusters import reported
    from pairscape.pipeline.compute.events import Events
    from pairscape.pipeline.compute.tasks import Usage
    from pairscape.pipeline.datasets.networks import with_network
    from pairscape.pipeline.heatmaps.job import make_heatmaps, resolve_request
    from pairscape.pipeline.matrix.expression import open_expression
    from pairscape.pipeline.storage.paths import is_remote, writable

    images, codes, started = writable(images), codes and _path(codes), time.perf_counter()
    reads, beside = _on_disk(expression, images), None if is_remote(images) else images
    matrix = open_expression(reads)
    with Events(events) as log, with_network(_required(source), beside) as (source, notes):
        log.write("start", command="heatmaps", expression=str(matrix.path), images=str(images), version=__version__)
        request = resolve_request(matrix, source, seed)
        _say(quiet, *notes, *request.chosen.notes, _label_note(request))
        with (
            _progress(quiet) as progress,
            _client(compute, quiet, [reads], images) as client,
            reported(client, performance_report),
        ):
            done = make_heatmaps(
                matrix, images, codes, request, binning, compute, client, progress, usage=Usage(events=log)
            )
        log.write("end", ok=True, **done.facts(time.perf_counter() - started))
    seconds = time.perf_counter() - started
    lines = [f"wrote {images}: {len(request.chosen.pairs):,} images of {request.cells.size:,} cells"]
    _say(quiet, *lines, *done.lines(seconds))


@app.command
def show(
    images: Any,
    gene_a: str | None = None,
    gene_b: str | None = None,
    /,
    *,
    k: Annotated[int, Parameter(alias="-k")] = 12,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
) -> Path:
    """Draw a pair's heatmap, and beneath it where it departs from independence; of predictions, the best new pairs.

    Parameters
    ----------
    images
        Image store, or the file of scores (.parquet) that `predict` made, whose pairs are counted again from its codes.
    gene_a, gene_b
        Names as in the store; the pair is found in either order. Absent, of a file of scores: the best pairs that are
        not known to be edges.
    k
        How many of those are drawn.
    output
        Picture to write; the suffix (png, svg, pdf) decides the format. Absent: GENE_A-GENE_B.png, or NAME-best.png.
    """
    if str(images).endswith(".parquet"):
        return _show_scores(Path(images), gene_a, gene_b, k, output)
    from pairscape.model.reports.figures import pair_figure
    from pairscape.pipeline.heatmaps.images import find_pair, open_images

    if gene_a is None or gene_b is None:
        raise InputError("name the two genes of a pair: IMAGES.zarr GENE_A GENE_B; only predictions have best pairs.")
    store = open_images(_path(images))
    row, turned = find_pair(store, gene_a, gene_b)
    image = store.counts(slice(row, row + 1))[0]
    output = _picture(output, f"{gene_a}-{gene_b}.png")
    label = {-1: "", 0: "label: none", 1: "label: positive", 2: "label: positive, b → a"}[
        int(store.array("label")[row])
    ]
    picture = image.T if turned else image
    pair_figure(picture[None], [label], [gene_a], [gene_b], residual=True).savefig(output)
    _say(False, f"wrote {output}: {gene_a} to the right, {gene_b} upwards, {store.spec.n_cells:,} cells")
    return output


@app.command
def verify(
    store: Any,
    /,
    *,
    repair: bool = False,
    codes: Any = None,
    expression: Any = None,
    compute: Annotated[Compute, Flat] = Compute("synchronous"),
    quiet: bool = False,
) -> None:
    """Check every byte of a store of images or codes: receipts, checksums, counts. Exit status 1 if any is damaged.

    Parameters
    ----------
    store
        Image store, or code store.
    repair
        Make again what is damaged, and nothing else: small files from their copies, shards from the codes, codes from
        the matrix.
    codes
        Codes that the images were counted from, for a repair. Absent: where the images say, or beside them; where they
        are gone, they are made again.
    expression
        Matrix that the codes were made from, for a repair. Absent: where it was.
    quiet
        No progress bars, no summary.
    """
    from pairscape.pipeline.heatmaps.repair import repair_store
    from pairscape.pipeline.heatmaps.verify import verify_store
    from pairscape.pipeline.storage.paths import writable

    path = writable(store) if repair else _path(store)
    codes, expression = codes and _path(codes), expression and _path(expression)
    with _progress(quiet) as progress, _client(compute, quiet, [str(path)], path if repair else None) as client:
        if repair:
            found = repair_store(path, codes, expression, compute, client, progress)
        else:
            found = verify_store(path, client, progress)
    bad = found.lines()
    note = "" if found.covered else "; an earlier version made it, without digests of its small files"
    for line in bad:
        print(line, file=sys.stderr)
    if bad and not repair:
        raise JobError(
            f"{path} is damaged: {len(found.shards)} of {found.n_shards} shards, {len(found.files)} other files; run "
            f"`pairscape verify {path} --repair`."
        )
    fixed = f", {len(bad)} repaired" if bad else ""
    _say(quiet, f"{path}: {found.n_shards} shards, {found.holds}{fixed}, all sound{note}")


@app.command
def train(
    images: Any,
    run: Any,
    /,
    *,
    preset: Literal["deep-cell"] | None = None,
    rendering: Annotated[Rendering, Flat] = Rendering(),
    splitting: Annotated[Splitting, Flat] = Splitting(),
    training: Annotated[Training, Flat] = Training(),
    seed: int = 0,
    seeds: int | str | tuple[int, ...] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a network on an image store, evaluate it on pairs it never saw, audit it, and write a report.

    With several folds or seeds RUN holds a run folder for each, and the mean and the spread of their figures; the same
    command goes on where it was interrupted.

    Parameters
    ----------
    images
        Image store with labels.
    run
        Folder for weights, figures and the report; of a URL, it is made here and sent there when it is finished.
    preset
        `deep-cell`: the original project's published recipe, all of it.
    seed
        Decides the folds, the first weights and the order of the images.
    seeds
        Train the same recipe on several seeds: how many, counted from `seed` (3), or which (0,1,2).
    overwrite
        Replace an earlier run there.
    quiet
        No progress bars, no table.

    Returns
    -------
    dict
        What `metrics.json` holds.
    """
    from functools import partial

    from pairscape.model.training.repeat import plan_repeats, read_seeds, train_repeats
    from pairscape.model.training.run import train_run
    from pairscape.pipeline.heatmaps.images import open_images
    from pairscape.pipeline.storage.folders import sent_folder

    recipe = Recipe(rendering, splitting, training)
    if preset is not None:
        if recipe != Recipe():
            raise InputError(f"preset {preset} fixes the whole recipe; leave out the other options, or the preset.")
        recipe = recipe_preset(preset)
    store, say = open_images(_path(images)), partial(_say, quiet)
    repeats = plan_repeats(recipe, None if seeds is None else read_seeds(seeds, seed), seed)
    with sent_folder(run, "metrics.json", anew=True, overwrite=overwrite) as folder, _progress(quiet) as progress:
        if repeats:
            metrics = train_repeats(store, folder, recipe, repeats, progress, overwrite=overwrite, say=say)
        else:
            metrics = train_run(store, folder, recipe, seed, progress, overwrite=overwrite, say=say)
    _close(quiet, metrics, _path(run))
    return metrics


@app.command
def evaluate(run: Any, images: Any, /, *, out: Any = None, quiet: bool = False) -> dict[str, Any]:
    """Score another labelled image store with a trained run, with the audit and a report.

    Parameters
    ----------
    run
        Folder that `train` made, or its URL.
    images
        Image store with labels, of the same bins.
    out
        Folder for the figures, or a URL. Absent: RUN/on-NAME, by the name of the store.
    quiet
        No progress bars, no table.

    Returns
    -------
    dict
        What `metrics.json` holds.
    """
    from functools import partial

    from pairscape.model.training.run import evaluate_run
    from pairscape.pipeline.heatmaps.images import open_images
    from pairscape.pipeline.storage.folders import fetched_folder, sent_folder

    store = open_images(_path(images))
    out = out or f"{str(run).rstrip('/')}/on-{store.path.stem}"
    with fetched_folder(run) as trained, sent_folder(out, "metrics.json") as folder, _progress(quiet) as progress:
        metrics = evaluate_run(trained, store, folder, progress, say=partial(_say, quiet))
    _close(quiet, metrics, _path(out))
    return metrics


@app.command
def predict(
    run: Any,
    /,
    *paths: Any,
    images: Any = None,
    source: Annotated[PairSource | None, Flat] = None,
    prediction: Annotated[Prediction, Flat] = Prediction(),
    codes: Path | None = None,
    compute: Annotated[Compute, Flat] = Compute(),
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Score candidate pairs of any matrix with a trained network, without storing an image; resumes by itself.

    Parameters
    ----------
    run
        Folder that `train` made.
    paths
        Expression store (or any AnnData .zarr or .h5ad; in Python also an AnnData) and last the file of scores to
        write, ending in .parquet. With `images`, only the file of scores.
    images
        Score the pairs of this image store, in place of a matrix.
    codes
        Where the encoded matrix is kept for reuse. Absent: beside the scores.
    seed
        Of the sample of candidates that is looked at first, of the split of the cells under `--labels replicate`, and
        of the draw of negatives.
    overwrite
        Replace an existing file of scores, once the new one is complete.
    quiet
        No progress bars, no summary.

    Returns
    -------
    dict
        What the file of scores says of itself.
    """
    import time
    from functools import partial

    from pairscape.model.prediction.predict import Setting, ask, predict_matrix, predict_store
    from pairscape.pipeline.datasets.networks import with_network
    from pairscape.pipeline.heatmaps.images import open_images
    from pairscape.pipeline.heatmaps.job import resolve_request
    from pairscape.pipeline.matrix.expression import open_expression
    from pairscape.pipeline.storage.paths import local_target

    run = local_target(run)
    expression, out = _matrix_and_scores(paths, images, source)
    started, say = time.perf_counter(), partial(_say, quiet)
    asked = ask(run, out, prediction, seed, overwrite=overwrite)
    if images is not None:
        store = open_images(_path(images))
        with _progress(quiet) as progress, _client(compute, quiet, [run, store.path], asked.out) as client:
            done = predict_store(store, asked, Setting(compute, client, progress, say))
    else:
        reads = _on_disk(expression, asked.out)
        matrix = open_expression(reads)
        with with_network(_required(source), asked.out) as (source, notes):
            request = resolve_request(matrix, source, seed)
            say(*notes, *request.chosen.notes, _label_note(request))
            with _progress(quiet) as progress, _client(compute, quiet, [run, reads], asked.out) as client:
                done = predict_matrix(matrix, request, codes, asked, Setting(compute, client, progress, say))
    say(*done.lines(asked.out, time.perf_counter() - started), f"report: {asked.out.with_suffix('.html')}")
    return done.facts


@app.command
def tune(
    images: Any,
    study: Any,
    /,
    *,
    search: Annotated[Search, Flat] = Search(),
    rendering: Annotated[Rendering, Flat] = Rendering(),
    splitting: Annotated[Splitting, Flat] = Splitting(),
    training: Annotated[Training, Flat] = Training(),
    compute: Annotated[Compute, Flat] = Compute(),
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Search sigma, bins, channels, network, learning rate, loss and balance; train and evaluate the best. Resumes.

    Trials run on the workers and are judged on the validation fold; nothing is counted again.

    Parameters
    ----------
    images
        Image store with labels.
    study
        Folder for the trials, the table, the report and the best run. If an earlier search there was interrupted, its
        finished trials are kept; with more `--trials` it goes on.
    seed
        Decides the folds, the first weights and what is tried.
    quiet
        No progress bars, no summary.

    Returns
    -------
    dict
        What `study.json` holds.
    """
    from pairscape.model.training.tune import tune as search_recipes
    from pairscape.pipeline.heatmaps.images import open_images
    from pairscape.pipeline.storage.paths import local_target

    study = local_target(study)
    store, base = open_images(_path(images)), Recipe(rendering, splitting, training)
    with _progress(quiet) as progress, _client(compute, quiet, [images], study) as client:
        found = search_recipes(store, study, base, search, seed, client, progress)
    best, test = found["best"], found["test"]
    _say(
        quiet,
        f"{found['trials']} trials, {found['pruned']} stopped early; average precision on the validation fold "
        f"{best['score']:.3f} (trial {best['number']}), {found['default']['score']:.3f} with the recipe as given",
        "best: " + ", ".join(f"{name} {value}" for name, value in best["parameters"].items()),
        f"its test scores: AUROC {test['auroc']:.3f}, average precision {test['average_precision']:.3f}",
        f"report: {study / 'report.html'}",
    )
    return found


@app.command
def report(run: Any, /) -> Path:
    """Build the report of a run, and its model card; of several repeats, the overview; of predictions, what was found.

    Parameters
    ----------
    run
        Folder that `train` or `evaluate` made, or the file of scores (.parquet) that `predict` made.
    """
    from pairscape.pipeline.storage.paths import local_target

    run = local_target(run)
    if run.suffix == ".parquet":
        from pairscape.model.reports.findings import write_findings

        path = write_findings(run, None)
        _say(False, f"wrote {path}")
        return path
    from pairscape.model.reports.card import write_card
    from pairscape.model.reports.overview import holds_repeats, write_overview
    from pairscape.model.reports.run_report import write_report

    path = (write_overview if holds_repeats(run) else write_report)(run)
    card = [write_card(run)] if (run / "model.safetensors").is_file() else []  # a run on another store has none
    _say(False, *(f"wrote {written}" for written in (path, *card)))
    return path


@app.command
def export(
    scores: Path,
    file: Path,
    /,
    *,
    format: Literal["scenic", "beeline", "decoupler", "cytoscape", "sif", "graphml", "parquet", "anndata", "genernib"]
    | None = None,
    wanted: Annotated[Wanted, Flat] = Wanted(),
    signed: bool = False,
    expression: Any = None,
    dataset_id: str | None = None,
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
    overwrite
        Replace an existing file.
    quiet
        Print no summary.
    """
    from pairscape.model.edges.export import export_scores

    file = Path(file)
    name, edges = export_scores(
        Path(scores), file, wanted, format=format, signed=signed, expression=expression, dataset_id=dataset_id,
        overwrite=overwrite,
    )  # fmt: skip
    _say(quiet, f"wrote {file}: {len(edges):,} edges as {name}, scores {edges.weight[0]:.3g} to {edges.weight[-1]:.3g}")
    return file


@app.command
def simulate(
    expression: Path,
    /,
    *,
    atlas: Annotated[Atlas, Flat],
    counts: bool = True,
    compute: Annotated[Compute, Flat] = Compute(),
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """An atlas of any size with planted modules and markers, as expression store: to size a cluster, or to try things.

    Parameters
    ----------
    expression
        Store to write, ending in .zarr.
    counts
        Keep the raw counts beside the log expression; without them the store is about half as large.
    overwrite
        Replace an existing store.
    quiet
        No progress bars, no summary.
    """
    import time

    from pairscape.pipeline.datasets.simulate import simulate_atlas
    from pairscape.pipeline.storage.write import check_target

    expression, started = Path(expression), time.perf_counter()
    check_target(expression, overwrite=overwrite)  # before a cluster is started
    with _progress(quiet) as progress, _client(compute, quiet, [], expression) as client:
        made = simulate_atlas(atlas, expression, client, progress, counts=counts, overwrite=overwrite)
    _say(quiet, f"wrote {expression}: {made.line()}, {time.perf_counter() - started:.0f} s")


@app.command
def plant(
    source: Any,
    expression: Path,
    /,
    *,
    planting: Annotated[Planting, Flat],
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Known truth in real cells: chosen pairs made dependent by dealing values to other cells; each gene keeps its own.

    Writes the store and, beside it, the pairs with labels and kinds as NAME.tsv, which `heatmaps --pairs` reads.

    Parameters
    ----------
    source
        Expression store, or any matrix that `ingest` reads; in Python also an AnnData.
    expression
        Store to write, ending in .zarr.
    overwrite
        Replace an existing store, and the list beside it.
    quiet
        Print no summary.
    """
    from pairscape.pipeline.datasets.plant import plant_truth

    made = plant_truth(source, Path(expression), planting, overwrite=overwrite)
    _say(quiet, f"wrote {expression}: {made.line()}")


@app.command
def fetch(
    name: str | None = None,
    /,
    *,
    to: Path | None = None,
    sha256: str | None = None,
    list_sets: Annotated[bool, Parameter(name="--list", negative="")] = False,
    quiet: bool = False,
) -> dict[str, Path]:
    """A public data set by name, or any file by its https:// address, checked by sha256.

    The folder that the environment variable PAIRSCAPE_DATA names is looked at first: it serves the same files without
    internet access.

    Parameters
    ----------
    name
        Name of a data set, as `--list` shows them, or an address such as that of an .h5ad of CELLxGENE.
    to
        Folder for the files. Absent: the user's cache, and what PAIRSCAPE_DATA serves stays where it is.
    sha256
        What a file by address must have. Absent: the one found is told and recorded, and later fetches are held to it.
    list_sets
        Show the known data sets and fetch nothing.
    quiet
        No progress bars, no summary.

    Returns
    -------
    dict
        The path of each file by its name; of an archive, the unpacked folder.
    """
    from pairscape.pipeline.datasets.fetch import Fetched, Place, fetch_set, fetch_url, find_set
    from pairscape.pipeline.datasets.registry import read_registry

    place, registry = Place.given(to), read_registry()
    if list_sets:
        _say(quiet, *_listed(registry, place))
        return {}
    if name is None:
        raise InputError(f"name a data set ({', '.join(registry)}) or an https:// address; --list tells more of them.")
    address = name.startswith(("https://", "http://"))
    if sha256 is not None and not address:
        raise InputError("--sha256 belongs to a file by address: what the files of a data set must be is known.")
    found = None if address else find_set(name, registry)
    with _progress(quiet) as progress:
        fetched: Fetched = (
            fetch_url(name, sha256, place, progress) if found is None else fetch_set(found, place, progress)
        )
    _say(quiet, *fetched.notes, *map(str, fetched.files.values()))
    if found is not None:
        _say(quiet, *_about(found, fetched.files))
    return fetched.files


# ── what the commands share ──────────────────────────────────────────────────────────────────────────────────────────


def _matrices(matrices: tuple[Any, ...]) -> list[Any]:
    """Sources, and last the target; in Python the sources may be a list."""
    found = [one for given in matrices for one in (given if isinstance(given, list | tuple) else [given])]
    if len(found) < 2:
        raise InputError("ingest takes one matrix or several, and last the store to write: MATRIX EXPRESSION.zarr")
    return found


def _matrix_and_scores(paths: tuple[Any, ...], images: Any, source: PairSource | None) -> tuple[Any, Any]:
    """What `predict` reads, None for an image store, and the file that it writes."""
    if images is None and len(paths) != 2:
        raise InputError(f"predict takes three paths, RUN EXPRESSION.zarr OUT.parquet, or two with --images "
                         f"IMAGES.zarr, RUN OUT.parquet; {1 + len(paths)} are given.")  # fmt: skip
    if images is not None and len(paths) != 1:
        raise InputError(f"with --images predict takes two paths, RUN OUT.parquet, as the store is in place of a "
                         f"matrix; {1 + len(paths)} are given.")  # fmt: skip
    if images is not None and source is not None:
        raise InputError("an image store brings its own pairs: leave the source of pairs out, or give a matrix.")
    return (None if images is not None else paths[0]), paths[-1]


def _clear_demo(out: Path) -> None:
    """Remove an earlier demo, and nothing that a demo did not make."""
    import shutil

    made, marker = ("expression.zarr", "codes.zarr", "images.zarr", "run"), out / ".pairscape-demo"
    there = [name for name in made if (out / name).exists()]
    if there and not marker.exists():
        raise InputError(f"{out} holds {there[0]}, which no demo made and this one would replace; give another folder.")
    for name in there:
        shutil.rmtree(out / name)
    out.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _required(source: PairSource | None) -> PairSource:
    return source if source is not None else PairSource()  # which says what is missing


def _path(store: Any) -> Path:
    """The path of a store, which may be a URL, also of one that is open in xarray."""
    from pairscape.pipeline.storage.paths import located

    return located(getattr(store, "encoding", {}).get("source", store))


def _on_disk(expression: Any, images: Path) -> Any:
    """Workers read the matrix themselves, so one in memory is written beside the images first."""
    from pairscape.pipeline.storage.paths import is_remote

    if isinstance(expression, str | Path):
        return expression if is_remote(expression) else Path(expression)
    if is_remote(images):
        raise InputError(
            f"{images} is a URL, and workers that write there read the matrix from a file: write the AnnData first, "
            "and give its path or URL."
        )
    path = images.with_name(f"{images.stem}.expression.zarr")
    ingest(expression, path, preset="none", overwrite=True, quiet=True)
    return path


def _picture(output: Path | None, name: str) -> Path:
    """Where a picture goes, checked."""
    output = output or Path(name)
    if output.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"{output}: the suffix decides the format of the picture; give .png, .svg or .pdf.")
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent} to draw into; make it, or give another path.")
    return output


def _show_scores(scores: Path, gene_a: str | None, gene_b: str | None, k: int, output: Path | None) -> Path:
    """One pair of a file of scores, or the best new ones, as picture."""
    from pairscape.model.reports.findings import draw_evidence, show_scores

    if gene_a is not None and gene_b is None:
        raise InputError(f"name both genes of a pair ({gene_a} and which?), or none for the best new pairs.")
    pair = None if gene_a is None or gene_b is None else (gene_a, gene_b)
    output = _picture(output, f"{scores.stem}-best.png" if pair is None else f"{gene_a}-{gene_b}.png")
    found = show_scores(scores, pair, k)
    draw_evidence(found).savefig(output)
    best = f"{len(found.edges):,} best new pairs" if pair is None else "the pair"
    _say(False, f"wrote {output}: {best}, the first gene to the right, {found.counts[0].sum():,} cells")
    return output


def _listed(registry: "dict[str, DataSet]", place: "Place") -> list[str]:
    """A few lines for each known data set."""
    from pairscape.pipeline.datasets.fetch import is_local

    lines = []
    for found in registry.values():
        size = "size unknown" if found.bytes is None else _size(found.bytes)
        there = ", here already" if is_local(found, place) else ""
        lines += [f"{found.name:<21} {found.title}", f"{'':<21} {found.organism}, {found.contents}, {size}{there}"]
    return lines


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:,.0f} kB"


def _about(found: "DataSet", files: dict[str, Path]) -> list[str]:
    """What is to be known of a fetched data set, and the commands that go on with it."""
    import shlex

    lines = [f"{what:<9} {getattr(found, what)}" for what in ("title", "contents", "labels", "licence", "citation")]
    lines += [f"note      {found.note}"] if found.note else []
    for command in found.use:
        for name, path in files.items():
            command = command.replace(f"{{{name}}}", shlex.quote(str(path)))
        lines.append(command)
    return lines


def _label_note(request: "Request") -> str:
    label = request.chosen.pairs.label
    if (label < 0).all():
        return f"{label.size:,} candidate pairs, no labels"
    counted = f"{request.cells.size:,} cells: {request.provenance['cells']}"
    return f"{label.size:,} candidate pairs, {(label > 0).mean():.2%} of them positive; counted in {counted}"


@contextmanager
def _progress(quiet: bool) -> "Iterator[Progress]":
    from pairscape.pipeline.compute.progress import Bars, Silent

    if quiet:
        yield Silent()
    else:
        with Bars() as bars:
            yield bars


@contextmanager
def _client(compute: Compute, quiet: bool, reads: list[Any], writes: str | Path | None) -> "Iterator[Client | None]":
    """The client that the work goes to; of what is read, matrices in memory are no one else's business."""
    from functools import partial

    from pairscape.pipeline.compute.clusters import open_client

    places = [path for path in reads if isinstance(path, str | Path)]
    with open_client(compute, partial(_say, quiet), reads=places, writes=writes) as client:
        yield client


def _scratch() -> str:
    """A name in the folder for temporary files, where a plan measures: workers elsewhere have to see it too."""
    import tempfile

    return str(Path(tempfile.gettempdir()) / "pairscape-plan")


def _duration(seconds: float) -> str:
    """Seconds in words, to two digits."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _say(quiet: bool, *lines: str) -> None:
    if not quiet:
        print(*lines, sep="\n", flush=True)


def _close(quiet: bool, metrics: dict[str, Any], run: Path) -> None:
    from pairscape.model.reports.terminal import print_closing

    if not quiet:
        print_closing(metrics, run)


def main() -> None:
    """The console script: 0 done, 1 the job failed, 2 the input cannot be used; errors are one line."""
    try:
        app(exit_on_error=False, print_error=False, result_action="return_value")
    except (InputError, CycloptsError) as error:
        _fail(str(error), 2)
    except (JobError, OSError) as error:  # OSError: the disk is full, or refuses
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted; what is finished is kept", 130)


def _fail(message: str, status: int) -> None:
    print("pairscape:", " ".join(message.split()), file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
