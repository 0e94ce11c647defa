"""The cells of the demo, enough to see the whole job without a download; and the folder that it is made in."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import scanpy as sc
from anndata import AnnData

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.digests import refuse_others_files
from pairscape.pipeline.storage.lock import locked
from pairscape.pipeline.storage.ownership import check_target
from pairscape.pipeline.storage.paths import root_attributes
from pairscape.pipeline.storage.results import check_result

MADE = ("expression.zarr", "codes.zarr", "images.zarr", "run")
STORES = {"codes.zarr": "pairscape-codes", "images.zarr": "pairscape-images"}


def demo_cells() -> AnnData:
    """700 human blood cells × 765 genes (10x Genomics PBMC 68k, reduced), log-normalised, as scanpy ships them.

    X is scanpy's `.raw`, CSR float32: the same cells' scaled values, its X, have lost which genes are not expressed.
    """
    cells = sc.datasets.pbmc68k_reduced().raw.to_adata()
    return AnnData(cells.X, obs=cells.obs, var=cells.var)


@contextmanager
def demo_folder(out: Path) -> Iterator[None]:
    """A folder for a demo: an earlier one there goes when the new one is whole, and is put back if that fails.

    Raises
    ------
    InputError
        The folder holds what no demo made, in the place of what this one makes.
    JobError
        Another demo is being made there, or nothing can be written there.
    """
    marker, aside = out / ".pairscape-demo", out / ".earlier-demo"
    there = [name for name in MADE if (out / name).exists()]
    if there and not marker.exists():
        raise InputError(f"{out} holds {there[0]}, which no demo made and this one would replace; give another folder.")
    with locked(out):
        for folder in (out, aside):
            for name in MADE:
                _require_ours(folder / name)
        if aside.exists():  # a demo that was to replace it was killed
            _remove_made(out)
        out.mkdir(parents=True, exist_ok=True)
        marker.touch()
        _move_made(out, aside)
        try:
            yield
        except BaseException:  # also when the user interrupts
            if any(aside.iterdir()):
                _remove_made(out)
                _move_made(aside, out)
            aside.rmdir()
            raise
        shutil.rmtree(aside)


def _require_ours(path: Path) -> None:
    """Refuse to replace a store or a run that is not ours, or holds something else besides."""
    if not path.exists():
        return
    if path.name == "run":
        check_result(path, "network", overwrite=True)
    elif path.name in STORES:
        if _format_of(path) != STORES[path.name]:
            raise InputError(f"{path} is no store that a demo made, so it is not replaced: give another folder.")
        refuse_others_files(path)
    else:
        check_target(path, overwrite=True)


def _format_of(store: Path) -> str:
    with suppress(OSError, ValueError, KeyError):
        return str(root_attributes(store)["format"])
    return ""


def _move_made(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in MADE:
        if (source / name).exists():
            (source / name).rename(target / name)


def _remove_made(folder: Path) -> None:
    for name in MADE:
        shutil.rmtree(folder / name, ignore_errors=True)
