"""Cell Ranger's .h5: a group `matrix` since version 3, before that a group for each genome. Stored by cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.names import GENOME_PREFIX
from pairscape.pipeline.matrix.formats.hdf5_zarr import opened, texts
from pairscape.pipeline.matrix.formats.sparse import compressed
from pairscape.pipeline.matrix.source import Matrix, SomeRows, Stored
from pairscape.pipeline.storage.paths import fingerprint


@dataclass(frozen=True)
class Features:
    """What Cell Ranger says of the rows of its matrix.

    Attributes
    ----------
    ids : (row,) gene ids
    names, types, genomes : (row,) symbols, feature types, references; None where the file has none
    """

    ids: Sequence[str]
    names: Sequence[str] | None = None
    types: Sequence[str] | None = None
    genomes: Sequence[str] | None = None

    def frame(self) -> pd.DataFrame:
        """One row a gene, named by its id."""
        columns = {"symbol": self.names, "feature_type": self.types, "genome": self.genomes}
        known = {name: list(column) for name, column in columns.items() if column is not None}
        return pd.DataFrame(known, index=pd.Index(list(self.ids), dtype=object))


@dataclass(frozen=True, eq=False)
class GeneRows:
    """The genes among the features: their matrix, their annotations, and what was left out."""

    matrix: Matrix
    var: pd.DataFrame
    notes: tuple[str, ...]


def open_tenx(place: str, key: str | None) -> Stored:
    """A Cell Ranger matrix of any version.

    Parameters
    ----------
    key
        The genome whose genes are taken. Absent: of version 2 the only one, of version 3 all.

    Raises
    ------
    InputError
        Parts are missing or do not fit each other; no such genome, or several and no key.
    """
    with opened(place) as root:
        group = "matrix" if "matrix" in root else _genome(root, place, key)
        home = root[group]
        shape = tuple(int(n) for n in _member(home, "shape", place)[:])
        barcodes, features = texts(_member(home, "barcodes", place)), _features(home, place)
        if shape != (len(features.ids), len(barcodes)):
            raise InputError(
                f"{place}: the matrix has {shape} features and cells, but {len(features.ids)} and {len(barcodes)} are "
                "named: it is damaged; fetch it again"
            )
        numbers = compressed(root, group, place, (shape[0], shape[1]), 1)
    kept = only_genome(features, numbers, key if group == "matrix" else None, place)
    obs = pd.DataFrame(index=pd.Index(barcodes, dtype=object))
    return Stored(place, kept.var, obs, kept.matrix, None, "genes-by-cells", "format", fingerprint(place), kept.notes)


def only_genome(features: Features, matrix: Matrix, key: str | None, place: str) -> GeneRows:
    """Leave out other genomes than the one that `key` names; features that are no genes stay, for whoever opens it.

    Raises
    ------
    InputError
        No gene is left.
    """
    var = features.frame()
    if key is None:
        return GeneRows(matrix, var, ())
    wanted = _of_genome(features, key, place)
    if wanted.all():
        return GeneRows(matrix, var, ())
    position = np.where(wanted, np.cumsum(wanted) - 1, -1).astype(np.int32)
    note = f"features left out: {int((~wanted).sum()):,} of {len(var):,}, of another genome than {key}"
    return GeneRows(SomeRows(matrix, position), var.loc[wanted], (note,))


def genomes_in(root: Any) -> list[str]:
    """The groups of a file of version 2, one a genome; empty if it is no such file."""
    return [name for name in root if hasattr(root[name], "keys") and "barcodes" in root[name]]


def _genome(root: Any, place: str, key: str | None) -> str:
    genomes = genomes_in(root)
    if not genomes:
        held = ", ".join(list(root)[:5]) or "nothing"
        raise InputError(f"{place} is no Cell Ranger matrix: it has no 'matrix' and no genome but {held}")
    if key is None and len(genomes) == 1:
        return genomes[0]
    if key not in genomes:
        asked = "no --key was given" if key is None else f"no {key!r}"
        raise InputError(f"{place} has the genomes {', '.join(genomes)}, and {asked}: name one of them with --key")
    return str(key)


def _of_genome(features: Features, key: str, place: str) -> Any:
    genomes = features.genomes or [_genome_before(name) for name in features.ids]
    if key not in genomes:
        known = ", ".join(sorted(set(genomes) - {""})) or "none"
        raise InputError(f"{place} has no genome {key!r}, but {known}: name one of them with --key, or leave it out")
    return np.array([genome == key for genome in genomes])


def _genome_before(name: str) -> str:
    """The genome that stands before a name of a mixed reference, as in GRCh38_TP53; "" where none does."""
    found = GENOME_PREFIX.match(name)
    return "" if found is None else found[1]


def _features(home: Any, place: str) -> Features:
    if "features" not in home:
        return Features(texts(_member(home, "genes", place)), texts(_member(home, "gene_names", place)))
    group = home["features"]
    ids, names = texts(_member(group, "id", place)), texts(_member(group, "name", place))
    rest = [texts(group[name]) if name in group else None for name in ("feature_type", "genome")]
    if any(column is not None and len(column) != len(ids) for column in (names, *rest)):
        raise InputError(f"{place}: the columns of 'features' have different lengths: it is damaged; fetch it again")
    return Features(ids, names, *rest)


def _member(group: Any, name: str, place: str) -> Any:
    if name not in group:
        held = ", ".join(list(group)[:6]) or "nothing"
        raise InputError(
            f"{place} is no whole Cell Ranger matrix: {group.name} has no {name!r} but {held}; fetch it again"
        )
    return group[name]
