"""Answers of the explorer: a path and what is asked in, bytes out. Knows no network, so that tests need none.

| path | answer |
|---|---|
| `/` | the page, with the names of all genes |
| `/pairs` | wanted pairs, some at a time, as columns of numbers |
| `/pair` | one pair in every group, and all that the file says of it |
| `/picture` | its joint counts |
| `/network` | the wanted pairs around a gene |
| `/save` | wanted pairs as a file: csv, gmt, graphml |
"""

import base64
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

import numpy as np

from pairscape.model.edges.scores import COMBINED
from pairscape.model.reports.explorer.page import render_page
from pairscape.model.reports.explorer.pictures import Picture, Pictures
from pairscape.model.reports.explorer.saving import SAVED, save_pairs
from pairscape.model.reports.explorer.table import MOST_ROWS, Rows, ScoreTable, Sort, Wanted
from pairscape.pipeline.errors import InputError, JobError, printable
from pairscape.pipeline.genes.kinds import KINDS

AT_ONCE = 200  # rows of one answer, unless more are asked for
MOST_AT_ONCE = 2000
PARTNERS, MOST_PARTNERS = 25, 60  # of the picture of a neighbourhood
AMONG = 2  # pairs among the partners, for each partner: more cannot be told apart
LONGEST_LABEL = 80
DIGITS = 6  # of a value on its way to the page


@dataclass(frozen=True)
class Answer:
    """An answer: HTTP status, type and content, and the name of a file that is saved."""

    content: bytes
    kind: str = "application/json"
    status: int = 200
    file: str = ""


@dataclass(frozen=True, eq=False)
class Explorer:
    """A file of scores that is looked at.

    Attributes
    ----------
    table
        Its pairs.
    pictures, missing
        What pictures are made from; None: there are none, and why. `missing` may also say why they show no groups.
    modules
        Module of each gene by its id, where they were found.
    """

    table: ScoreTable
    pictures: Pictures | None = None
    missing: str = ""
    modules: Mapping[str, int] = field(default_factory=dict)

    def answer(self, path: str, asked: Mapping[str, str]) -> Answer:
        """The answer to a request; an error is told in one line, under `error`."""
        told = {"/pairs": self.pairs, "/pair": self.pair, "/picture": self.picture, "/network": self.network}
        try:
            if path == "/":
                return Answer(self.page, "text/html; charset=utf-8")
            if path == "/save":
                return self.save(asked)
            if path not in told:
                return _as_json({"error": f"there is nothing at {printable(path)[:LONGEST_LABEL]}"}, 404)
            return _as_json(told[path](asked))
        except InputError as error:
            return _as_json({"error": str(error)}, 400)
        except (JobError, OSError) as error:
            return _as_json({"error": printable(str(error))}, 503)

    @cached_property
    def page(self) -> bytes:
        """The page that asks."""
        return render_page(self.words())

    @cached_property
    def labels(self) -> list[str]:
        """Each gene as people read it: its symbol, with the id where several genes bear it; safe to show."""
        table = self.table
        symbols = table.symbols or ("",) * len(table.genes)
        borne = Counter(symbols)
        named = zip(table.genes, symbols, strict=True)
        return [short(f"{s} ({g})" if s and borne[s] > 1 and s != g else s or g) for g, s in named]

    def words(self) -> dict[str, Any]:
        """What the page has to know before it asks."""
        table = self.table
        facts = table.facts
        grouped, by = [name for name in table.groups if name], (facts.get("groups") or {}).get("columns", ())
        return {
            "name": table.path.name,
            "labels": self.labels,
            "ids": list(table.genes),
            "modules": [self.modules.get(gene, 0) for gene in table.genes] if self.modules else [],
            "columns": [name for name in table.columns if name in table.varied],
            "directed": "forward" in table.columns,
            "groups": grouped,
            "cells": group_cells_of(facts, grouped),
            "n_pairs": table.n_pairs,
            "n_cells": (facts.get("matrix") or {}).get("n_cells"),
            "prior": facts.get("prior"),
            "scoreIs": (facts.get("combined") or {}).get("score_is", ""),
            "within": [name for name in facts.get("within") or () if name not in by],
            "kindNames": list(KINDS),
            "kinds": [kind for at, kind in enumerate(KINDS) if at and "kind" in table.columns],
            "pictures": self.pictures is not None,
            "missing": self.missing,
        }

    def pairs(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Wanted pairs, from one on."""
        wanted, sort = self.wanted(asked), asked.get("sort", "score")
        if sort != "score" and (sort not in get_args(Sort) or sort not in self.table.columns):
            raise InputError(f"sort is {sort!r}: no such column is there; give score or another one of the file.")
        first = _whole(asked, "from", 0, MOST_ROWS)
        count = _whole(asked, "count", AT_ONCE, MOST_AT_ONCE)
        total, rows = self.table.find(wanted, first, count, sort, rising="rising" in asked)  # type: ignore[arg-type]
        return {"total": total, "from": first, **self.told(rows)}

    def pair(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """One pair in every group in which it was scored."""
        a, b = self.gene(asked, "a"), self.gene(asked, "b")
        found = [(group, row) for group in self.table.groups if (row := self.table.pair(a, b, group)) is not None]
        if not found:
            names = " and ".join(self.labels[gene] for gene in (a, b))
            raise InputError(f"no pair of {names} was scored: they were no candidates; not every pair is there.")
        groups, rows = zip(*found, strict=True)
        shown = asked.get("group") or self.table.default_group
        try:
            details, said = self.table.details(dict(found).get(shown, rows[0])), ""
        except JobError as error:
            details, said = {}, str(error)
        more = {name: _plain(value) for name, value in details.items() if value is not None}
        return {"groups": list(groups), **self.told(np.array(rows, np.int64)), "more": more, "said": said}

    def picture(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Joint counts of a pair, gene a to the right."""
        a, b = self.gene(asked, "a"), self.gene(asked, "b")
        if self.pictures is None:
            raise InputError(self.missing)
        return picture_words(self.pictures.draw(self.table.genes[a], self.table.genes[b]))

    def network(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """The wanted pairs of a gene with its best partners, and among these."""
        return self.told(self._around(asked))

    def save(self, asked: Mapping[str, str]) -> Answer:
        """Wanted pairs as a file."""
        form = asked.get("format", "csv")
        if form not in SAVED:
            raise InputError(f"format is {form!r}; give {', '.join(SAVED)}.")
        wanted = self.wanted(asked)
        rows = self._around(asked) if asked.get("what") == "network" else self.table.find(wanted, 0, MOST_ROWS)[1]
        if not rows.size:
            raise InputError("no pair is left by these conditions, so there is nothing to save; loosen them.")
        gene = wanted.gene
        name, content = save_pairs(form, self.table, rows, gene, wanted.words() or "every scored pair")
        return Answer(content, SAVED[form], 200, name)

    def wanted(self, asked: Mapping[str, str]) -> Wanted:
        """What is asked for. InputError where a condition cannot be met by this file, or is none."""
        table, group = self.table, asked.get("group") or self.table.default_group
        if group not in table.groups:
            raise InputError(f"{table.path} has no group {group!r}; it has {', '.join(filter(None, table.groups))}.")
        kinds = tuple(filter(None, asked.get("kind", "").split(",")))
        needed = {"max_q": "q_value", "kind": "kind", "sign": "correlation", "known": "label"}
        for name, column in needed.items():
            if asked.get(name) and column not in table.columns:
                raise InputError(f"{table.path} holds no {column}, so pairs cannot be chosen by it.")
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise InputError(f"kind {unknown[0]!r} is unknown; give one or several of {','.join(KINDS[1:])}.")
        gene = self.gene(asked, "gene") if asked.get("gene") else None
        min_score, max_q = _share(asked, "min_score"), _share(asked, "max_q")
        sign, known = _one_of(asked, "sign", ("+", "-")), _one_of(asked, "known", ("new", "known"))
        return Wanted(gene, group, min_score, max_q, kinds, sign, known)

    def gene(self, asked: Mapping[str, str], name: str) -> int:
        """The number of a gene that is asked for."""
        if not asked.get(name):
            raise InputError(f"{name} is missing: give the number of a gene.")
        return _whole(asked, name, 0, len(self.table.genes) - 1)

    def told(self, rows: Rows) -> dict[str, Any]:
        """Some pairs as columns: genes by number, unknown values null."""
        table = self.table
        columns = {"a": table.a[rows].tolist(), "b": table.b[rows].tolist(), "score": numbers(table.score[rows])}
        return columns | {name: numbers(values[rows]) for name, values in table.columns.items()}

    def _around(self, asked: Mapping[str, str]) -> Rows:
        wanted = self.wanted(asked)
        if wanted.gene is None:
            raise InputError("a neighbourhood is that of a gene: search one first.")
        partners = _whole(asked, "partners", PARTNERS, MOST_PARTNERS)
        return self.table.neighbourhood(wanted, partners, AMONG * partners)


def short(name: str) -> str:
    """A name as it is shown."""
    safe = printable(name[: 2 * LONGEST_LABEL]).replace("\t", " ")
    return safe if len(safe) <= LONGEST_LABEL else safe[: LONGEST_LABEL - 1] + "…"


def numbers(values: Any) -> list[Any]:
    """Values for JSON, NaN as null."""
    if values.dtype.kind != "f":
        return list(values.tolist())
    rounded = np.round(values.astype(np.float64), DIGITS)
    exact = np.where(np.abs(values) < 0.01, values.astype(np.float64), rounded)  # a small q-value keeps its digits
    return [None if math.isnan(value) else value for value in exact.tolist()]


def group_cells_of(facts: Mapping[str, Any], groups: list[str]) -> list[int | None]:
    """Cells of each group, as far as the facts tell them."""
    named = facts.get("groups") or {}
    cells = dict(zip(named.get("names", ()), named.get("cells", ()), strict=False))
    return [sum(cells.values()) if name == COMBINED and cells else cells.get(name) for name in groups]


def picture_words(picture: Picture) -> dict[str, Any]:
    """A picture for the page."""
    return {
        "bins": picture.counts.shape[-1],
        "names": list(picture.names),
        "counts": base64.b64encode(picture.counts.astype("<i4").tobytes()).decode(),
        "ends": [numbers(ends) for ends in picture.ends],
        "bin_a": base64.b64encode(picture.bin_a.tobytes()).decode(),
        "bin_b": base64.b64encode(picture.bin_b.tobytes()).decode(),
        "group": base64.b64encode(picture.group.astype("<u2").tobytes()).decode(),
    }


def _as_json(words: dict[str, Any], status: int = 200) -> Answer:
    return Answer(json.dumps(words, allow_nan=False).encode(), status=status)


def _plain(value: Any) -> Any:
    return value if not isinstance(value, float) else float(f"{value:.6g}") if math.isfinite(value) else None


def _whole(asked: Mapping[str, str], name: str, absent: int, most: int) -> int:
    text = asked.get(name, "")
    if not text:
        return absent
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= most):
        raise InputError(f"{name} is {text!r}: give a whole number from 0 to {most}.")
    return int(text)


def _share(asked: Mapping[str, str], name: str) -> float | None:
    text = asked.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {text!r}: give a number from 0 to 1.")
    return value


def _one_of(asked: Mapping[str, str], name: str, known: tuple[str, ...]) -> Any:
    text = asked.get(name, "")
    if text and text not in known:
        raise InputError(f"{name} is {text!r}; give {' or '.join(known)}.")
    return text or None
