"""Files that hold several AnnData, of which one is read: MuData (.h5mu, .zarr) and SpatialData (.zarr)."""

from dataclasses import replace
from typing import Any

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.formats.anndata import open_annotated
from pairscape.pipeline.matrix.formats.hdf5_zarr import opened
from pairscape.pipeline.matrix.source import Stored

MEMBERS = ("mod", "tables", "table")  # of MuData; of SpatialData, today and before
RNA = ("rna", "gex", "gene expression", "gene_expression", "geneexpression", "mrna", "transcriptome", "table")


def open_contained(place: str, layer: str | None, key: str | None) -> Stored:
    """One AnnData of a file that holds several.

    Parameters
    ----------
    layer
        As in `open_annotated`.
    key
        Which of them. Absent: the only one, or the one of RNA.

    Raises
    ------
    InputError
        There is none, no such, or several and no key; it is no AnnData.
    """
    with opened(place) as root:
        known = contained(root)
        if not known:
            held = ", ".join(list(root)[:5]) or "nothing"
            raise InputError(f"{place} holds no modality or table with a matrix, but {held}: give the AnnData itself")
        name = _chosen(known, key, place)
        others = [other for other in known if other != name]
    note = f"{known[name]} is taken" + (f", and not {', '.join(others[:5])}: --key chooses" if others else "")
    stored = open_annotated(place, layer, known[name])
    return replace(stored, notes=(*stored.notes, note))


def contained(root: Any) -> dict[str, str]:
    """The AnnData in a group, by their names → their paths."""
    groups = ((member, root[member]) for member in MEMBERS if member in root and hasattr(root[member], "keys"))
    found = ((name, f"{member}/{name}", group[name]) for member, group in groups for name in sorted(group))
    return {name: path for name, path, held in found if _is_annotated(held)}


def _is_annotated(member: Any) -> bool:
    return hasattr(member, "keys") and "X" in member and "var" in member


def _chosen(known: dict[str, str], key: str | None, place: str) -> str:
    if key is not None:
        if key not in known:
            raise InputError(f"{place} has no {key!r}, but {', '.join(list(known)[:6])}: name one of them with --key")
        return key
    of_rna = [name for name in known if name.lower() in RNA]
    if len(known) > 1 and len(of_rna) != 1:
        raise InputError(f"{place} holds {', '.join(list(known)[:6])}: name one of them with --key")
    return of_rna[0] if len(known) > 1 else next(iter(known))
