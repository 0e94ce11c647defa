"""`plan`, `heatmaps` and `train --split file` with lists that match well, badly, by symbol and through a map."""

import shutil

import numpy as np
import pandas as pd
import pytest
import xarray
from anndata import AnnData

import pairscape
from model_fixtures import module_expression, run_command
from pairscape.model.batches.store_folds import make_folds
from pairscape.model.options import Recipe, Splitting
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.pairs import candidates
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.matrix.ingest import ingest
from pairscape.pipeline.options import PairSource
from typed import after_first_word

LOCAL = ["--scheduler", "synchronous"]
IDS = [f"ENSG{i:011d}.{i}" for i in range(12)]
SYMBOLS = ["GATA1", "KLF1", "SPI1", "TAL1", "CEBPA", "TBCE", "TBCE", "MYB", "LMO2", "RUNX1", "", "ERG"]
ENTREZ = ["2623", "10661", "6688", "6886", "1050", "6905", "0", "4602", "4005", "861", "1", "2078"]
TFS = ["GATA1", "KLF1", "SPI1", "TAL1", "CEBPA", "MYB"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Ensembl ids with versions, symbols beside them; a store of regulators and edges that are given in symbols."""
    folder = tmp_path_factory.mktemp("lists")
    values, module = module_expression(60, 4, 3, seed=2)
    var = pd.DataFrame({"feature_name": SYMBOLS}, index=IDS)
    obs = pd.DataFrame(index=[f"c{i}x" for i in range(60)])
    ingest(AnnData(values.astype(np.float32), obs=obs, var=var), folder / "e.zarr", preset="none")
    edges = [(a, b) for i, a in enumerate(IDS) for j, b in enumerate(IDS) if i != j and module[i] == module[j]]
    write(folder, "tf.txt", *TFS)
    write(folder, "net.csv", *(f"{a.split('.')[0]},{b.split('.')[0]}.99" for a, b in edges))
    write(folder, "map.csv", *(f"{number},{name}" for number, name in zip(ENTREZ, IDS, strict=True)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = ["--regulators", "tf.txt", "--network", "net.csv", "--gene-map", "map.csv", "--bins", "16", *LOCAL]
        assert run_command("heatmaps", "e.zarr", "i.zarr", *options, "--quiet") == 0
    return folder


@pytest.fixture
def place(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def write(folder, name, *lines):
    (folder / name).write_text("\n".join(lines) + "\n")


def call(capfd, *arguments):
    capfd.readouterr()
    status = run_command(*arguments)
    return status, *capfd.readouterr()


def assert_refused(outcome, *words):
    status, out, err = outcome
    assert (status, after_first_word(out), err.count("\n")) == (2, "", 1), outcome
    assert [word for word in words if word not in err] == [], err


COMMANDS = {
    "plan": ["plan", "e.zarr", *LOCAL],
    "heatmaps": ["heatmaps", "e.zarr", "new.zarr", "--bins", "16", *LOCAL],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_too_few_matches_stop_before_anything_is_written(command, place, capfd):
    write(place, "mixed.txt", "GATA1", "Klf1", "Spi1", "Tal1")
    before = sorted(place.rglob("*"))
    outcome = call(capfd, *COMMANDS[command], "--regulators", "mixed.txt")
    assert_refused(outcome, "1 of the 4 regulators of mixed.txt", "without a match: Klf1, Spi1, Tal1",
                   "ENSG00000000000.0 (GATA1)", "3 of them match if case is ignored", "--ignore-case",
                   "--min-matched 0")  # fmt: skip
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("share", ["0", "0.25"])
def test_the_share_is_the_users(command, share, place, capfd):
    write(place, "mixed.txt", "GATA1", "Klf1", "Spi1", "Tal1")
    status, out, _ = call(capfd, *COMMANDS[command], "--regulators", "mixed.txt", "--min-matched", share)
    assert status == 0
    assert "mixed.txt: 1 of 4 regulators are in the matrix; not in it: Klf1, Spi1, Tal1\n" in out
    assert "11 candidate pairs" in out


@pytest.mark.parametrize(("share", "words"), [
    ("1.5", ["min matched is 1.5", "between 0 and 1"]),
    ("-0.5", ["min matched is -0.5"]),
    ("nan", ["min matched is nan"]),
    ("half", ["--min-matched", "half"]),
])  # fmt: skip
def test_what_is_no_share_is_refused(share, words, place, capfd):
    for command in COMMANDS.values():
        assert_refused(call(capfd, *command, "--all-pairs", f"--min-matched={share}"), *words)
    assert_refused(call(capfd, "train", "i.zarr", "run", f"--min-matched={share}"), *words)


def test_quiet_says_nothing(place, capfd):
    assert call(capfd, *COMMANDS["heatmaps"], "--regulators", "tf.txt", "--quiet") == (0, "", "")


def test_what_was_found_stands_in_the_store_and_the_check_does_not(place, capfd):
    network, report = open_images("i.zarr").provenance["lists"][::-1], "matched without the version after the dot"
    assert [(one["file"], one["names"], one["matched"], one["ambiguous"]) for one in network[::-1]] == [
        ("tf.txt", 6, 6, 0),
        ("net.csv", 24, 24, 0),
    ]
    assert network[0]["found_by"] == {"version": 24}
    assert network[1]["found_by"] == {"symbol": 6}
    status, out, _ = call(capfd, "plan", "e.zarr", "--regulators", "tf.txt", "--network", "net.csv", *LOCAL)
    assert status == 0
    assert f"24 of 24 genes are in the matrix; {report}: 24" in out


def test_a_check_is_no_other_job(place):
    """The very store is found finished whatever share is asked for: the plan's hash does not know of it."""
    before = {path: path.stat().st_mtime_ns for path in (place / "i.zarr").rglob("*")}
    options = ["--regulators", "tf.txt", "--network", "net.csv", "--gene-map", "map.csv", "--bins", "16", *LOCAL]
    assert run_command("heatmaps", "e.zarr", "i.zarr", *options, "--min-matched", "0.9") == 0
    assert {path: path.stat().st_mtime_ns for path in (place / "i.zarr").rglob("*")} == before


def test_pairs_and_so_the_plans_hash_are_what_they_were_before_there_was_a_check(place):
    """The digest is that of the version before."""
    write(place, "pairs.csv", "GATA1,KLF1,1", "SPI1,KLF1,0", "NOPE,SPI1,1", "TAL1,SPI1,2")
    found = candidates(PairSource(pairs=place / "pairs.csv", min_matched=0.2), SYMBOLS[:5])
    assert found.pairs.content_hash() == "9a40415c0945e2cb5d245175d92902dde9b527202a9701e87802b25417ca3816"


def test_symbols_are_kept_beside_the_ids(place):
    with xarray.open_zarr("i.zarr") as store:
        assert store["symbol"].dims == ("gene",)
        assert store["symbol"].values.tolist() == SYMBOLS
        assert store["gene"].values.tolist() == IDS
    assert open_images("i.zarr").symbols() == SYMBOLS


def test_a_pair_is_shown_by_symbols_too(place, capfd):
    for names in (("GATA1", "KLF1"), (IDS[0], "KLF1"), ("ENSG00000000000", "ENSG00000000001")):
        assert call(capfd, "show", "i.zarr", *names, "-o", "pair.png")[0] == 0
    assert_refused(call(capfd, "show", "i.zarr", "GATA1", "TBCE"), "borne by several genes: TBCE")
    assert_refused(call(capfd, "show", "i.zarr", "GATA1", "NOPE"), "1 of the 2 genes", "without a match: NOPE")


FOLDS = [0, 1, 2, 0, 1, 2]
NAMES = {"symbols": TFS, "ids": [IDS[SYMBOLS.index(name)] for name in TFS],
         "other versions": [f"{IDS[SYMBOLS.index(name)]}9" for name in TFS],
         "the gene map": [ENTREZ[SYMBOLS.index(name)] for name in TFS]}  # fmt: skip


def folds_of(place, rows, **options):
    write(place, "folds.csv", "TF,fold", *rows)
    splitting = Splitting("file", fold_file=place / "folds.csv", fold=0, **options)
    return make_folds(open_images(place / "i.zarr"), Recipe(splitting=splitting), seed=0)


def rows_of(names):
    return [f"{name},{fold}" for name, fold in zip(names, FOLDS, strict=True)]


@pytest.mark.parametrize("named", NAMES)
def test_folds_are_found_by_every_name_that_the_lists_may_have(named, place):
    folds = folds_of(place, rows_of(NAMES[named]))
    assert "folds.csv: 6 of 6 genes are in the store" in folds.notes[0]
    assert folds.content_hash() == folds_of(place, rows_of(TFS)).content_hash()


def test_folds_without_the_map_of_the_store_are_told_so(place, finished, refuses):
    (finished / "map.csv").rename(finished / "away.csv")
    try:
        assert "map.csv: the gene map of the store is gone" in folds_of(place, rows_of(TFS)).notes[-1]
        with refuses("0 of the 6 genes", "folds.csv", "2623", "Entrez ids while", "map.csv: the gene map", "is gone"):
            folds_of(place, rows_of(NAMES["the gene map"]))
    finally:
        (finished / "away.csv").rename(finished / "map.csv")


def test_options_that_train_has_not_are_not_advised(place):
    with pytest.raises(InputError) as refused:
        folds_of(place, rows_of([name.lower() for name in TFS]))
    assert "6 of them match if case is ignored" in str(refused.value)
    assert "--ignore-case" not in str(refused.value)


def test_folds_of_other_genes_are_refused_and_may_be_asked_for(place, capfd):
    folds = [*rows_of(TFS), *(f"OTHER{i},{i % 3}" for i in range(7))]
    write(place, "folds.csv", "TF,fold", *folds)
    train = ["train", "i.zarr", "run", "--split", "file", "--fold-file", "folds.csv"]
    assert_refused(call(capfd, *train), "6 of the 13 genes of folds.csv", "(46.2%), fewer than 50%", "OTHER0, OTHER1",
                   "--min-matched 0")  # fmt: skip
    assert not (place / "run").exists()
    notes = folds_of(place, folds, min_matched=0.0).notes
    assert notes[0].startswith("folds.csv: 6 of 13 genes are in the store; not in it: OTHER0, OTHER1, OTHER2")
    assert_refused(call(capfd, *train, "--min-matched", "0", "--network", "none"), "network 'none' is unknown")


def test_a_check_makes_no_other_recipe():
    assert Splitting(min_matched=0.1) == Splitting()


def test_the_interface_in_a_notebook_is_the_same(place, refuses):
    write(place, "mixed.txt", "GATA1", "Klf1", "Spi1", "Tal1")
    with refuses("1 of the 4 regulators"):
        pairscape.plan("e.zarr", source=PairSource(regulators=place / "mixed.txt"), quiet=True)


ADJACENCIES = [f"{tf},{target},{(i + 1) / (j + 2):.3f}" for i, tf in enumerate(TFS[:4]) for j, target in enumerate(TFS)]
RANKED = {
    "adjacencies": ([], ["ranks 24 pairs by 'importance'", "--network-top N", "--network-threshold X"]),
    "both": (["--network-top", "3", "--network-threshold", "1"], ["give one of them"]),
    "none of them": (["--network-top", "0"], ["network top is 0"]),
    "a threshold above all": (["--network-threshold", "99"], ["no edge reaches 99", "lower --network-threshold"]),
}


@pytest.mark.parametrize("name", RANKED)
def test_a_ranking_asks_which_of_its_edges_count(name, place, capfd):
    write(place, "adj.csv", "TF,target,importance", *ADJACENCIES)
    options, words = RANKED[name]
    command = ["plan", "e.zarr", "--regulators", "tf.txt", "--network", "adj.csv", "--min-matched", "0", *LOCAL]
    assert_refused(call(capfd, *command, *options), *words)


@pytest.mark.parametrize(("options", "edges"), [(["--network-top", "3"], 3), (["--network-threshold", "1.3"], 3)])
def test_the_edges_that_are_asked_for(options, edges, place, capfd):
    write(place, "adj.csv", "TF,target,importance", *ADJACENCIES)
    command = ["plan", "e.zarr", "--regulators", "tf.txt", "--network", "adj.csv", "--min-matched", "0", *LOCAL]
    status, out, err = call(capfd, *command, *options)
    assert status == 0, err
    assert f"{edges} of 24 edges by 'importance'" in out


@pytest.mark.parametrize("options", [["--network-top", "3"], ["--network-threshold", "1"]])
def test_what_chooses_edges_belongs_to_a_network(options, place, capfd):
    assert_refused(call(capfd, "plan", "e.zarr", "--regulators", "tf.txt", *LOCAL, *options), "give --network too")
    network = ["--network", "net.csv", "--gene-map", "map.csv"]
    refused = call(capfd, "plan", "e.zarr", "--regulators", "tf.txt", *network, *LOCAL, *options)
    assert_refused(refused, "no column ranks its edges")
