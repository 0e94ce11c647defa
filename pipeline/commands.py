"""Commands from a matrix to heatmaps: ingest, heatmaps, verify, simulate, plant, fetch; each calls its job."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from pairscape.pipeline.compute.session import Record, first_word, here, logged, say_unless
from pairscape.pipeline.datasets.designs import Atlas, Planting
from pairscape.pipeline.errors import InputError, JobError, printable
from pairscape.pipeline.keywords import flat
from pairscape.pipeline.options import Binning, Choices, Compute, Flat, Grouping, PairSource, required_source
from pairscape.pipeline.storage.paths import local_target, located

if TYPE_CHECKING:
    from pairscape.pipeline.heatmaps.images import Images
    from pairscape.pipeline.heatmaps.verify import StoreDamage
    from pairscape.pipeline.matrix.summary import Summary


@flat
def ingest(
    *matrices: Any,
    choices: Annotated[Choices, Flat] = Choices(),
    compute: Annotated[Compute | None, Flat] = None,
    dry_run: bool = False,
    overwrite: bool = False,
    record: Annotated[Record, Flat] = Record(),
    quiet: bool = False,
) -> "Summary":
    """Any supported matrix to an expression store: AnnData on Zarr, log-normalised, cells × genes; resumes by itself.

    What was understood of the matrix is shown before the store is written. Where it is not said where the work runs, a
    small matrix is done in this process, a large one by a local worker a core.

    Parameters
    ----------
    matrices
        One matrix or several to be joined on their genes, and last the store to write, ending in .zarr. A matrix is an
        h5ad, AnnData-Zarr, Cell Ranger h5 or folder, loom, table of text (.gz), pandas HDF5 or xarray Zarr, by path,
        pattern in quotes or URL; in Python also an AnnData, or a list of these.
    dry_run
        Say what was understood, and write nothing.
    overwrite
        Replace an existing store.
    quiet
        No progress bars, no summary.

    Returns
    -------
    Summary
        What was understood of the matrix, and what of it is kept; it has attributes, and `lines()` in words.

    Examples
    --------
    pairscape ingest cells.h5ad expression.zarr --highly-variable 1000
    pairscape ingest donor1.h5ad donor2.h5ad expression.zarr --join outer --dry-run
    """
    *sources, expression = _matrices(matrices)
    first_word(quiet, *sources)

    from pairscape.pipeline.matrix.ingest import ingest as ingest_matrix

    with logged(record.events, "ingest", expression=expression) as log, here(quiet, log) as session:
        summary = ingest_matrix(
            sources[0] if len(sources) == 1 else sources, expression, compute=compute, dry_run=dry_run,
            overwrite=overwrite, session=session, report=record.performance_report, **vars(choices),
        )  # fmt: skip
    session.say(f"nothing was written to {expression}: a dry run" if dry_run else f"wrote {expression}")
    return summary


@flat
def heatmaps(
    expression: Any,
    images: Any,
    /,
    *,
    source: Annotated[PairSource | None, Flat] = None,
    binning: Annotated[Binning, Flat] = Binning(),
    grouping: Annotated[Grouping, Flat] = Grouping(),
    codes: Any = None,
    gene_column: str | None = None,
    compute: Annotated[Compute, Flat] = Compute(),
    record: Annotated[Record, Flat] = Record(),
    seed: int = 0,
    quiet: bool = False,
) -> "Images":
    """Count the joint expression heatmap of every candidate pair into an image store; resumes by itself.

    Parameters
    ----------
    expression
        Expression store, or any matrix that `ingest` takes, by path or URL; in Python also an AnnData. Logarithms in an
        AnnData are read as they lie; counts, normalised values and other formats are ingested first, into
        `NAME.expression.zarr` beside the images, and it is said.
    images
        Image store to write: a folder, or a URL such as s3://bucket/images.zarr. If an earlier run of the same job was
        interrupted, only what is missing is computed.
    codes
        Where the encoded matrix is kept for reuse, path or URL. Absent: beside the images.
    gene_column
        As in `ingest`, by which lists name the genes.
    seed
        Of the split of the cells under `--labels replicate`, and of the draw of negatives.
    quiet
        No progress bars, no summary.

    Returns
    -------
    Images
        The store, open: `counts(rows)`, `array("gene")` and its like, `path`.

    Examples
    --------
    pairscape heatmaps expression.zarr images.zarr --all-pairs --labels replicate --scale rank
    pairscape heatmaps cells.h5ad images.zarr --pairs pairs.csv --scheduler tcp://10.0.0.1:8786
    """
    first_word(quiet, expression)

    import time

    from pairscape.pipeline.compute.opening import open_session
    from pairscape.pipeline.datasets.networks import with_network
    from pairscape.pipeline.heatmaps.job import is_small, make_heatmaps, resolve_request
    from pairscape.pipeline.matrix.prepare import prepared
    from pairscape.pipeline.storage.paths import is_remote, writable

    images, codes, started = writable(images), codes and located(codes), time.perf_counter()
    matrix = prepared(expression, images, compute=compute, gene_column=gene_column, say=say_unless(quiet))
    beside = None if is_remote(images) else images
    log_of = logged(record.events, "heatmaps", expression=matrix.path, images=images)
    with log_of as log, with_network(required_source(source), beside) as (source, notes):
        request = resolve_request(matrix, source, seed, grouping)
        say_unless(quiet)(*notes, *request.chosen.notes, request.label_note(), *request.group_notes())
        with open_session(
            compute, quiet, reads=[str(matrix.path)], writes=images, events=log, report=record.performance_report,
            small=is_small(matrix, len(request.chosen.pairs)),
        ) as session:  # fmt: skip
            done = make_heatmaps(matrix, images, codes, request, binning, session)
        log.outcome.update(done.facts(time.perf_counter() - started))
    seconds = time.perf_counter() - started
    lines = [f"wrote {images}: {len(request.chosen.pairs):,} images of {request.n_counted:,} cells{request.in_groups}"]
    say_unless(quiet)(*lines, *done.lines(seconds))
    return done.images


@flat
def verify(
    store: Any,
    /,
    *,
    repair: bool = False,
    codes: Any = None,
    expression: Any = None,
    compute: Annotated[Compute, Flat] = Compute("synchronous"),
    record: Annotated[Record, Flat] = Record(),
    quiet: bool = False,
) -> "StoreDamage":
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

    Returns
    -------
    StoreDamage
        What was found, and repaired: `files` and `shards` with what is wrong with each, `lines()` in words.

    Raises
    ------
    JobError
        The store is damaged and is not to be repaired; what was found is its `findings`.

    Examples
    --------
    pairscape verify images.zarr
    pairscape verify images.zarr --repair
    """
    first_word(quiet)

    from pairscape.pipeline.compute.opening import open_session
    from pairscape.pipeline.heatmaps.repair import repair_store
    from pairscape.pipeline.heatmaps.verify import verify_store
    from pairscape.pipeline.storage.paths import writable

    path = writable(store) if repair else located(store)
    codes, expression = codes and located(codes), expression and located(expression)
    target, page = path if repair else None, record.performance_report
    with (
        logged(record.events, "verify", store=path) as log,
        open_session(compute, quiet, reads=[str(path)], writes=target, events=log, report=page) as session,
    ):
        found = repair_store(path, codes, expression, session) if repair else verify_store(path, session, codes)
    bad = found.lines()
    note = "" if found.covered else "; an earlier version made it, without digests of its small files"
    for line in bad:
        print(printable(line), file=sys.stderr)
    if found.codes and not (repair or found.shards or found.files):
        raise JobError(f"{path} agrees with its receipts, but {found.codes}.")
    if bad and not repair:
        damaged = JobError(
            f"{path} is damaged: {len(found.shards)} of {found.n_shards} shards, {len(found.files)} other files; run "
            f"`pairscape verify {path} --repair`."
        )
        damaged.findings = found
        raise damaged
    fixed = f", {len(bad)} repaired" if bad else ""
    say_unless(quiet)(f"{path}: {found.n_shards} shards, {found.holds}{fixed}, all sound{note}")
    return found


@flat
def simulate(
    expression: Any,
    /,
    *,
    atlas: Annotated[Atlas, Flat],
    counts: bool = True,
    compute: Annotated[Compute, Flat] = Compute(),
    record: Annotated[Record, Flat] = Record(),
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
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

    Returns
    -------
    Path
        The store.

    Examples
    --------
    pairscape simulate atlas.zarr --cells 10000 --genes 2000 --density 0.1
    pairscape simulate atlas.zarr --cells 100000 --genes 20000 --density 0.05 --no-counts
    """
    import time

    from pairscape.pipeline.compute.opening import open_session
    from pairscape.pipeline.datasets.simulate import simulate_atlas
    from pairscape.pipeline.storage.ownership import check_target

    expression, started = local_target(expression), time.perf_counter()
    check_target(expression, overwrite=overwrite)  # before a cluster is started
    with (
        logged(record.events, "simulate", expression=expression) as log,
        open_session(compute, quiet, writes=expression, events=log, report=record.performance_report) as session,
    ):
        made = simulate_atlas(atlas, expression, session, counts=counts, overwrite=overwrite)
    say_unless(quiet)(f"wrote {expression}: {made.line()}, {time.perf_counter() - started:.0f} s")
    return expression


@flat
def plant(
    source: Any,
    expression: Any,
    /,
    *,
    planting: Annotated[Planting, Flat],
    overwrite: bool = False,
    quiet: bool = False,
) -> Path | list[Path]:
    """Known truth in real cells: chosen pairs made dependent by dealing values to other cells; each gene keeps its own.

    Writes the store and, beside it, the pairs with labels and kinds as NAME.tsv, which `heatmaps --pairs` reads, with
    `--classes kinds` the kinds as labels.

    Parameters
    ----------
    source
        Expression store, or any matrix that `ingest` reads; in Python also an AnnData.
    expression
        Store to write, ending in .zarr.
    overwrite
        Replace existing stores, and the lists beside them.
    quiet
        Print no summary.

    Returns
    -------
    Path or list
        The store; of `stores` beyond one, all of them.

    Examples
    --------
    pairscape plant cells.h5ad planted.zarr --kinds u-shaped,threshold --planted-pairs 3000
    pairscape plant cells.h5ad planted.zarr --kinds rising --planted-pairs 500 --strength 0.2:0.8
    """
    from pairscape.pipeline.datasets.plant import plant_truth

    written = []
    for made in plant_truth(source, local_target(expression), planting, overwrite=overwrite):
        say_unless(quiet)(f"wrote {made.store}: {made.line()}")
        written.append(made.store)
    return written if planting.stores > 1 else written[0]


@flat
def fetch(
    name: str | None = None,
    /,
    *,
    to: Any = None,
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

    Examples
    --------
    pairscape fetch --list
    pairscape fetch pbmc3k --to data
    """
    from pairscape.pipeline.datasets.fetch import (
        Fetched,
        Place,
        describe_set,
        fetch_set,
        fetch_url,
        find_set,
        list_sets_of,
    )
    from pairscape.pipeline.datasets.registry import read_registry

    place, registry = Place.given(to), read_registry()
    if list_sets:
        say_unless(quiet)(*list_sets_of(registry, place))
        return {}
    if name is None:
        raise InputError(f"name a data set ({', '.join(registry)}) or an https:// address; --list tells more of them.")
    address = name.startswith(("https://", "http://"))
    if sha256 is not None and not address:
        raise InputError("--sha256 belongs to a file by address: what the files of a data set must be is known.")
    found = None if address else find_set(name, registry)
    with here(quiet) as session:
        fetched: Fetched = (
            fetch_url(name, sha256, place, session.progress)
            if found is None
            else fetch_set(found, place, session.progress)
        )
    say_unless(quiet)(*fetched.notes, *map(str, fetched.files.values()))
    if found is not None:
        say_unless(quiet)(*describe_set(found, fetched.files))
    return fetched.files


def _matrices(matrices: tuple[Any, ...]) -> list[Any]:
    """Sources, and last the target; in Python the sources may be a list."""
    found = [one for given in matrices for one in (given if isinstance(given, list | tuple) else [given])]
    if len(found) < 2:
        raise InputError("ingest takes one matrix or several, and last the store to write: MATRIX EXPRESSION.zarr")
    return found
