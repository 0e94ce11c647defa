"""Pairscape: gene-pair inference from single-cell data with images of joint expression.

The command line: it registers the commands of `pipeline.commands` (matrix → heatmaps), `model.commands` (heatmaps →
network) and `model.score_commands` (what is made of scores), adds `demo` and `run`, and turns errors into one line and
an exit status. Every command is a plain function, so `pairscape train images.zarr run` is
`pairscape.train("images.zarr", "run")`. Commands import what they need when they run: `pairscape --help` loads neither
torch nor dask.
"""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from cyclopts import App, CycloptsError, Group

from pairscape.annotated import predict
from pairscape.headings import help_panel, register
from pairscape.interrupt import ended_by_interrupt
from pairscape.model.commands import evaluate, report, show, train, tune
from pairscape.model.plan_command import plan
from pairscape.model.score_commands import browse, combine, compare, export, modules
from pairscape.pipeline.commands import fetch, heatmaps, ingest, plant, simulate, verify
from pairscape.pipeline.compute.session import say_unless
from pairscape.pipeline.errors import InputError, JobError, first_line, printable
from pairscape.pipeline.keywords import flat
from pairscape.pipeline.options import Binning, Compute, PairSource
from pairscape.surroundings import make_printable, require_current_folder

__version__ = version("pairscape")


app = App(
    name="pairscape",
    help=__doc__.splitlines()[0],
    version=__version__,
    help_on_error=False,
    suppress_keyboard_interrupt=False,
    group_commands=Group.create_ordered("Help"),
    help_formatter=help_panel,
)


@flat
def demo(
    out: Path = Path("data/demo"), /, *, seed: int = 0, scheduler: str = "local", quiet: bool = False
) -> dict[str, Any]:
    """The whole job on real cells, nothing to download: 700 PBMC cells, 292,230 pairs, a trained and audited network.

    Parameters
    ----------
    out
        Folder for the stores and the run; an earlier demo there is replaced when the new one is whole.
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

    Examples
    --------
    pairscape demo
    pairscape demo my-demo --seed 1 --scheduler threads
    """
    from pairscape.pipeline.datasets.demo import demo_cells, demo_folder

    out = Path(out)
    with demo_folder(out):
        ingest(demo_cells(), out / "expression.zarr", quiet=quiet)
        heatmaps(
            out / "expression.zarr",
            out / "images.zarr",
            source=PairSource(all_pairs=True, labels="replicate"),
            binning=Binning("rank"),
            codes=out / "codes.zarr",
            compute=Compute(scheduler),
            seed=seed,
            quiet=quiet,
        )
        return train(out / "images.zarr", out / "run", seed=seed, quiet=quiet)


@flat
def run(config: Path, /, *, dry_run: bool = False, quiet: bool = False) -> dict[str, Path]:
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

    Returns
    -------
    dict
        What each step wrote, by its name.

    Examples
    --------
    pairscape run job.toml
    pairscape run job.toml --dry-run
    """
    from contextlib import chdir

    from pairscape.jobfile import is_done, noted, read_job, resumed, step_digests

    folder, steps = read_job(config := Path(config))
    with chdir(config.absolute().parent):
        for step in steps:
            command, bound, _ = app.parse_args(step.words, exit_on_error=False, print_error=False)
            vars(command)["check"](bound.kwargs)
        for step, digest in zip(steps, step_digests(steps), strict=True):
            done = is_done(folder, step, digest)
            say_unless(quiet)(f"pairscape {' '.join(step.words)}{'  (done before)' if done else ''}")
            if done or dry_run:
                continue
            words = [*resumed(folder, step), *["--quiet"] * quiet]
            with noted(folder, step, digest):
                app(words, exit_on_error=False, print_error=False, result_action="return_value")
        return {step.name: config.absolute().parent / step.output for step in steps}


@flat
def deploy(kind: Literal["slurm", "kubernetes", "compose"], folder: Path, /, *, quiet: bool = False) -> list[Path]:
    """Write the files that bring Pairscape to a cluster, and say what to edit and what to run next.

    Parameters
    ----------
    kind
        `slurm`: a batch script and the settings of its jobs. `kubernetes`: manifests for the Dask operator, and an
        image. `compose`: a cluster of containers on one machine.
    folder
        Where they go; what is there is not written over.
    quiet
        Print nothing.

    Returns
    -------
    list of Path
        The files.

    Examples
    --------
    pairscape deploy slurm cluster
    pairscape deploy kubernetes cluster
    """
    from pairscape.pipeline.compute.deployment import write_deployment

    files, next_steps = write_deployment(kind, Path(folder))
    say = say_unless(quiet)
    say(*(f"wrote {file}" for file in files), f"to edit: {next_steps.edit}", f"then, in {folder}:")
    say(*(f"  {step}" for step in next_steps.run))
    return files


@flat
def doctor(*, folder: Path = Path(), scheduler: str | None = None) -> list[dict[str, str]]:
    """Examine this installation: what is installed, what is there, what would fail; exit status 1 if anything would.

    Parameters
    ----------
    folder
        Where results would be written: its disk is tried.
    scheduler
        Whose workers are tried, as in `heatmaps`.

    Returns
    -------
    list of dict
        `state` (ok, note or fails), `what` and `words` of every check.

    Examples
    --------
    pairscape doctor
    pairscape doctor --folder /scratch/me --scheduler tcp://10.0.0.1:8786
    """
    from pairscape.examination import examine

    say, found = say_unless(False), []
    for one in examine(Path(folder), scheduler):
        say(f"{one.state:5}  {one.what}: {one.words}")
        found.append(vars(one))
    if failing := [one["what"] for one in found if one["state"] == "fails"]:
        raise JobError(
            f"{len(failing)} of {len(found)} checks fail ({', '.join(failing)}); the lines above say what to do"
        )
    return found


for command in (
    demo, run, ingest, plan, heatmaps, show, verify, train, evaluate, predict, tune, report, export, combine, compare,
    modules, browse, simulate, plant, fetch, deploy, doctor,
):  # fmt: skip
    register(app, vars(command)["unread"])  # no result is shown, so none is read


def main() -> None:
    """The console script: 0 done, 1 the job failed, 2 the input cannot be used, 130 interrupted; each in one line."""
    make_printable()
    try:
        with ended_by_interrupt():
            require_current_folder()
            app(exit_on_error=False, print_error=False, result_action="return_value")
    except (InputError, CycloptsError) as error:
        _fail(str(error), 2)
    except (JobError, OSError) as error:  # OSError: the disk is full, or refuses
        _fail(str(error), 1)
    except MemoryError as error:
        _fail(f"there is not enough memory ({first_line(error)}): close other programs, or use a larger machine", 1)
    except Exception:  # noqa: BLE001 — told as what it most likely is, a mistake of ours
        import traceback

        for line in traceback.format_exc().splitlines():
            print(printable(line), file=sys.stderr)
        _fail(f"this may be a mistake of Pairscape {__version__}, not of your files; please report the lines above", 1)


def _fail(message: str, status: int) -> None:
    print("pairscape:", printable(" ".join(message.split())), file=sys.stderr)
    sys.exit(status)
