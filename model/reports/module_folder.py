"""The modules job: a file of scores in; a table, gene sets or a graph of its modules out, or a folder of all three."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from pairscape.model.edges.edges import choose_edges, or_called
from pairscape.model.edges.export import doubt, words_of_called
from pairscape.model.edges.module_files import IN_FOLDER, SIGN, TABLE, WRITERS
from pairscape.model.edges.modules import Modules, WeighedBy, find_modules
from pairscape.model.edges.naming import by_symbol
from pairscape.model.edges.scores import facts_of_group
from pairscape.model.options import EdgeChoice
from pairscape.model.reports.heatmap_figures import PICTURE, save_picture
from pairscape.model.reports.network_picture import network_figure
from pairscape.pipeline.compute.progress import Say, silent
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.ownership import files_below, refuse_foreign, require_own_file
from pairscape.pipeline.storage.write import replaced

NETWORK = "network.svg"
DRAWN_MODULES, DRAWN_OF_EACH = 6, 14
SIGNS = ("\t".join(TABLE).encode(), SIGN.encode(), b"pairscape modules", PICTURE.encode())
KNOWN = ("correlation", "kind", "kind_probability", "q_value")  # columns that travel with an edge


def write_modules(
    scores: Path,
    target: Path,
    wanted: EdgeChoice,
    *,
    resolution: float = 1.0,
    weighed_by: WeighedBy | None = None,
    names: Literal["symbol", "id"] = "symbol",
    seed: int = 0,
    overwrite: bool = False,
    say: Say = silent,
) -> Modules:
    """Write the modules of the wanted edges of a file of scores, aside, then in one step to their place.

    Parameters
    ----------
    target
        File ending in .tsv, .gmt or .graphml, or a folder for all three and a picture.
    wanted
        Where it has no cut-off, the edges end where those of the report of the scores do.
    names
        Of the genes in the sets: symbols, ids where a gene has none, or ids.

    Raises
    ------
    InputError
        The target exists and may not be replaced, or is not ours; its suffix is unknown; the scores cannot be read,
        none of their edges is wanted, or there is something that `find_modules` or a writer refuses.
    """
    _check_target(target, scores, overwrite=overwrite)
    facts = facts_of_group(scores, wanted.group)
    wanted = or_called(scores, wanted)
    edges = choose_edges(scores, wanted, KNOWN)
    found = find_modules(edges, resolution=resolution, weighed_by=weighed_by, seed=seed)
    told = {
        "edges": wanted.words(), "expected_wrong": words_of_called(edges, facts),
        "modules": f"Leiden of igraph, resolution {resolution:g}, weights by {found.weighed_by}, seed {seed}",
    }  # fmt: skip
    with replaced(target) as part:
        if target.suffix:
            WRITERS[target.suffix](part, found, told, names)
        else:
            _write_folder(part, found, told, names)
    say(
        f"edges: {told['edges']}; expected to be wrong: {told['expected_wrong']}", *doubt(edges, wanted), *found.lines()
    )
    return found


def _write_folder(folder: Path, found: Modules, told: dict[str, str], names: str) -> None:
    folder.mkdir()
    for name, write in IN_FOLDER.items():
        write(folder / name, found, told, names)
    shown = by_symbol(found.edges.take(_drawn(found)))[0]
    if not len(shown):
        return
    labels = found.edges.labels(found.code)
    used = set(shown.labels(np.concatenate([shown.source, shown.target])))
    modules = {gene: module for gene, module in zip(labels, found.module.tolist(), strict=True) if gene in used}
    save_picture(network_figure(shown, regulators=False, modules=modules), folder / NETWORK)


def _drawn(found: Modules) -> Any:
    """Rows of the edges that are drawn: of the largest modules the strongest each."""
    inside = found.of_edges()
    rows = [np.flatnonzero(inside == module) for module in range(1, DRAWN_MODULES + 1)]
    best = [some[np.argsort(-found.weight[some], kind="stable")][:DRAWN_OF_EACH] for some in rows]
    return np.concatenate(best)


def _check_target(target: Path, scores: Path, *, overwrite: bool) -> None:
    if target.suffix and target.suffix not in WRITERS:
        raise InputError(
            f"{target}: the suffix decides the format; give {', '.join(WRITERS)}, or no suffix for a folder with all "
            "three and a picture."
        )
    if not target.exists():
        return
    if target.absolute() == scores.absolute() or target.is_dir() == bool(target.suffix):
        raise InputError(f"{target} is {'a folder' if target.is_dir() else 'a file'}; give another name.")
    if not overwrite:
        raise InputError(f"{target} exists: give another name, or allow to overwrite it (--overwrite).")
    names = files_below(target) if target.is_dir() else [""]
    refuse_foreign(target, (name for name in names if name not in ("", *IN_FOLDER, NETWORK)))
    for name in names:
        require_own_file(target / name, *SIGNS)
