"""Label sources by name: the same edges in every run of the same command, and one line where they cannot be had."""

import gzip
import hashlib
import importlib
import importlib.util
import inspect
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import pairscape
from pairscape.pipeline.datasets import networks
from pairscape.pipeline.datasets.networks import PRIORS, network_facts, with_network
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.options import Compute, PairSource
from typed import run_command

EDGES = {
    "source": ["G2", "G0", "G0", "G1", None],
    "target": ["G3", "G4", "G4", "G40", "G1"],
    "weight": [-1, 1, 0.5, 0.25, 1],
}
SNAPSHOT = "source,target,weight\nG0,G4,0.5\nG1,G40,0.25\nG2,G3,-1.0\n"
LOCAL = ["--scheduler", "synchronous", "--quiet"]


class Library:
    """A decoupler that serves EDGES and remembers how it was called."""

    def __init__(self):
        self.calls = []
        self.op = SimpleNamespace(**{name: lambda name=name, **options: self.serve(name, **options) for name in PRIORS})

    def serve(self, name, **options):
        self.calls.append((name, options))
        return pd.DataFrame({**EDGES, "resources": "x"})


@pytest.fixture
def library(monkeypatch):
    found = Library()
    monkeypatch.setitem(sys.modules, "decoupler", found)
    monkeypatch.setattr(networks, "version", lambda package: "2.9.9")
    return found


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PAIRSCAPE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("tf.txt").write_text("G0\nG1\nG2\n")


def named(network="collectri", **fields):
    return PairSource(regulators=Path("tf.txt"), network=Path(network), **fields)


def names(folder="."):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


# ---------------------------------------------------------------- the snapshot


def test_a_name_becomes_a_dated_snapshot_beside_the_images(library):
    with with_network(named(), Path("out/images.zarr")) as (source, notes):
        assert source == named("out/images.collectri_human.csv")
    assert source.network.read_text() == SNAPSHOT
    facts = json.loads(Path("out/images.collectri_human.json").read_text())
    assert facts["sha256"] == hashlib.sha256(SNAPSHOT.encode()).hexdigest()
    assert facts["date"].startswith("20")
    assert (facts["source"], facts["organism"], facts["edges"]) == ("collectri", "human", 3)
    assert (facts["from"], facts["licence"]) == ("decoupler 2.9.9", PRIORS["collectri"].licence)
    assert library.calls == [("collectri", {"organism": "human", "verbose": False})]
    assert "--organism is not given" in notes[0]
    assert "3 edges" in notes[0]
    assert facts["date"] in notes[0]


def test_the_second_run_takes_the_snapshot(library):
    images = Path("images.zarr")
    with with_network(named("dorothea", organism="mouse"), images) as (first, _):
        pass
    library.serve = None  # whoever asks again fails
    note = Path("images.dorothea_mouse.json")
    note.write_text(note.read_text().replace('"date": "20', '"date": "19'))
    with with_network(named("dorothea", organism="mouse"), images) as (second, notes):
        assert second == first
    assert "snapshot of 19" in notes[0]
    assert "--organism is not given" not in notes[0]


def test_each_source_and_organism_has_a_snapshot_of_its_own(library):
    for source in (named(), named(organism="mouse"), named("dorothea")):
        with with_network(source, Path("i.zarr")):
            pass
    assert names() == sorted(
        ["tf.txt"]
        + [f"i.{n}.{s}" for n in ("collectri_human", "collectri_mouse", "dorothea_human") for s in ("csv", "json")]
    )


def test_a_file_is_a_file_whatever_its_name(library, refuses):
    Path("collectri").write_text("G0,G1\n")
    with with_network(named(), Path("images.zarr")) as (source, notes):
        assert source == named()
        assert notes == ()
    assert library.calls == []
    with (
        refuses("collectri is a file", "--organism"),
        with_network(named(organism="mouse"), Path("images.zarr")),
    ):
        pytest.fail("never reached")


def test_to_plan_leaves_nothing(library):
    with with_network(named(), None) as (source, _):
        assert source.network.read_text() == SNAPSHOT
    assert not source.network.exists()
    assert names() == ["tf.txt"]


@pytest.mark.parametrize(("error", "kept"), [(InputError, False), (JobError, True), (KeyboardInterrupt, True)])
def test_a_refused_input_leaves_nothing_and_a_failed_job_its_snapshot(error, kept, library):
    with pytest.raises(error), with_network(named(), Path("a/b/i.zarr")):
        raise error("in the middle")
    snapshot = ["a", "a/b", "a/b/i.collectri_human.csv", "a/b/i.collectri_human.json"]
    assert names() == [*(snapshot if kept else ()), "tf.txt"]


def test_a_refused_input_leaves_the_snapshot_of_an_earlier_run(library):
    with with_network(named(), Path("i.zarr")) as (source, _):
        before = names()
    with pytest.raises(InputError), with_network(named(), Path("i.zarr")):
        raise InputError("in a later run")
    assert source.network.exists()
    assert names() == before


def test_what_a_killed_run_left_is_no_snapshot(library):
    Path("images.collectri_human.json").write_text("{}")  # the note is written first
    with with_network(named(), Path("images.zarr")) as (source, _):
        assert source.network.read_text() == SNAPSHOT


# ---------------------------------------------------------------- PAIRSCAPE_DATA


@pytest.fixture
def served(tmp_path, monkeypatch):
    path = tmp_path / "data" / "networks" / "collectri_human.csv"
    path.parent.mkdir(parents=True)
    path.write_text("source,target,weight\nG0,G9,1\n")
    monkeypatch.setenv("PAIRSCAPE_DATA", str(tmp_path / "data"))
    return path


def test_the_folder_of_data_serves_without_decoupler(served, monkeypatch):
    monkeypatch.setitem(sys.modules, "decoupler", None)
    with with_network(named(), Path("images.zarr")) as (source, notes):
        assert source.network == Path("images.collectri_human.csv")
        assert source.network.read_bytes() == served.read_bytes()
    assert "from PAIRSCAPE_DATA" in notes[0]


def test_a_snapshot_serves_another_machine_under_its_own_date(library, served, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.delenv("PAIRSCAPE_DATA")
        with with_network(named(), Path("there.zarr")) as (source, _):
            served.write_bytes(source.network.read_bytes())
    note = Path("there.collectri_human.json").read_text()
    served.with_suffix(".json").write_text(note.replace('"date": "20', '"date": "19'))
    with with_network(named(), Path("here.zarr")) as (_, notes):
        assert "snapshot of 19" in notes[0]
        assert "from decoupler 2.9.9" in notes[0]
    assert len(library.calls) == 1


def test_a_served_snapshot_that_was_changed_is_refused(served, library, refuses):
    served.with_suffix(".json").write_text(json.dumps({"format": "pairscape-network", "sha256": "0" * 64}))
    with refuses(str(served), "changed"), with_network(named(), Path("images.zarr")):
        pytest.fail("never reached")
    assert library.calls == []


# ---------------------------------------------------------------- refused


def offline(name, **options):
    raise ConnectionError("no route to host")


@pytest.fixture
def broken(monkeypatch):
    """Puts a decoupler that fails in one of many ways."""

    def put(way):
        found = Library()
        found.serve = {
            "offline": offline,
            "another table": lambda name, **options: pd.DataFrame({"error": ["<html>"]}),
            "no table": lambda name, **options: pd.read_csv(io.StringIO("")),
            "nothing": lambda name, **options: pd.DataFrame({column: [] for column in EDGES}),
        }.get(way)
        if way == "old":
            del found.op
        monkeypatch.setitem(sys.modules, "decoupler", None if way == "absent" else found)

    return put


@pytest.mark.parametrize(
    ("way", "kind", "words"),
    [
        ("absent", InputError, ["not installed", "pip install 'pairscape[labels]'"]),
        ("old", InputError, ["older than 2", "pip install"]),
        ("offline", JobError, ["no route to host", "PAIRSCAPE_DATA/networks/collectri_human.csv"]),
        ("another table", JobError, ["collectri cannot be downloaded", "KeyError"]),
        ("no table", JobError, ["EmptyDataError"]),
        ("nothing", InputError, ["holds no edges"]),
    ],
)
def test_what_cannot_be_had_is_one_line_and_leaves_nothing(way, kind, words, broken, refuses):
    broken(way)
    with refuses(*words, kind=kind), with_network(named(), Path("new/images.zarr")):
        pytest.fail("never reached")
    assert names() == ["tf.txt"]


@pytest.mark.parametrize("change", ["edited", "no note", "another note"])
def test_a_snapshot_that_was_changed_is_refused_and_left(change, library, refuses):
    with with_network(named(), Path("images.zarr")) as (source, _):
        path = source.network
    note = path.with_suffix(".json")
    if change == "edited":
        path.write_text(SNAPSHOT + "G7,G8,1\n")
    elif change == "no note":
        note.unlink()
    else:
        note.write_text("[]")
    before = path.read_bytes()
    with refuses("images.collectri_human.csv", "changed", "--network FILE"), with_network(named(), Path("images.zarr")):
        pytest.fail("never reached")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--network", "colectri"], ["colectri: no such file", "collectri, dorothea"]),
        (["--network", "collectri", "--organism", "rat"], ["rat"]),
        (["--network", "edges.csv", "--organism", "human"], ["edges.csv is a file"]),
        (["--organism", "human"], ["--organism", "--network"]),
        (["--network", "dorothea", "--targets", "strangers.txt"], ["strangers.txt"]),
        (["--network", "dorothea", "--memory-limit", "1MB"], ["a task needs"]),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(options, words, library, expression_path, capsys):
    Path("edges.csv").write_text("G0,G1\n")
    Path("strangers.txt").write_text("KLF1\n")
    before = names()
    assert run_command("heatmaps", expression_path, "new/i.zarr", "--regulators", "tf.txt", *options, *LOCAL) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert [word for word in words if word not in err] == [], err
    assert names() == before


# ---------------------------------------------------------------- the job


def test_heatmaps_are_labelled_by_it_and_say_so(library, expression_path, capsys):
    options = ["--regulators", "tf.txt", "--network", "collectri", "--scheduler", "synchronous"]
    for _ in range(2):
        assert run_command("heatmaps", expression_path, "i.zarr", *options) == 0
        assert "collectri (human" in capsys.readouterr().out
    assert len(library.calls) == 1
    images = open_images("i.zarr")
    pairs = images.pairs()
    edges = pairs.take(np.flatnonzero(pairs.label == 1))
    assert set(zip(edges.gene_a.tolist(), edges.gene_b.tolist(), strict=True)) == {(0, 4), (1, 40), (2, 3)}
    assert len(pairs) == 3 * 45
    kept = images.provenance["network"]
    assert kept["path"] == "i.collectri_human.csv"
    assert kept["sha256"] == hashlib.sha256(SNAPSHOT.encode()).hexdigest()
    assert (kept["source"], kept["from"]) == ("collectri", "decoupler 2.9.9")


def test_the_plan_hash_comes_from_the_edges_and_not_from_where_they_lie(library, expression_path):
    Path("elsewhere.tsv").write_text("G2\tG3\nG1\tG40\nG0\tG4\n")
    for images, network in (("by-name.zarr", "collectri"), ("by-file.zarr", "elsewhere.tsv")):
        assert run_command(
            "heatmaps", expression_path, images, "--regulators", "tf.txt", "--network", network, *LOCAL
        ) == 0  # fmt: skip
    assert open_images("by-name.zarr").spec.plan_hash == open_images("by-file.zarr").spec.plan_hash
    found = open_images("by-file.zarr").provenance["network"]
    assert found == {"path": "elsewhere.tsv", "sha256": hashlib.sha256(Path("elsewhere.tsv").read_bytes()).hexdigest()}


def test_plan_takes_a_name_too(library, expression_path, capsys):
    source = named()
    pairscape.plan(expression_path, source=source, compute=Compute("synchronous"))
    assert "3 of 135 candidates are edges" in capsys.readouterr().out
    assert names() == ["tf.txt"]


def test_a_snapshot_given_as_a_file_keeps_its_facts_until_it_is_changed(library):
    with with_network(named(), Path("images.zarr")) as (source, _):
        assert network_facts(source.network)["source"] == "collectri"
        source.network.write_text(SNAPSHOT + "G7,G8,1\n")
        assert set(network_facts(source.network)) == {"path", "sha256"}


def test_a_note_of_another_tool_is_no_fact_about_a_network():
    Path("net.csv").write_text("G0,G1\n")
    Path("net.json").write_text('{"sha256": "x"}')
    assert set(network_facts(Path("net.csv"))) == {"path", "sha256"}


# ---------------------------------------------------------------- the real library

REAL = pytest.mark.skipif(importlib.util.find_spec("decoupler") is None, reason="decoupler is not installed")


COLLECTRI = (
    "source,target,weight,resources,references,sign_decision\n"
    "MYC,TERT,1,CollecTRI_x;y,CollecTRI:1,PMID\nAP1,JUN,-1,x,2,PMID\nMYC,CCND1,1,x,3,PMID\nMYC,TERT,1,x,4,PMID\n"
)
DOROTHEA = pd.DataFrame(
    {
        "source_genesymbol": ["MYC", "MYC", "SPI1"],
        "target_genesymbol": ["TERT", "CCND1", "CD14"],
        "is_stimulation": [1, 0, 1],
        "is_inhibition": [0, 1, 0],
        "consensus_direction": 1,
        "consensus_stimulation": 1,
        "consensus_inhibition": 0,
        "dorothea_level": ["A", "C", "B"],
    }
).to_csv(sep="\t", index=False)
ORTHOLOGS = "human_symbol\tmouse_symbol\tsupport\n" + "".join(
    f"{gene}\t{gene.title()}\ta,b,c\n" for gene in ("MYC", "TERT", "JUN", "SPI1", "CD14")
)


def downloads(monkeypatch, answer):
    """What the real decoupler gets in place of the internet, by the end of the address."""
    for module in ("_collectri", "_dorothea", "_translate"):
        monkeypatch.setattr(importlib.import_module(f"decoupler.op.{module}"), "_download", answer)


def page(url, **options):
    if "hcop" in url:
        return io.BytesIO(gzip.compress(ORTHOLOGS.encode()))
    return io.BytesIO((COLLECTRI if "CollecTRI" in url else DOROTHEA).encode())


@REAL
@pytest.mark.parametrize(
    ("name", "organism", "edges"),
    [
        ("collectri", "human", ["AP1,JUN,-1", "MYC,CCND1,1", "MYC,TERT,1"]),
        ("collectri", "mouse", ["Myc,Tert,1"]),
        ("dorothea", "human", ["MYC,CCND1,-0.3333333333333333", "MYC,TERT,1.0", "SPI1,CD14,0.5"]),
        ("dorothea", "mouse", ["Myc,Tert,1.0", "Spi1,Cd14,0.5"]),
    ],
)
def test_the_real_decoupler_is_asked_in_the_right_way(name, organism, edges, monkeypatch):
    downloads(monkeypatch, page)
    with with_network(named(name, organism=organism), Path("i.zarr")) as (source, notes):
        assert source.network.read_text().splitlines() == ["source,target,weight", *edges]
    assert "from decoupler 2" in notes[0]


@REAL
@pytest.mark.parametrize("name", PRIORS)
def test_decoupler_has_every_name_with_the_options_we_give(name):
    taken = inspect.signature(getattr(importlib.import_module("decoupler").op, name)).parameters
    assert {"organism", "verbose"} <= set(taken)
    assert taken["organism"].default == "human"


@REAL
def test_the_real_decoupler_without_a_network_is_one_line(monkeypatch, refuses):
    import requests

    def unreachable(*arguments, **options):
        raise requests.exceptions.ConnectionError("no name service")

    monkeypatch.setattr(requests, "get", unreachable)
    with refuses("no name service", "PAIRSCAPE_DATA/networks", kind=JobError), with_network(named(), None):
        pytest.fail("never reached")
