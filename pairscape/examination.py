"""The examination of an installation: what is installed, what is there, and what would fail, each tried in a moment."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from pairscape.pipeline.errors import InputError, JobError, first_line
from pairscape.pipeline.options import Compute

State = Literal["ok", "note", "fails"]
PROBE_BYTES = 2**26  # written and read again to tell the speed of a disk
LITTLE_DISK, LITTLE_MEMORY = 5e9, 2e9  # free bytes below which a job of usual size ends early
EXTRAS = {  # what each optional part is for
    "labels": "regulatory networks as labels (--network collectri)",
    "slurm": "jobs of SLURM, PBS, LSF and SGE (--scheduler slurm)",
    "kubernetes": "--scheduler kubernetes",
    "gateway": "--scheduler gateway",
    "dashboard": "Dask's dashboard of a running job",
    "s3": "stores on object storage (s3://…)",
    "zarrs": "a faster codec of Zarr",
}


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    state
        `ok`; `note`: works, but look; `fails`: a job would end there.
    what, words
        What was looked at, and what was found.
    """

    state: State
    what: str
    words: str


def examine(folder: Path, scheduler: str | None) -> Iterator[Finding]:
    """Check one thing after the other; a check that fails is a finding, and the next goes on.

    Parameters
    ----------
    folder
        Where results would be written.
    scheduler
        As in `Compute`. None: as a job without `--scheduler` would have it.
    """
    checks: dict[str, Callable[[], Finding]] = {
        "Python": _python,
        "packages": _packages,
        "your own files": _hiding,
        "compiled kernels": _kernels,
        "cores, memory": _machine,
        "GPU": _gpu,
        "network universal": _network,
        "disk": lambda: _disk(folder),
        "temporary files": _temporary,
        "workers": lambda: _workers(scheduler),
        "optional": _extras,
    }
    for what, check in checks.items():
        try:
            yield check()
        except Exception as error:  # noqa: BLE001 — whatever is broken is what is looked for
            yield Finding("fails", what, f"{type(error).__name__}: {first_line(error)}")


def _python() -> Finding:
    version, own = platform.python_version(), importlib.metadata.version("pairscape")
    return Finding("ok", "Python", f"{version} on {platform.system()} {platform.machine()}; Pairscape {own}")


def _requirements(extra: str = "") -> list[Requirement]:
    """Packages that Pairscape asks for: always, or for an optional part."""
    listed = [Requirement(line) for line in importlib.metadata.requires("pairscape") or ()]
    if extra:
        return [r for r in listed if r.marker and r.marker.evaluate({"extra": extra})]
    return [r for r in listed if r.marker is None or r.marker.evaluate({"extra": ""})]


def _wrong(requirement: Requirement) -> str:
    """What is wrong with an installed package, in words; empty: nothing."""
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    fits = requirement.specifier.contains(found, prereleases=True)
    return "" if fits else f"{requirement.name} {found} is not {requirement.specifier}"


def _packages() -> Finding:
    needed = _requirements()
    if wrong := [words for requirement in needed if (words := _wrong(requirement))]:
        return Finding("fails", "packages", f"{'; '.join(wrong)}: pip install --upgrade pairscape")
    shown = ("numpy", "dask", "zarr", "torch", "scanpy", "anndata")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in shown)
    return Finding("ok", "packages", f"all {len(needed)} as they should be ({versions})")


def _hiding() -> Finding:
    from pairscape.surroundings import hidden_libraries

    names = {requirement.name.replace("-", "_") for requirement in _requirements()}
    if hidden := hidden_libraries(names):
        return Finding("fails", "your own files", f"{hidden} would be imported in place of a library: rename it")
    return Finding("ok", "your own files", "none hides a library")


def _kernels() -> Finding:
    from pairscape.pipeline.heatmaps.count import warm_up
    from pairscape.pipeline.heatmaps.kernel import kept_at

    started = time.perf_counter()
    warm_up()
    seconds = time.perf_counter() - started
    said = "compiled now, kept for the next time" if seconds > 2 else "found compiled"
    if os.environ.get("NUMBA_CACHE_LOCATOR_CLASSES"):
        return Finding("note", "compiled kernels", "no folder can be written, so each process compiles them anew; set "
                                                   "NUMBA_CACHE_DIR")  # fmt: skip
    return Finding("ok", "compiled kernels", f"{said} ({seconds:.1f} s), in {kept_at()}")


def _machine() -> Finding:
    from pairscape.pipeline.compute.machine import cores, memory

    count, held = cores(), memory()
    state: State = "note" if held < LITTLE_MEMORY * count else "ok"
    little = "" if state == "ok" else ": little for each core, so give fewer --workers"
    return Finding(state, "cores, memory", f"{count} cores, {held / 1e9:.1f} GB{little}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Finding("ok", "GPU", f"{found.name}, {found.total_memory / 1e9:.0f} GB (torch {torch.__version__})")
    if torch.backends.mps.is_available():
        return Finding("ok", "GPU", f"Apple's (mps), torch {torch.__version__}")
    return Finding("ok", "GPU", "none that torch sees; networks run on the CPU, which all of this is made for")


def _network() -> Finding:
    import numpy as np

    from pairscape.model.networks.bundled import bundled_folder
    from pairscape.model.networks.classifier import TrainedNetwork
    from pairscape.model.networks.fast import Scorer

    bins = (network := TrainedNetwork.load(bundled_folder())).facts.bins
    diagonal = 20 * np.eye(bins, dtype=np.uint32)[None]  # two genes that always go together
    shares = Scorer.of(network, 0.5, "cpu")(diagonal, np.zeros(1, np.uint32))[0]
    if not shares[0] < 0.01:
        return Finding("fails", "network universal", f"a perfect dependence scores {1 - shares[0]:.3f}, and not 1")
    return Finding("ok", "network universal", "loads and scores")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".pairscape-doctor-") as file:
        content = os.urandom(2**20) * (PROBE_BYTES // 2**20)
        started = time.perf_counter()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        rate = len(content) / (time.perf_counter() - started)
        file.seek(0)
        if file.read() != content:
            return Finding("fails", "disk", f"{folder} gives back other bytes than were written there")
    state: State = "note" if free < LITTLE_DISK else "ok"
    return Finding(state, "disk", f"{folder.absolute()}: {free / 1e9:,.0f} GB free, writes {rate / 1e6:,.0f} MB/s")


def _temporary() -> Finding:
    folder = tempfile.gettempdir()
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    free = shutil.disk_usage(folder).free
    return Finding("note" if free < LITTLE_DISK else "ok", "temporary files", f"{folder}: {free / 1e9:,.0f} GB free")


def _workers(scheduler: str | None) -> Finding:
    from pairscape.pipeline.compute.clusters import open_client

    said: list[str] = []
    here = scheduler in (None, "local")
    started = time.perf_counter()
    try:
        with open_client(Compute(scheduler, workers=1 if here else None), lambda *lines: said.extend(lines)) as client:
            answer = 1 if client is None else client.submit(int, "1").result(timeout=60)
    except (InputError, JobError) as error:
        return Finding("fails", "workers", first_line(error))
    chosen = next((line for line in said if line.startswith("using")), None)
    where = scheduler or chosen or "local: processes of this machine"
    if answer != 1:
        return Finding("fails", "workers", f"{where}: a task gave {answer!r}")
    return Finding("ok", "workers", f"{where}; started and answered in {time.perf_counter() - started:.1f} s")


def _extras() -> Finding:
    missing = [extra for extra in EXTRAS if any(_wrong(requirement) for requirement in _requirements(extra))]
    there = [extra for extra in EXTRAS if extra not in missing]
    listed = "; ".join(f"pip install 'pairscape[{extra}]' for {EXTRAS[extra]}" for extra in missing)
    have = f"there: {', '.join(there)}" if there else "none is there"
    return Finding("ok", "optional", f"{have}. {listed}" if missing else have)
