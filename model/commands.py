"""Commands from heatmaps to a network: show, train, evaluate, predict, tune, report; each calls its job."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from pairscape.model.options import Drawing, Prediction, Recipe, Rendering, Search, Splitting, Training
from pairscape.model.options import preset as recipe_preset
from pairscape.pipeline.compute.session import Record, first_word, here, logged, say_unless
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.keywords import flat
from pairscape.pipeline.options import Compute, Flat, Grouping, PairSource
from pairscape.pipeline.storage.paths import is_remote, local_target, located
from pairscape.pipeline.storage.plain_files import file_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pandas import DataFrame

    from pairscape.pipeline.heatmaps.images import Images


def _read_scores(path: Path) -> "DataFrame":
    """A file of scores as a table in memory, with its facts."""
    from pairscape.model.edges.scores import read_frame

    return read_frame(path)


@flat
def show(
    images: Any,
    gene_a: str | None = None,
    gene_b: str | None = None,
    /,
    *,
    k: Annotated[int, Parameter(alias="-k")] = 12,
    grouping: Annotated[Grouping, Flat] = Grouping(),
    group: str | None = None,
    drawing: Annotated[Drawing, Flat] = Drawing(),
    output: Annotated[Any, Parameter(alias="-o")] = None,
) -> Path:
    """Draw a pair's heatmap, and beneath it where it departs from independence; of scores also a gene's best pairs.

    With groups of cells, which `--by` names or the store has, a panel is drawn for each, all on the same axes.

    Parameters
    ----------
    images
        Image store, or the file of scores (.parquet) that `predict` made, whose pairs are counted again from its codes.
    gene_a
        Name as in the store. Of a file of scores one gene alone: its best pairs; none: the best pairs that are not
        known to be edges.
    gene_b
        The other gene; the pair is found in either order.
    k
        How many of those are drawn.
    group
        Of cells, whose images or scores alone are shown. Absent: every group, or of scores all groups combined.
    output
        Picture to write; the suffix (png, svg, pdf) decides the format. Absent: GENE_A-GENE_B.png, GENE_A-best.png or
        NAME-best.png.

    Examples
    --------
    pairscape show images.zarr CD79A CD79B -o pair.png
    pairscape show scores.parquet -k 20 -o best.pdf
    """
    first_word(False)

    from pairscape.model.reports.show import Shown, draw

    genes = tuple(gene for gene in (gene_a, gene_b) if gene is not None)
    path, words = draw(located(images), genes, Shown(k, grouping, group, drawing), output)
    say_unless(False)(*words)
    return path


@flat
def train(
    *paths: Any,
    preset: Literal["deep-cell"] | None = None,
    rendering: Annotated[Rendering, Flat] = Rendering(),
    splitting: Annotated[Splitting, Flat] = Splitting(),
    training: Annotated[Training, Flat] = Training(),
    seed: int = 0,
    seeds: int | str | tuple[int, ...] | None = None,
    weights: str | tuple[float, ...] | None = None,
    test_stores: str | tuple[str, ...] | None = None,
    group: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a network on image stores, evaluate it on pairs it never saw, audit it, and write a report.

    With several folds or seeds RUN holds a run folder for each, and the mean and the spread of their figures; the same
    command goes on where it was interrupted.

    Parameters
    ----------
    paths
        Image store with labels, or several whose images mix in every batch (in Python also a list), and last the folder
        for weights, figures and the report; of a URL, it is made here and sent there when it is finished.
    preset
        `deep-cell`: the original project's published recipe, all of it.
    seed
        Decides the folds, the first weights and the order of the images.
    seeds
        Train the same recipe on several seeds: how many, counted from `seed` (3), or which (0,1,2).
    weights
        Share of each training store in what is shown, one number a store, with commas between them (1,2,1). Absent: the
        same share for each.
    test_stores
        Under `--split dataset`: stores that are left out whole and are the test, with commas between them; among those
        that are given or others.
    group
        Of stores with groups of cells, the one whose images are used. Absent: those of all groups together.
    overwrite
        Replace an earlier run there.
    quiet
        No progress bars, no table.

    Returns
    -------
    dict
        What `metrics.json` holds.

    Examples
    --------
    pairscape train images.zarr run
    pairscape train donor1.zarr donor2.zarr run --seeds 3 --epochs 20
    """
    recipe = Recipe(rendering, splitting, training)
    if preset is not None:
        if recipe != Recipe():
            raise InputError(f"preset {preset} fixes the whole recipe; leave out the other options, or the preset.")
        recipe = recipe_preset(preset)
    *images, run = _listed(paths)
    if not images:
        raise InputError("train takes one image store or several, and last the folder of the run: IMAGES.zarr RUN")
    first_word(quiet, *images)

    from pairscape.pipeline.storage.results import check_result

    if seeds is None and splitting.folds is None and splitting.fold_file is None and not is_remote(run):
        check_result(located(run), "network", overwrite=overwrite)  # one run: refused before PyTorch is loaded

    from pairscape.model.batches.many import join_stores
    from pairscape.model.training.repeat import plan_repeats, read_seeds, train_repeats
    from pairscape.model.training.run import train_run
    from pairscape.pipeline.storage.workspace import sent_folder

    held_out = [_labelled(path, group, quiet) for path in _split_up(test_stores)]
    store = join_stores([_labelled(path, group, quiet) for path in images], _numbers(weights), held_out)
    repeats = plan_repeats(recipe, None if seeds is None else read_seeds(seeds, seed), seed)
    holds: Literal["repeats", "network"] = "repeats" if repeats else "network"
    with sent_folder(run, holds, overwrite=overwrite) as folder, here(quiet) as session:
        if repeats:
            metrics = train_repeats(store, folder, recipe, repeats, session, overwrite=overwrite)
        else:
            metrics = train_run(store, folder, recipe, seed, session, overwrite=overwrite)
    _close(quiet, metrics, located(run))
    return metrics


def _labelled(path: Any, group: str | None, quiet: bool) -> "Images":
    """A store to learn or judge from; of one with groups of cells it is said that they are taken together."""
    from pairscape.pipeline.heatmaps.images import open_images

    store = open_images(path, group=group)
    if store.groups and group is None:
        together = f"{len(store.groups)} groups of cells are taken together; --group NAME takes one of them"
        say_unless(quiet)(f"{store.path}: {together} ({', '.join(store.groups)})")
    return store


def _listed(paths: tuple[Any, ...]) -> list[Any]:
    """Paths one after the other; in Python some may be a list."""
    return [one for given in paths for one in (given if isinstance(given, list | tuple) else [given])]


def _split_up(given: Any) -> list[Any]:
    """Paths from text with commas, or a list."""
    if given is None:
        return []
    return given.split(",") if isinstance(given, str) else _listed((given,))


def _numbers(weights: "str | Sequence[float] | None") -> list[float] | None:
    if weights is None:
        return None
    try:
        return [float(one) for one in (weights.split(",") if isinstance(weights, str) else weights)]
    except ValueError as error:
        raise InputError(f"weights {weights!r}: give a number a store, with commas between them (1,2,1).") from error


@flat
def evaluate(
    run: Any, images: Any, /, *, group: str | None = None, out: Any = None, quiet: bool = False
) -> dict[str, Any]:
    """Score another labelled image store with a trained run, with the audit and a report.

    Parameters
    ----------
    run
        Folder that `train` made, or its URL, or `universal`, the network that comes with Pairscape.
    images
        Image store with labels, of the same bins.
    group
        Of a store with groups of cells, the one whose images are scored. Absent: those of all groups together.
    out
        Folder for the figures, or a URL. Absent: RUN/on-NAME, by the name of the store (on-NAME-GROUP); of `universal`
        universal-on-NAME here.
    quiet
        No progress bars, no table.

    Returns
    -------
    dict
        What `metrics.json` holds.

    Examples
    --------
    pairscape evaluate run other.zarr
    pairscape evaluate universal images.zarr --out judged
    """
    first_word(quiet)

    from pairscape.model.networks.bundled import NAME, find_run, is_bundled
    from pairscape.model.training.run import evaluate_run
    from pairscape.pipeline.storage.workspace import fetched_folder, sent_folder

    run, store = find_run(run, say_unless(quiet)), _labelled(images, group, quiet)
    if out is None:
        bundled = isinstance(run, Path) and is_bundled(run)
        name = store.path.stem if group is None else Path(file_name(f"{store.path.stem}-{group}.zarr")).stem
        out = f"{NAME}-on-{name}" if bundled else f"{str(run).rstrip('/')}/on-{name}"
    with (
        fetched_folder(run) as trained,
        sent_folder(out, "evaluation", overwrite=True) as folder,
        here(quiet) as session,
    ):
        metrics = evaluate_run(trained, store, folder, session)
    _close(quiet, metrics, located(out))
    return metrics


@partial(flat, read=_read_scores)
def predict(
    run: Any,
    /,
    *paths: Any,
    images: Any = None,
    source: Annotated[PairSource | None, Flat] = None,
    prediction: Annotated[Prediction, Flat] = Prediction(),
    grouping: Annotated[Grouping, Flat] = Grouping(),
    codes: Any = None,
    gene_column: str | None = None,
    compute: Annotated[Compute, Flat] = Compute(),
    record: Annotated[Record, Flat] = Record(),
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Score candidate pairs of any matrix with a trained network, without storing an image; resumes by itself.

    Without a source of pairs all pairs of the genes are scored that enough cells express, at most five million.

    Parameters
    ----------
    run
        Folder that `train` made, or `universal`, the network that comes with Pairscape.
    paths
        Expression store, or any matrix (counts are treated as those of the training, and it is said; in Python also an
        AnnData), and last the file of scores to write, ending in .parquet. With `images`, only the file of scores.
    images
        Score the pairs of this image store, in place of a matrix.
    codes
        Where the encoded matrix is kept for reuse. Absent: beside the scores.
    gene_column
        Column of the genes' annotations that has their symbols, by which lists and results name them. Absent: the first
        of those in use (docs/names.md).
    seed
        Of the sample of candidates that is looked at first, of the split of the cells under `--labels replicate`, and
        of the draw of negatives.
    overwrite
        Replace an existing file of scores, once the new one is complete.
    quiet
        No progress bars, no summary.

    Returns
    -------
    pandas.DataFrame
        The file of scores, a row a pair, and with --by a row a pair and group; its `attrs` are what the file says of
        itself. On the command line nothing.

    Examples
    --------
    pairscape predict universal cells.h5ad scores.parquet
    pairscape predict run expression.zarr scores.parquet --regulators tfs.txt --by cell_type
    """
    import time
    from contextlib import nullcontext

    from pairscape.model.networks.bundled import find_run
    from pairscape.model.prediction.target import check_target

    started, say = time.perf_counter(), say_unless(quiet)
    expression, out = _matrix_and_scores(paths, images, source)
    check_target(local_target(out).absolute(), overwrite=overwrite)  # before torch is loaded, which takes a second
    first_word(quiet, expression if images is None else images)
    run = local_target(find_run(run, say))

    from pairscape.model.prediction.checked import check_prediction
    from pairscape.model.prediction.predict import predict_matrix, predict_store
    from pairscape.pipeline.compute.opening import open_session
    from pairscape.pipeline.datasets.networks import with_network
    from pairscape.pipeline.heatmaps.images import open_images
    from pairscape.pipeline.heatmaps.job import is_small, resolve_request
    from pairscape.pipeline.matrix.alike import ALIKE, refuse_unlike
    from pairscape.pipeline.matrix.prepare import prepared

    checked = check_prediction(run, out, prediction, seed, grouping, overwrite=overwrite)
    with logged(record.events, "predict", run=run, scores=checked.out) as log:
        opened = partial(open_session, compute, quiet, writes=checked.out, events=log, report=record.performance_report)
        if images is not None:
            store = open_images(images)
            refuse_unlike(checked.trained.values, store.values, run, str(store.path))
            with opened(reads=[run, store.path]) as session:
                done = predict_store(store, checked, session)
        else:
            preset = ALIKE.get(checked.trained.values, "auto")
            matrix = prepared(expression, checked.out, preset=preset, compute=compute, gene_column=gene_column, say=say)
            refuse_unlike(checked.trained.values, matrix.values, run, str(matrix.path))
            share = None if source is None else source.min_share
            named = None if source is None or not source.names_pairs else source
            with nullcontext((None, ())) if named is None else with_network(named, checked.out) as (source, notes):
                request = None if source is None else resolve_request(matrix, source, seed)
                if request is not None:
                    say(*notes, *request.chosen.notes, request.label_note())
                small = request is not None and is_small(matrix, len(request.chosen.pairs))
                with opened(reads=[run, str(matrix.path)], small=small) as session:
                    done = predict_matrix(matrix, request, codes and located(codes), checked, session, share)
    say(*done.lines(checked.out, time.perf_counter() - started), f"report: {checked.out.with_suffix('.html')}")
    return checked.out


@flat
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
    record: Annotated[Record, Flat] = Record(),
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

    Examples
    --------
    pairscape tune images.zarr study --trials 20
    pairscape tune images.zarr study --networks pairnet --losses focal
    """
    first_word(quiet)

    from pairscape.model.training.tune import tune as search_recipes
    from pairscape.pipeline.compute.opening import open_session
    from pairscape.pipeline.heatmaps.images import open_images

    study = local_target(study)
    store, base = open_images(images), Recipe(rendering, splitting, training)
    with (
        logged(record.events, "tune", images=store.path, study=study) as log,
        open_session(
            compute, quiet, reads=[images], writes=study, events=log, report=record.performance_report
        ) as session,
    ):
        found = search_recipes(store, study, base, search, seed, session)
    best, test = found["best"], found["test"]
    say_unless(quiet)(
        f"{found['trials']} trials, {found['pruned']} stopped early; average precision on the validation fold "
        f"{best['score']:.3f} (trial {best['number']}), {found['default']['score']:.3f} with the recipe as given",
        "best: " + ", ".join(f"{name} {value}" for name, value in best["parameters"].items()),
        f"its test scores: AUROC {test['auroc']:.3f}, average precision {test['average_precision']:.3f}",
        f"report: {study / 'report.html'}",
    )
    return found


@flat
def report(run: Any, /, *, group: str | None = None) -> Path:
    """Build the report of a run, and its model card; of several repeats, the overview; of predictions, what was found.

    Parameters
    ----------
    run
        Folder that `train` or `evaluate` made, or the file of scores (.parquet) that `predict` made.
    group
        Of predictions by groups of cells, the one that is shown. Absent: all groups combined.

    Examples
    --------
    pairscape report run
    pairscape report by_type.parquet --group Monocytes
    """
    first_word(False)

    from pairscape.model.networks.bundled import find_run, is_bundled

    run = local_target(find_run(run, say_unless(False)))
    if is_bundled(run):
        raise InputError(
            f"the network that comes with Pairscape has no report of its training; read {run / 'model-card.md'}, or "
            "judge it on your own labels: pairscape evaluate universal IMAGES.zarr."
        )
    if run.suffix == ".parquet":
        from pairscape.model.edges.scores import read_facts
        from pairscape.model.reports.findings import write_findings

        if (rule := read_facts(run).get("combined", {}).get("rule", "log-odds")) != "log-odds":
            raise InputError(
                f"{run} is pooled by {rule}, so its scores are no probabilities of dependence, which the report is "
                "about; combine with --rule log-odds for a report."
            )
        path = write_findings(run, None, group)
        say_unless(False)(f"wrote {path}")
        return path
    if group is not None:
        raise InputError("--group is about predictions by groups of cells: give a file of scores (.parquet).")
    from pairscape.model.reports.card import write_card
    from pairscape.model.reports.overview import holds_repeats, write_overview
    from pairscape.model.reports.run_report import write_report
    from pairscape.pipeline.storage.results import require_result

    require_result(
        run, "config.toml", "metrics.json", "history.csv", "predictions.parquet", "examples.npz", "model.safetensors"
    )
    path = (write_overview if holds_repeats(run) else write_report)(run)
    card = [write_card(run)] if (run / "model.safetensors").is_file() else []  # a run on another store has none
    say_unless(False)(*(f"wrote {written}" for written in (path, *card)))
    return path


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


def _close(quiet: bool, metrics: dict[str, Any], run: Path) -> None:
    from pairscape.model.reports.terminal import print_closing

    if not quiet:
        print_closing(metrics, run)
