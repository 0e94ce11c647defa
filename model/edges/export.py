"""The export job: a file of scores in, the file of edges that another tool reads out."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py

from pairscape.model.edges.calls import Called
from pairscape.model.edges.edges import Edges, choose_edges, or_called
from pairscape.model.edges.formats import (
    BEELINE,
    CYTOSCAPE,
    DECOUPLER,
    INTERACTIONS,
    SCENIC,
    SIF,
    known_columns,
    write_anndata,
    write_genernib,
    write_graphml,
    write_parquet,
    write_text,
)
from pairscape.model.edges.naming import by_symbol
from pairscape.model.edges.scores import facts_of_group, no_probability
from pairscape.model.options import EdgeChoice
from pairscape.pipeline.compute.progress import Say, silent
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.ownership import ends_of, require_other, require_own_file
from pairscape.pipeline.storage.write import replaced

Names = Literal["symbol", "id"]
KNOWN = (
    "correlation",
    "kind",
    "kind_probability",
    "q_value",
    "rank_stability",
)  # what travels with an edge where the format has room for it


@dataclass(frozen=True)
class Export:
    """What a format is written from, beside the edges.

    Attributes
    ----------
    target
        The file as the user named it.
    facts, told
        Of the file of scores; and which edges were chosen, and what share of them is expected to be wrong, in words.
    expression
        Matrix to copy into an AnnData, if any.
    dataset_id
        geneRNIB's name of the data set; absent: the name of the matrix.
    """

    target: Path
    facts: dict[str, Any]
    told: dict[str, str]
    expression: Any | None = None
    dataset_id: str | None = None

    @property
    def delimiter(self) -> str:
        """By the suffix, as pySCENIC's own reader takes it."""
        return "," if self.target.suffix == ".csv" else "\t"


@dataclass(frozen=True)
class Format:
    """Suffixes and writer of a format, columns that it has room for, whether its weights may have a sign, and names.

    `ranking`: its readers judge the order of all pairs, so none is cut off unless that is asked for.
    """

    suffixes: tuple[str, ...]
    write: Callable[[Path, Edges, Export], None]
    also: tuple[str, ...] = ()
    signable: bool = False
    names: Names = "symbol"  # what its readers expect
    ranking: bool = False


TEXT = (".csv", ".tsv")
FORMATS: dict[str, Format] = {  # the first with a suffix is what the suffix alone means
    "scenic": Format(TEXT, lambda path, edges, job: write_text(path, edges, SCENIC, job.delimiter)),
    "beeline": Format(  # tabs in a .csv
        (".csv",), lambda path, edges, _: write_text(path, edges, BEELINE, "\t"), ranking=True
    ),
    "decoupler": Format(
        TEXT, lambda path, edges, job: write_text(path, edges, DECOUPLER, job.delimiter), ("correlation",), True
    ),
    "cytoscape": Format(
        TEXT,
        lambda path, edges, job: write_text(path, edges, CYTOSCAPE | known_columns(edges), job.delimiter),
        KNOWN,
    ),
    "sif": Format((".sif",), lambda path, edges, _: write_text(path, edges, SIF, "\t", header=False)),
    "graphml": Format((".graphml",), lambda path, edges, job: write_graphml(path, edges, job.facts, job.told), KNOWN),
    "parquet": Format(
        (".parquet",), lambda path, edges, job: write_parquet(path, edges, job.facts, job.told), KNOWN, names="id"
    ),
    "anndata": Format(
        (".h5ad",),
        lambda path, edges, job: write_anndata(path, edges, job.facts, job.told, job.expression),
        ("correlation",),
        names="id",
    ),
    "genernib": Format(
        (".h5ad",),
        lambda path, edges, job: write_genernib(path, edges, job.dataset_id or matrix_name(job.facts)),
        ("correlation",),
        True,
        ranking=True,
    ),
}


def export_scores(
    scores: Path,
    target: Path,
    wanted: EdgeChoice,
    *,
    format: str | None = None,
    signed: bool = False,
    expression: Any | None = None,
    dataset_id: str | None = None,
    names: Names | None = None,
    overwrite: bool = False,
    say: Say = silent,
) -> tuple[str, Edges]:
    """Write the wanted edges of a file of scores, aside, then in one step to their place.

    Returns the name of the format and the edges. Options that a format has no use for are refused.

    Parameters
    ----------
    wanted
        Where it has no cut-off, the edges end where those of the report of the scores do, and it is said; a ranking is
        written whole.
    names
        Genes by their symbols or by the matrix's ids. Absent: as the readers of the format expect.
    say
        Told what becomes of the names.

    Raises
    ------
    InputError
        The file exists and may not be replaced, or is not ours; no format, or one of another suffix; an option without
        use; the scores cannot be read, or none of their edges is wanted.
    """
    name = format_of(target, format)
    _check_options(name, signed=signed, expression=expression, dataset_id=dataset_id)
    _require(names != "symbol" or expression is None, "--names symbol: the matrix of --expression keeps its own names.")
    _check_target(target, scores, overwrite=overwrite)
    require_other(target, [expression])
    chosen, facts, given = FORMATS[name], facts_of_group(scores, wanted.group), wanted
    wanted = given if chosen.ranking else or_called(scores, given)
    edges = choose_edges(scores, wanted, tuple(dict.fromkeys((*chosen.also, "q_value"))))
    edges, notes = by_symbol(edges) if (names or chosen.names) == "symbol" else (edges, [])
    told = {"edges": wanted.words(), "expected_wrong": words_of_called(edges, facts)}
    job = Export(target, facts, told, expression, dataset_id)
    with replaced(target) as part:
        chosen.write(part, edges.signed() if signed else edges, job)
    if said := [*_cutoff(given, wanted), *notes, *doubt(edges, wanted)]:
        say(*said)
    return name, edges


def _cutoff(given: EdgeChoice, used: EdgeChoice) -> list[str]:
    """What has to be said where the user named no cut-off."""
    if given.has_cutoff:
        return []
    if not used.has_cutoff:
        return ["every scored pair: whoever reads this format judges the whole ranking"]
    where = f"q ≤ {used.max_q:g}" if used.max_q is not None else f"score ≥ {used.threshold:g}"
    return [f"edges end where those of the report do ({where}), as no cut-off is named; --threshold 0 keeps every pair"]


def words_of_called(edges: Edges, facts: dict[str, Any]) -> str:
    """What share of chosen edges is expected to be wrong, in words, by score and by q-value."""
    if rule := no_probability(facts):
        return f"unknown, as scores pooled by {rule} are no probabilities (combine --rule log-odds makes some)"
    called = Called()
    called.add(edges.weight, edges.columns.get("q_value"))
    return called.words(facts.get("prior"))


def doubt(edges: Edges, wanted: EdgeChoice) -> list[str]:
    """What has to be said of pairs that the q-value calls and the score does not."""
    if not edges.doubtful:
        return []
    return [
        f"left out: {edges.doubtful:,} pairs of q ≤ {wanted.max_q:g} that score below one half, where the two measures "
        "contradict each other; --any-score keeps them"
    ]


def format_of(target: Path, named: str | None) -> str:
    """Name of the format of a file: as named, or by its name; InputError where the suffix does not fit."""
    if named is not None:
        if target.suffix not in FORMATS[named].suffixes:
            wanted = " or ".join(FORMATS[named].suffixes)
            raise InputError(f"{target}: the readers of {named} expect {wanted}; name the file so.")
        return named
    if target.name == "rankedEdges.csv":
        return "beeline"
    found = next((name for name, form in FORMATS.items() if target.suffix in form.suffixes), None)
    if found is None:
        known = ", ".join(dict.fromkeys(suffix for form in FORMATS.values() for suffix in form.suffixes))
        raise InputError(f"{target}: the suffix decides the format, and no format has this one; give one of {known}.")
    return found


def matrix_name(facts: dict[str, Any]) -> str:
    """Name of the matrix that was predicted on, without folder and suffix."""
    matrix = facts.get("matrix")
    place = matrix.get("path") if isinstance(matrix, dict) else matrix
    return Path(str(place)).stem if place else "unnamed"


def _check_options(name: str, *, signed: bool, expression: Any | None, dataset_id: str | None) -> None:
    signable = ", ".join(known for known, form in FORMATS.items() if form.signable)
    _require(not signed or FORMATS[name].signable, f"--signed belongs to {signable}: {name} has no negative weights.")
    _require(expression is None or name == "anndata", f"--expression belongs to anndata (.h5ad), not to {name}.")
    _require(dataset_id is None or name == "genernib", f"--dataset-id belongs to --format genernib, not to {name}.")


def _check_target(target: Path, scores: Path, *, overwrite: bool) -> None:
    _require(target.absolute() != scores.absolute(), f"{target} is the file of scores itself; give another name.")
    _require(not target.is_dir(), f"{target} is a folder; give the name of a file.")
    _require(
        overwrite or not target.exists(), f"{target} exists: give another name, or allow to overwrite it (--overwrite)."
    )
    if not _is_export(target):
        require_own_file(target, b"pairscape")


def _is_export(path: Path) -> bool:
    """Whether a file begins as one of our tables of text, or is an AnnData that we added edges to."""
    if path.suffix == ".h5ad":
        with suppress(OSError), h5py.File(path) as file:
            made = file["uns/method_id"].asstr()[()] if "uns/method_id" in file else None
            return "uns/pairscape/edges" in file or made == "pairscape"
    first = ends_of(path).partition(b"\n")[0].decode(errors="replace")
    headers = [between.join(columns) for columns in (SCENIC, BEELINE, DECOUPLER, CYTOSCAPE) for between in ",\t"]
    return first.startswith(tuple(headers)) or any(f"\t{word}\t" in first for word in INTERACTIONS)


def _require(good: bool, message: str) -> None:
    if not good:
        raise InputError(message)
