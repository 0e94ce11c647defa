"""The Python face: every option a keyword, lists where files are read, results, mistakes that name the cure."""

import inspect
import pydoc
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cyclopts import App

import pairscape
import stubs
from model_fixtures import as_anndata, gene_names, module_expression, small_store
from pairscape.model.options import EdgeChoice, Prediction, Rendering, Search, Splitting, Training
from pairscape.pipeline.datasets.designs import Atlas, Planting
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.genes.lists import read_gene_map, read_genes, read_network, read_pairs
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.keywords import list_text
from pairscape.pipeline.options import Binning, Compute, PairSource

COMMANDS = [name for name in pairscape.__all__ if name not in ("__version__", "app", "main", "pl")]
GROUPS = {
    "ingest": [Compute],
    "plan": [PairSource, Binning, Compute],
    "heatmaps": [PairSource, Binning, Compute],
    "verify": [Compute],
    "simulate": [Atlas, Compute],
    "plant": [Planting],
    "train": [Rendering, Splitting, Training],
    "predict": [PairSource, Prediction, Compute],
    "tune": [Search, Rendering, Splitting, Training, Compute],
    "export": [EdgeChoice],
    "modules": [EdgeChoice],
}
OTHER_DEFAULTS = {("verify", "scheduler"): "synchronous"}  # where a command's own is not the option class's
IN_PYTHON = {"random_state"}  # beside what may be typed; of `predict` these too
OF_AN_ANNDATA = {"model", "key_added"}
QUIET = {"scheduler": "synchronous", "quiet": True}


# ---------------------------------------------------------------- signatures


def options_typed(command):
    """Long names of the options that the command line takes, as a keyword is written."""
    app: App = pairscape.app[command]
    arguments = app.assemble_argument_collection()
    names = {name for argument in arguments for name in argument.names if name.startswith("--")}
    return {name.removeprefix("--").replace("-", "_") for name in names if not name.startswith(("--no-", "--empty-"))}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_may_be_typed_is_a_keyword(command):
    keywords = {
        name
        for name, parameter in inspect.signature(getattr(pairscape, command)).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    typed = {"list_sets" if (command, name) == ("fetch", "list") else name for name in options_typed(command)}
    more = (IN_PYTHON if "seed" in typed else set()) | (OF_AN_ANNDATA if command == "predict" else set())
    assert typed | more == keywords


@pytest.mark.parametrize(("command", "kind"), [(name, kind) for name, kinds in GROUPS.items() for kind in kinds])
def test_defaults_and_words_are_those_of_the_option_class(command, kind):
    function = getattr(pairscape, command)
    parameters, text = inspect.signature(function).parameters, pydoc.render_doc(function, renderer=pydoc.plaintext)
    for field in fields(kind):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        assert parameters[field.name].default == OTHER_DEFAULTS.get((command, field.name), default)
        assert re.search(rf"^    (\w+, )*{field.name}(, \w+)*$", text, re.MULTILINE), field.name


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_no_option_class(command):
    shown = pydoc.render_doc(getattr(pairscape, command), renderer=pydoc.plaintext)
    assert "Flat" not in shown
    assert not re.search(r"\b(source|binning|compute|atlas|planting|wanted|prediction): ", shown.splitlines()[2]) or (
        command == "plant"
    )


def test_editors_and_mypy_are_told_the_same():
    assert stubs.FILE.read_text(encoding="utf-8") == stubs.text(), "run python tests/stubs.py"


def test_all_is_what_there_is():
    assert set(pairscape.__all__) <= set(dir(pairscape))
    assert all(callable(getattr(pairscape, name)) for name in COMMANDS)


# ---------------------------------------------------------------- calls


@pytest.fixture(scope="module")
def expression(tmp_path_factory):
    path = tmp_path_factory.mktemp("face") / "e.zarr"
    pairscape.ingest(as_anndata(module_expression(40, 3, 4, seed=0)[0]), path, preset="none", quiet=True)
    return path


def test_the_flat_call_is_the_grouped_one(expression, tmp_path):
    flat = pairscape.heatmaps(str(expression), tmp_path / "a.zarr", all_pairs=True, scale="rank", bins=16, **QUIET)
    grouped = pairscape.heatmaps(
        expression, tmp_path / "b.zarr", source=PairSource(all_pairs=True), binning=Binning("rank", 16), **QUIET
    )
    rows = slice(0, flat.spec.n_pairs)
    assert flat.spec.binning == grouped.spec.binning
    np.testing.assert_array_equal(flat.counts(rows), grouped.counts(rows))


MISTAKES = {
    "one letter": (lambda e: pairscape.heatmaps(e, "i.zarr", al_pairs=True), TypeError, "'all_pairs'"),
    "a hyphen": (lambda e: pairscape.heatmaps(e, "i.zarr", **{"all-pairs": True}), TypeError, "'all_pairs'"),
    "capitals": (lambda e: pairscape.heatmaps(e, "i.zarr", Bins=3), TypeError, "'bins'"),
    "of a group": (lambda e: pairscape.train(e, "run", epoch=2), TypeError, "'epochs'"),
    "British": (lambda e: pairscape.predict(e, e, "o.parquet", regulator=["A"]), TypeError, "'regulators'"),
    "list": (lambda e: pairscape.fetch(list=True), TypeError, "'list_sets'"),
    "nothing like it": (lambda e: pairscape.show(e, xyzzy=1), TypeError, "help(pairscape.show)"),
    "of another command": (lambda e: pairscape.ingest(e, "o.zarr", all_pairs=True), TypeError, "'all_pairs'"),
    "lacking": (lambda e: pairscape.plant(e, "o.zarr", kinds="linear"), TypeError, "planted_pairs"),
    "all lacking": (lambda e: pairscape.simulate("o.zarr"), TypeError, "cells, genes, density"),
    "twice": (
        lambda e: pairscape.heatmaps(e, "i.zarr", bins=8, binning=Binning("rank")),
        InputError,
        "binning",
    ),
    "two seeds": (lambda e: pairscape.heatmaps(e, "i.zarr", seed=1, random_state=2), InputError, "two words"),
    "no seed": (lambda e: pairscape.ingest(e, "o.zarr", random_state=2), TypeError, "no option 'random_state'"),
    "no pairs": (lambda e: pairscape.heatmaps(e, "i.zarr"), InputError, "--all-pairs"),
    "two sources": (lambda e: pairscape.plan(e, all_pairs=True, pairs="p.csv"), InputError, "2 sources"),
    "a bad value": (lambda e: pairscape.heatmaps(e, "i.zarr", all_pairs=True, scale="log"), InputError, "'log'"),
    "no genes": (lambda e: pairscape.heatmaps(e, "i.zarr", regulators=[]), InputError, "empty"),
    "a number": (lambda e: pairscape.heatmaps(e, "i.zarr", regulators=7), InputError, "7"),
    "a missing name": (lambda e: pairscape.heatmaps(e, "i.zarr", regulators=["A", None]), InputError, "None"),
    "NaN": (lambda e: pairscape.heatmaps(e, "i.zarr", pairs=[("A", float("nan"))]), InputError, "nan"),
    "one end": (lambda e: pairscape.heatmaps(e, "i.zarr", pairs=["A", "B"]), InputError, "gene_a, gene_b"),
    "uneven": (lambda e: pairscape.heatmaps(e, "i.zarr", pairs=[("A", "B"), ("A", "B", 1)]), InputError, "correct"),
    "bytes": (lambda e: pairscape.heatmaps(e, "i.zarr", regulators=b"A"), InputError, "b'A'"),
    "strangers": (lambda e: pairscape.heatmaps(e, "i.zarr", regulators=["GATA1"], **QUIET), InputError, "0 of the 1"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(name, expression, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, kind, words = MISTAKES[name]
    with pytest.raises(kind) as caught:
        call(expression)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


A, B, C, D = gene_names(4)
NAMES = [A, C]
GENE_LISTS = {
    "list": NAMES,
    "tuple": tuple(NAMES),
    "set": set(NAMES),
    "array": np.array(NAMES),
    "Index": pd.Index(NAMES),
    "Series": pd.Series(NAMES, index=[7, 9]),
    "categorical": pd.Series(NAMES, dtype="category"),
    "generator": (name for name in NAMES),
    "keys": dict.fromkeys(NAMES),
    "table": pd.DataFrame({"weight": [1, 2], "TF": NAMES}),
    "table without names": pd.DataFrame([[A], [C]]),
    "twice": [*NAMES, A],
}


@pytest.mark.parametrize("kind", GENE_LISTS)
def test_any_list_of_genes_is_the_file_of_it(kind, tmp_path):
    (tmp_path / "genes.csv").write_text(list_text("regulators", GENE_LISTS[kind]), encoding="utf-8")
    assert read_genes(tmp_path / "genes.csv") == NAMES


AWKWARD = ["HLA-A, B", "my gene", 'a "quoted" one', "γ-actin", "TF", "gene;x"]


def test_awkward_names_stay_whole(tmp_path):
    (tmp_path / "genes.csv").write_text(list_text("regulators", AWKWARD), encoding="utf-8")
    assert read_genes(tmp_path / "genes.csv") == AWKWARD
    (tmp_path / "pairs.csv").write_text(list_text("pairs", [(name, "B") for name in AWKWARD]), encoding="utf-8")
    assert read_pairs(tmp_path / "pairs.csv").gene_a == AWKWARD


PAIR_LISTS = {
    "tuples": [(A, B), (C, D)],
    "labelled": [(A, B, 1), (C, D, 0)],
    "lists": [[A, B], [C, D]],
    "array": np.array([[A, B], [C, D]]),
    "zip": zip([A, C], [B, D], strict=True),
    "frame": pd.DataFrame({"gene_a": [A, C], "gene_b": [B, D], "label": [1, 0]}),
    "frame of BEELINE": pd.DataFrame({"Gene1": [A, C], "Gene2": [B, D], "Type": ["+", "-"]}),
    "frame without names": pd.DataFrame([(A, B), (C, D)]),
    "frame with an index": pd.DataFrame({"source": [A, C], "target": [B, D]}, index=["x", "y"]),
    "labels with a decimal point": pd.DataFrame({"gene_a": [A, C], "gene_b": [B, D], "label": [1.0, 0.0]}),
}


@pytest.mark.parametrize("kind", PAIR_LISTS)
def test_any_list_of_pairs_is_the_file_of_it(kind, tmp_path):
    (tmp_path / "pairs.csv").write_text(list_text("pairs", PAIR_LISTS[kind]), encoding="utf-8")
    found = read_pairs(tmp_path / "pairs.csv")
    assert (found.gene_a, found.gene_b) == ([A, C], [B, D])
    labelled = "label" in kind or kind == "frame"
    assert found.label is None if not labelled else found.label.tolist() == [1, 0]


@pytest.mark.parametrize(
    "value", [[(A, B), (C, D)], [(A, B, 0.5), (C, D, 2)], pd.DataFrame({"TF": [A, C], "gene": [B, D]})]
)
def test_any_network_is_the_file_of_it(value, tmp_path):
    (tmp_path / "network.csv").write_text(list_text("network", value), encoding="utf-8")
    assert read_network(tmp_path / "network.csv").gene_b == [B, D]


@pytest.mark.parametrize("value", [{A: "X", C: "Y"}, pd.Series({A: "X", C: "Y"}), [(A, "X"), (C, "Y")]])
def test_any_map_of_names_is_the_file_of_it(value, tmp_path):
    (tmp_path / "map.csv").write_text(list_text("gene_map", value), encoding="utf-8")
    assert {(A, "X"), (C, "Y")} <= set(read_gene_map(tmp_path / "map.csv"))


def test_a_list_is_kept_beside_the_result_and_found_again(expression, tmp_path):
    for _ in range(2):
        images = pairscape.heatmaps(
            expression, tmp_path / "i.zarr", regulators=[A, B], targets={C, D}, network=[(A, C)], bins=8, **QUIET
        )
    kept = sorted(path.name for path in tmp_path.glob("*.csv"))
    assert [name.partition("-")[0] for name in kept] == ["i.network", "i.regulators", "i.targets"]
    assert images.provenance["pairs"]["regulators"].endswith(kept[1])
    assert sorted(images.array("label").tolist()) == [0, 0, 0, 1]
    pairscape.heatmaps(expression, tmp_path / "i.zarr", regulators=tmp_path / kept[1], targets=str(tmp_path / kept[2]),
                       network=tmp_path / kept[0], bins=8, **QUIET)  # fmt: skip


# ---------------------------------------------------------------- results


def test_plan_has_figures_and_shows_them(expression):
    cost = pairscape.plan(expression, regulators=[A, B], **QUIET)
    assert cost.pairs == cost["pairs"] == 22
    assert repr(cost).splitlines()[0].split() == ["pairs", "22"]


def test_verify_returns_what_it_finds(tmp_path):
    store = small_store(tmp_path).path
    assert pairscape.verify(store, quiet=True).lines() == []
    (store / "label" / "zarr.json").write_text("{}")
    with pytest.raises(JobError) as caught:
        pairscape.verify(store, quiet=True)
    assert list(caught.value.findings.files) == ["label/zarr.json"]
    assert list(pairscape.verify(store, repair=True, quiet=True).files) == ["label/zarr.json"]
    assert open_images(store).path == store


# ---------------------------------------------------------------- the page


def test_the_page_runs(tmp_path):
    """As a script, on a file of raw counts."""
    page = Path(__file__).parents[1] / "docs" / "python.md"
    *blocks, script = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert "__main__" in script
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.exp(module_expression(60, 3, 5, seed=0)[0]) * rng.gamma(2, 1, (60, 1))).astype(np.float32)
    as_anndata(counts).write_h5ad(tmp_path / "cells.h5ad")
    for name in ("page.py", "script.py"):
        words = [sys.executable, "-W", "ignore", name]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=250)
        assert done.returncode == 0, done.stderr[-2000:]
    made = {path.name for path in tmp_path.iterdir()}
    assert {"images.zarr", "scores.parquet", "few.zarr", "edges.zarr", "more.zarr"} <= made
