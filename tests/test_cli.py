"""The command line: every mistake is one line, every failure has its status, and nothing half-made is left behind."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray
import zarr
from anndata import AnnData
from anndata.io import write_elem
from scipy import sparse

import pairscape
from model_fixtures import HERE, as_anndata, gene_names, module_expression, run_command, small_store, write_pairs
from pairscape.interrupt import ANEW
from pairscape.model.reports import show
from pairscape.pipeline.compute import clusters
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.heatmaps import count
from pairscape.pipeline.heatmaps.images import find_pair, open_images
from pairscape.pipeline.heatmaps.shards import shard_file
from pairscape.pipeline.options import Binning, PairSource
from reference import joint_counts

ROOT = Path(__file__).parents[1]
COMMANDS = [name for name in pairscape.app if not name.startswith("-")]
LOCAL = ["--scheduler", "synchronous"]


# ---------------------------------------------------------------- a folder of good and of bad files


def h5ad(path, expression, **names):
    as_anndata(np.asarray(expression, np.float32), **names).write_h5ad(path)


def change_attributes(store, **attributes):
    path = store / "zarr.json"
    facts = json.loads(path.read_text())
    facts["attributes"] |= attributes
    path.write_text(json.dumps(facts))


def make_matrices(folder):
    x = module_expression(20, 2, 2, seed=0)[0]
    h5ad(folder / "good.h5ad", x)
    h5ad(folder / "negative.h5ad", x - 0.5)
    h5ad(folder / "nan.h5ad", np.where(x == x[3, 2], np.nan, x))
    h5ad(folder / "one-cell.h5ad", x[:1])
    h5ad(folder / "one-gene.h5ad", x[:, :1])
    h5ad(folder / "three-cells.h5ad", x[:3])
    barcodes = ["ACGTACGTAC-1", "TTGTACGTAC-1", "GGGTACGTAC-1", "CCGTACGTAC-1"]
    h5ad(folder / "transposed.h5ad", x, genes=barcodes, cells=[f"RPL{i}" for i in range(20)])
    twice = sparse.csr_matrix(x), pd.DataFrame(index=[f"c{i}x" for i in range(20)]), pd.DataFrame(index=list("ABCB"))
    root = zarr.open_group(str(folder / "twice.zarr"), mode="w", zarr_format=3)
    for name, element in zip(("X", "obs", "var"), twice, strict=True):
        write_elem(root, name, element, dataset_kwargs={"shards": None})
    with h5py.File(folder / "measurements.h5ad", "w") as file:
        file["temperature"] = np.arange(5)
    zarr.open_group(str(folder / "empty.zarr"), mode="w")
    (folder / "text.h5ad").write_text("not HDF5 at all")
    (folder / "matrix.pdf").write_text("a picture of a matrix")
    (folder / "words.csv").write_text("gene,c1,c2\nA,1,two\nB,3,4\n")


def make_lists(folder):
    lines = {
        "good": "GENE000,GENE001\nGENE001,GENE002\n",
        "strangers": "gene_a,gene_b\nGATA1,KLF1\nTAL1,LMO2\n",
        "half": "GENE000,GATA1\nKLF1,GENE001\n",
        "empty": "",
        "header": "gene_a,gene_b,label\n",
        "labels": "gene_a,gene_b,label\nGENE000,GENE001,1\nGENE000,GENE002,7\n",
        "alone": "GENE000\nGENE001\n",
        "itself": "GENE000,GENE000\n",
        "regulators": "GENE000\nGENE003\n",
        "no-genes": "TF,weight\n",
    }
    for name, text in lines.items():
        (folder / f"{name}.csv").write_text(text)


def make_stores(folder, good):
    for name in ("images", "version", "half-written", "damaged"):
        shutil.copytree(good, folder / f"{name}.zarr")
    change_attributes(folder / "version.zarr", format_version=99)
    shutil.rmtree(folder / "version.zarr" / "spare")  # else the change is damage, which the digests tell
    (folder / "version.zarr" / "receipts" / "layout.json").unlink()
    (folder / "half-written.zarr" / "receipts" / "0.json").unlink()
    chunk = shard_file(open_images(folder / "damaged.zarr"), "counts", 0)
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    labels = {"unlabelled": None, "one-class": [0] * 6, "one-positive": [1] + [0] * 5}
    a, b = np.triu_indices(4, 1)
    names = np.array(gene_names(4))
    for name, label in labels.items():
        pairs = write_pairs(folder / f"{name}.csv", names[a], names[b], label)
        pairscape.heatmaps(
            folder / "good.h5ad",
            folder / f"{name}.zarr",
            source=PairSource(pairs=pairs),
            binning=Binning("max", 16),
            codes=folder / "codes.zarr",
            compute=HERE,
            quiet=True,
        )


@pytest.fixture(scope="module")
def good_store(tmp_path_factory):
    return small_store(tmp_path_factory.getbasetemp()).path


@pytest.fixture(scope="module")
def template(tmp_path_factory, good_store):
    folder = tmp_path_factory.mktemp("files")
    make_matrices(folder)
    make_lists(folder)
    make_stores(folder, good_store)
    shutil.copytree(good_store.with_name("expression.zarr"), folder / "expression.zarr")
    (folder / "nothing").mkdir()
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("do not lose")
    return folder


@pytest.fixture
def place(template, monkeypatch):
    """The folder of files, as working folder; whoever changes it fails its test."""
    monkeypatch.chdir(template)
    return template


def contents(folder):
    """Every file of a folder with its bytes, and every folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def assert_refused(outcome, words=()):
    """Exit status 2 and one line that says what is wrong, and no more."""
    status, out, err = outcome
    assert status == 2, err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("pairscape: ")
    assert "Traceback" not in out + err
    for word in words:
        assert word in lines[0]


def call(capfd, *arguments):
    """Status, standard output and standard error of a command, as the file descriptors saw them."""
    capfd.readouterr()
    status = run_command(*arguments)
    return status, *capfd.readouterr()


# ---------------------------------------------------------------- mistakes

INGEST = {
    "missing file": ("nowhere.h5ad", ["nowhere.h5ad", "does not exist"]),
    "wrong suffix": ("matrix.pdf", ["matrix.pdf", ".h5ad"]),
    "not HDF5": ("text.h5ad", ["text.h5ad", "cannot be read"]),
    "not an AnnData": ("measurements.h5ad", ["measurements.h5ad", "temperature"]),
    "empty Zarr": ("empty.zarr", ["empty.zarr", "nothing"]),
    "transposed": ("transposed.h5ad", ["looks transposed", "--orientation"]),
    "negative": ("negative.h5ad", ["negative value", "GENE00"]),
    "NaN": ("nan.h5ad", ["NaN", "GENE00"]),
    "twice": ("twice.zarr", ["more than once", "B"]),
    "one cell": ("one-cell.h5ad", ["1 cells × 4 genes"]),
    "one gene": ("one-gene.h5ad", ["20 cells × 1 genes"]),
    "words": ("words.csv", ["'two'", "words.csv"]),
}


@pytest.mark.parametrize("name", INGEST)
def test_ingest_refuses(name, place, capfd):
    source, words = INGEST[name]
    before = contents(place)
    # Quiet, as a table is turned to cells before its numbers are seen, and that is a stage of its own.
    assert_refused(call(capfd, "ingest", source, "new.zarr", "--quiet"), words)
    assert contents(place) == before


@pytest.mark.parametrize("name", [name for name in INGEST if name != "words"])
def test_heatmaps_refuses_a_matrix_that_ingest_would(name, place, capfd):
    source, words = INGEST[name]
    before = contents(place)
    words = [word for word in words if word != "--orientation"]
    # Quiet, as values are first seen in the survey, after its name was printed.
    assert_refused(call(capfd, "heatmaps", source, "new.zarr", "--all-pairs", "--quiet", *LOCAL), words)
    assert contents(place) == before


HEATMAPS = {
    "text file": (["words.csv", "new.zarr", "--all-pairs"], ["words.csv", "'two' in row 'A'", "not a number"]),
    "images are no matrix": (["images.zarr", "new.zarr", "--all-pairs"], ["images.zarr is a store of images", "X"]),
    "strangers": (
        ["--pairs", "strangers.csv"],
        ["0 of the 4 genes of strangers.csv", "without a match: GATA1, TAL1", "the matrix has: GENE000, GENE001"],
    ),
    "half strangers": (["--pairs", "half.csv"], ["no pair has both genes", "GATA1"]),
    "missing list": (["--pairs", "nowhere.csv"], ["nowhere.csv", "no such file"]),
    "folder as list": (["--pairs", "nothing"], ["nothing"]),
    "empty list": (["--pairs", "empty.csv"], ["empty.csv is empty"]),
    "only a header": (["--pairs", "header.csv"], ["header.csv lists no pair"]),
    "label 7": (["--pairs", "labels.csv"], ["label '7' in row 2", "-1", "2 (b→a)"]),
    "one column": (["--pairs", "alone.csv"], ["alone.csv", "two"]),
    "a gene with itself": (["--pairs", "itself.csv"], ["no candidate pair is left"]),
    "regulators who are strangers": (["--regulators", "strangers.csv"], ["strangers.csv"]),
    "regulators without a name": (["--regulators", "no-genes.csv"], ["no-genes.csv"]),
    "targets who are strangers": (["--regulators", "regulators.csv", "--targets", "strangers.csv"], ["strangers.csv"]),
    "network of strangers": (["--regulators", "regulators.csv", "--network", "strangers.csv"], ["strangers.csv"]),
    "no source": ([], ["0 sources of pairs given", "--all-pairs"]),
    "two sources": (["--all-pairs", "--pairs", "good.csv"], ["2 sources of pairs given"]),
    "targets alone": (["--all-pairs", "--targets", "regulators.csv"], ["--regulators"]),
    "bins 1": (["--all-pairs", "--bins", "1"], ["bins is 1", "2 to 255"]),
    "bins 256": (["--all-pairs", "--bins", "256"], ["bins is 256", "2 to 255"]),
    "bins many": (["--all-pairs", "--bins", "many"], ["--bins", "many"]),
    "scale": (["--all-pairs", "--scale", "log"], ["--scale", "log"]),
    "threshold": (["--all-pairs", "--labels", "replicate", "--threshold", "1.5"], ["threshold is 1.5"]),
    "labels": (["--all-pairs", "--labels", "guessed"], ["--labels", "guessed"]),
    "workers 0": (["--all-pairs", "--workers", "0"], ["workers is 0"]),
    "workers few": (["--all-pairs", "--workers", "few"], ["--workers", "few"]),
    "memory limit": (["--all-pairs", "--memory-limit", "plenty"], ["memory limit 'plenty'", "4GB"]),
    "memory limit 0": (["--all-pairs", "--memory-limit", "0"], ["memory limit '0' is not positive"]),
    "memory limit infinite": (["--all-pairs", "--memory-limit", "1e999GB"], ["memory limit '1e999GB'"]),
    "memory too small": (["--all-pairs", "--memory-limit", "100MB"], ["a task needs", "0.1 GB"]),
    "scheduler": (["--all-pairs", "--scheduler", "slurmish"], ["scheduler 'slurmish' is unknown", "synchronous"]),
    "scheduler's protocol": (["--all-pairs", "--scheduler", "gopher://there:1"], ["gopher://there:1"]),
    "another job": (["good.h5ad", "images.zarr", "--all-pairs"], ["images.zarr holds another job", "66 pairs"]),
    "another kind of folder": (["good.h5ad", "mine", "--all-pairs"], ["mine is not a Pairscape image store"]),
    "the matrix itself": (["expression.zarr", "expression.zarr", "--all-pairs"], ["expression.zarr is not"]),
    "codes elsewhere in use": (
        ["good.h5ad", "new.zarr", "--all-pairs", "--codes", "mine"],
        ["mine is not a Pairscape"],
    ),
    "unknown option": (["--all-pairs", "--sigma", "2"], ["--sigma"]),
    "a word too many": (["good.h5ad", "new.zarr", "third", "--all-pairs"], ["third"]),
}


def heatmap_arguments(arguments):
    stores = [] if arguments and not arguments[0].startswith("-") else ["good.h5ad", "new.zarr"]
    scheduler = [] if "--scheduler" in arguments else LOCAL
    return ["heatmaps", *stores, *arguments, *scheduler]


@pytest.mark.parametrize("name", HEATMAPS)
def test_heatmaps_refuses(name, place, capfd):
    arguments, words = HEATMAPS[name]
    before = contents(place)
    assert_refused(call(capfd, *heatmap_arguments(arguments)), words)
    assert contents(place) == before


def test_a_scheduler_that_does_not_answer_is_named(place, capfd, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 0.3)
    before = contents(place)
    address = "tcp://127.0.0.1:9"
    outcome = call(capfd, "heatmaps", "good.h5ad", "new.zarr", "--all-pairs", "--scheduler", address)
    assert_refused(outcome, [f"no Dask scheduler answers at {address} within 0.3 s"])
    assert contents(place) == before


def test_replicate_labels_need_cells_to_split(place, capfd):
    outcome = call(capfd, "heatmaps", "three-cells.h5ad", "new.zarr", "--all-pairs", "--labels", "replicate", *LOCAL)
    assert_refused(outcome, ["there are 3", "4 or more"])


TRAIN = {
    "missing store": (["nowhere.zarr"], ["nowhere.zarr", "pairscape heatmaps"]),
    "a matrix": (["expression.zarr"], ["expression.zarr is not a Pairscape image store"]),
    "a name of two lines": (["no\nwhere.zarr"], ["no where.zarr: no such image store"]),
    "a file": (["good.h5ad"], ["good.h5ad"]),
    "another version": (["version.zarr"], ["version 99", "reads pairscape-images version 1"]),
    "half-written": (["half-written.zarr"], ["half-written: 1 of 1 shards", "pairscape heatmaps"]),
    "no labels": (["unlabelled.zarr"], ["unlabelled.zarr has no labels"]),
    "one class": (["one-class.zarr", "--split", "pair"], ["0 positive and"]),
    "a class in one fold": (["one-positive.zarr", "--split", "pair"], ["fold of one-positive.zarr", "--split"]),
    "split": (["images.zarr", "--split", "gene"], ["--split", "gene"]),
    "shares": (["images.zarr", "--test-share", "0.95"], ["test share 0.95", "below 1"]),
    "epochs": (["images.zarr", "--epochs", "0"], ["epochs is 0"]),
    "batch size": (["images.zarr", "--batch-size", "1"], ["batch size is 1"]),
    "learning rate": (["images.zarr", "--learning-rate", "-1"], ["learning rate is -1"]),
    "sigma": (["images.zarr", "--sigma", "-2"], ["sigma is -2"]),
    "not a number": (["images.zarr", "--learning-rate", "fast"], ["--learning-rate", "fast"]),
    "network": (["images.zarr", "--network", "resnet"], ["network 'resnet' is unknown", "pairnet"]),
    "channels": (["images.zarr", "--channels", "logs"], ["channels 'logs' is unknown", "log+residual"]),
    "loss": (["images.zarr", "--loss", "hinge"], ["loss 'hinge' is unknown", "focal"]),
    "device": (["images.zarr", "--device", "tpu"], ["device 'tpu'", "cpu"]),
    "pool": (["images.zarr", "--pool", "3"], ["pool 3 does not divide 16"]),
    "preset": (["images.zarr", "--preset", "deepcell"], ["--preset", "deepcell"]),
    "preset and more": (["images.zarr", "--preset", "deep-cell", "--epochs", "3"], ["fixes the whole recipe"]),
    "unknown option": (["images.zarr", "--momentum", "0.9"], ["--momentum"]),
}


@pytest.mark.parametrize("name", TRAIN)
def test_train_refuses(name, place, capfd):
    (store, *options), words = TRAIN[name]
    before = contents(place)
    assert_refused(call(capfd, "train", store, "run", *options), words)
    assert contents(place) == before


@pytest.mark.parametrize("run", ["mine", "mine/thesis.txt", "mine/thesis.txt/run"])
def test_train_leaves_what_lies_where_the_run_should(run, place, capfd):
    before = contents(place)
    for overwrite in ([], ["--overwrite"]):
        assert_refused(call(capfd, "train", "images.zarr", run, "--split", "pair", *overwrite), ["mine"])
    assert contents(place) == before


OTHERS = {
    "unknown command": (["trian", "images.zarr", "run"], ["trian"]),
    "ingest to another suffix": (["ingest", "good.h5ad", "new.h5ad"], ["does not end in .zarr"]),
    "ingest over a store": (["ingest", "good.h5ad", "expression.zarr"], ["expression.zarr exists", "--overwrite"]),
    "ingest over something else": (["ingest", "good.h5ad", "mine", "--overwrite"], ["mine"]),
    "ingest preset": (["ingest", "good.h5ad", "new.zarr", "--preset", "log2"], ["--preset", "log2"]),
    "ingest minimum": (["ingest", "good.h5ad", "new.zarr", "--min-cells", "0"], ["min_cells is 0"]),
    "ingest filters": (["ingest", "good.h5ad", "new.zarr", "--min-cells", "99"], ["min_cells=99"]),
    "ingest layer": (["ingest", "good.h5ad", "new.zarr", "--layer", "spliced"], ["no layer 'spliced'"]),
    "ingest without target": (["ingest", "good.h5ad"], []),
    "plan without source": (["plan", "good.h5ad"], ["0 sources of pairs given"]),
    "plan of nothing": (["plan", "nowhere.zarr", "--all-pairs"], ["nowhere.zarr"]),
    "plan memory": (["plan", "good.h5ad", "--all-pairs", "--memory-limit", "plenty"], ["memory limit 'plenty'"]),
    "plan scheduler": (["plan", "good.h5ad", "--all-pairs", "--scheduler", "slurmish"], ["scheduler 'slurmish'"]),
    "show unknown gene": (["show", "images.zarr", "GENE000", "GATA1"], ["without a match: GATA1", "GENE000"]),
    "show no candidate": (["show", "images.zarr", "GENE000", "GENE000"], ["no candidate pair"]),
    "show suffix": (["show", "images.zarr", "GENE000", "GENE001", "-o", "a.bmp"], ["a.bmp", ".png, .svg or .pdf"]),
    "show into no folder": (["show", "images.zarr", "GENE000", "GENE001", "-o", "no/where.png"], ["no/where.png"]),
    "show half-written": (["show", "half-written.zarr", "GENE000", "GENE001"], ["half-written"]),
    "show another version": (["show", "version.zarr", "GENE000", "GENE001"], ["version 99"]),
    "verify of nothing": (["verify", "nowhere.zarr"], ["nowhere.zarr"]),
    "verify of a matrix": (["verify", "expression.zarr"], ["not a Pairscape image store"]),
    "verify another version": (["verify", "version.zarr"], ["version 99"]),
    "evaluate nothing": (["evaluate", "nothing", "images.zarr"], ["pairscape train"]),
    "evaluate nowhere": (["evaluate", "nowhere", "images.zarr"], ["pairscape train"]),
    "evaluate a file": (["evaluate", "good.csv", "images.zarr"], ["pairscape train"]),
    "evaluate on nothing": (["evaluate", "nothing", "nowhere.zarr"], ["nowhere.zarr"]),
    "report of nothing": (["report", "nothing"], ["nothing"]),
    "report of nowhere": (["report", "nowhere"], ["nowhere"]),
    "report of a file": (["report", "good.csv"], ["good.csv"]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_commands_refuse(name, place, capfd):
    arguments, words = OTHERS[name]
    before = contents(place)
    assert_refused(call(capfd, *arguments), words)
    assert contents(place) == before


def shell(*arguments, folder):
    """The command as a real process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    command = [sys.executable, "-W", "error", "-m", "pairscape", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr


SHELL = {
    "missing file": ["ingest", "nowhere.h5ad", "new.zarr"],
    "unknown option": ["train", "images.zarr", "run", "--momentum", "0.9"],
    "half-written": ["show", "half-written.zarr", "GENE000", "GENE001"],
}


@pytest.mark.parametrize("name", SHELL)
def test_a_mistake_in_a_real_shell_is_one_line(name, place):
    before = contents(place)
    assert_refused(shell(*SHELL[name], folder=place))
    assert contents(place) == before


# ---------------------------------------------------------------- failures


def assert_failed(outcome, words):
    status, out, err = outcome
    assert status == 1, err
    assert "Traceback" not in out + err
    last = err.splitlines()[-1]
    assert last.startswith("pairscape: ")
    for word in words:
        assert word in last


def test_damage_is_a_failure_that_names_the_shard(place, capfd):
    status, out, err = call(capfd, "verify", "damaged.zarr")
    assert_failed((status, out, err), ["damaged.zarr is damaged: 1 of 1 shards", "verify damaged.zarr --repair"])
    assert "shard 0: counts is not the file the receipt describes" in err.splitlines()
    assert_failed(call(capfd, "verify", "half-written.zarr"), ["1 of 1 shards"])


def test_damage_fails_a_real_shell_too(place):
    assert_failed(shell("verify", "damaged.zarr", folder=place), ["damaged.zarr"])


@pytest.mark.parametrize(
    "error", [JobError("the disk read back something else"), OSError(28, "No space left on device")]
)
def test_a_job_that_fails_ends_with_status_1_and_one_line(error, place, capfd, monkeypatch, tmp_path):
    def fail(*_):
        raise error

    monkeypatch.setattr(count, "publish_shard", fail)
    outcome = call(capfd, "heatmaps", "good.h5ad", tmp_path / "new.zarr", "--all-pairs", *LOCAL, "--quiet")
    assert_failed(outcome, [str(error.args[-1])])
    assert len(outcome[2].splitlines()) == 1
    with pytest.raises(InputError, match="half-written"):  # what is there says what it is
        open_images(tmp_path / "new.zarr")
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert run_command("heatmaps", "good.h5ad", tmp_path / "new.zarr", "--all-pairs", *LOCAL, "--quiet") == 0
    assert open_images(tmp_path / "new.zarr").spec.n_pairs == 6


def test_a_disk_that_refuses_fails_ingest(place, capfd, tmp_path):
    (tmp_path / "file").write_text("where a folder should be")
    status, _, err = call(capfd, "ingest", "good.h5ad", tmp_path / "file" / "new.zarr")
    assert status in (1, 2)
    assert len(err.splitlines()) == 1
    assert err.startswith("pairscape: ")


def test_an_interrupt_is_one_line(place, capfd, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pairscape.model.reports.show.find_pair", interrupt)
    status, _, err = call(capfd, "show", "images.zarr", "GENE000", "GENE001")
    assert status == 130
    assert err == f"pairscape: {ANEW}\n"


# ---------------------------------------------------------------- what works


def test_the_commands_of_the_design_are_there():
    assert {"demo", "ingest", "plan", "heatmaps", "verify", "show", "train", "evaluate", "report"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capfd):
    status, out, err = call(capfd, command, "--help")
    assert (status, err) == (0, "")
    function = getattr(pairscape, command.replace("-", "_"))
    assert " ".join(function.__doc__.splitlines()[0].split()[:4]) in " ".join(out.split())
    assert f"pairscape {command}" in out


def test_help_lists_the_commands_and_version_is_the_version(capfd):
    for arguments in ([], ["--help"]):
        status, out, _ = call(capfd, *arguments)
        assert status == 0
        assert all(command in out for command in COMMANDS)
    assert call(capfd, "--version") == (0, f"{pairscape.__version__}\n", "")


def test_plan_prints_counts_and_bytes(place, capfd):
    before = contents(place)
    options = ["--bins", "64", "--workers", "2", "--scheduler", "threads", "--memory-limit", "3GB"]
    status, out, err = call(capfd, "plan", "expression.zarr", "--all-pairs", *options)
    assert (status, err) == (0, "measuring\n")
    assert "scoring is not foretold: universal looks at pictures of 32 bins, and --bins is 64" in out
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert lines["pairs"].split()[1] == "66"
    assert "60 of 60" in lines["cells"]
    assert "1 of 2,048 images" in lines["shards"]
    assert "1 for 2 workers" in lines["tasks"]
    assert "MB on disk" in lines["image store"]
    assert "a worker may take 3,000 MB" in lines["memory per task"]
    assert re.search(r"about [\d.]+ s: [\d.]+ s to encode, [\d.]+ s to count", lines["heatmaps"])
    assert "images of up to 255 × 255 bins" in lines["largest job"]
    assert "66 candidate pairs, no labels" in out
    assert contents(place) == before


def test_plan_tells_what_was_understood_of_a_list(place, capfd):
    (place / "known.csv").write_text("gene_a,gene_b,label\nGENE000,GENE001,1\nGENE000,GATA1,0\nGENE001,GENE002,0\n")
    status, out, _ = call(capfd, "plan", "good.h5ad", "--pairs", "known.csv", *LOCAL)
    (place / "known.csv").unlink()
    assert status == 0
    assert "known.csv: columns 'gene_a', 'gene_b', 'label'; 2 of 3 pairs have both genes in the matrix" in out
    assert "2 candidate pairs, 50.00% of them positive" in out


def test_verify_passes_a_sound_store(place, capfd):
    status, out, _ = call(capfd, "verify", "images.zarr")
    assert status == 0
    assert "1 shards, 66 images, all sound" in out


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_show_draws_a_pair_in_either_order(suffix, place, capfd, tmp_path):
    for genes in (("GENE001", "GENE004"), ("GENE004", "GENE001")):
        picture = tmp_path / f"{genes[0]}{suffix}"
        status, out, err = call(capfd, "show", "images.zarr", *genes, "-o", picture)
        assert (status, err) == (0, "")
        assert f"{genes[0]} to the right, {genes[1]} upwards, 60 cells" in " ".join(out.split())
        assert picture.stat().st_size > 1_000


def test_show_turns_the_picture_with_the_pair(place, capfd, monkeypatch, tmp_path):
    drawn = []
    draw = show.pair_figure
    monkeypatch.setattr(show, "pair_figure", lambda *args, **kw: drawn.append(args) or draw(*args, **kw))
    genes = ("GENE001", "GENE004")
    for first, second in (genes, genes[::-1]):
        assert call(capfd, "show", "images.zarr", first, second, "-o", tmp_path / "pair.png")[0] == 0
    images = open_images("images.zarr")
    row, turned = find_pair(images, *genes)
    stored = images.counts(slice(row, row + 1))[0]
    expected = stored.T if turned else stored
    assert (expected != expected.T).any()
    for (picture, _, gene_a, gene_b), counts, order in zip(
        drawn, (expected, expected.T), (genes, genes[::-1]), strict=True
    ):
        np.testing.assert_array_equal(picture[0], counts)
        assert (gene_a, gene_b) == ([order[0]], [order[1]])


def test_the_whole_job_from_the_command_line(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expression, module = module_expression(120, 8, 4, seed=0)
    table = pd.DataFrame(expression.T.round(2), index=gene_names(32), columns=[f"c{i}x" for i in range(120)])
    table.to_csv("matrix.csv")
    names, (a, b) = np.array(gene_names(32)), np.triu_indices(32, 1)
    write_pairs(Path("pairs.csv"), names[a], names[b], (module[a] == module[b]).astype(int))
    steps = [
        ["ingest", "matrix.csv", "expression.zarr"],
        ["heatmaps", "expression.zarr", "images.zarr", "--pairs", "pairs.csv", "--bins", "16", *LOCAL],
        ["verify", "images.zarr"],
        ["train", "images.zarr", "run", "--split", "pair", "--epochs", "2", "--network", "pairnet", "--mirror"],
        ["evaluate", "run", "images.zarr", "--out", "again"],
        ["report", "run"],
    ]
    told = {}
    for step in steps:
        status, told[step[0]], err = call(capfd, *step)
        assert status == 0, err
    assert "120 cells × 32 genes" in told["ingest"]
    assert "496 candidate pairs" in told["heatmaps"]
    assert "496 images of 120 cells" in told["heatmaps"]
    assert "balanced accuracy" in told["train"]
    assert "run/report.html" in told["train"]
    assert json.loads(Path("run/metrics.json").read_text())["split"] == "pair"
    assert Path("again/report.html").is_file()
    assert "mirror = true" in Path("run/config.toml").read_text()
    before = contents(tmp_path / "images.zarr")
    status, out, _ = call(capfd, *steps[1])
    assert "0 shards computed, 1 kept from an earlier run" in " ".join(out.split())
    assert contents(tmp_path / "images.zarr") == before


def test_quiet_is_quiet(capfd, tmp_path, good_store):
    expression = good_store.with_name("expression.zarr")
    for arguments in (
        ["ingest", expression, tmp_path / "e.zarr", "--preset", "none", "--quiet"],
        ["heatmaps", expression, tmp_path / "i.zarr", "--all-pairs", *LOCAL, "--quiet"],
        ["train", good_store, tmp_path / "run", "--split", "pair", "--epochs", "1", "--quiet"],
    ):
        assert call(capfd, *arguments) == (0, "", "")


# ---------------------------------------------------------------- the same from Python


def test_python_takes_what_is_open_where_the_command_takes_a_path(tmp_path, good_store):
    expression = module_expression(60, 4, 3, seed=2)[0]
    pairscape.heatmaps(
        as_anndata(expression), tmp_path / "i.zarr", source=PairSource(all_pairs=True), compute=HERE, quiet=True
    )
    assert open_images(tmp_path / "i.zarr").spec.n_pairs == 66
    with xarray.open_zarr(good_store) as store:
        assert pairscape.show(store, "GENE000", "GENE001", output=tmp_path / "pair.png").is_file()
    assert pairscape.plan(as_anndata(expression), source=PairSource(all_pairs=True), compute=HERE)["pairs"] == 66


def test_mistakes_in_python_are_exceptions_not_exits(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        pairscape.train(tmp_path / "nowhere.zarr", tmp_path / "run")
    with pytest.raises(InputError, match="0 sources"):
        pairscape.plan(as_anndata(module_expression(9, 2, 2, seed=0)[0]))


def assert_counted(path, expression):
    images = open_images(path)
    pairs, edges = images.pairs(), images.array("edges")
    expected = joint_counts(expression, edges, pairs.gene_a, pairs.gene_b)
    np.testing.assert_array_equal(images.counts(slice(0, images.spec.n_pairs)), expected)


def test_jobs_of_one_session_do_not_read_each_others_codes(tmp_path):
    """A notebook that counts twice through one code store: the second job has other codes, whatever was cached."""
    expression = module_expression(60, 4, 3, seed=2)[0]
    pairscape.ingest(as_anndata(expression), tmp_path / "e.zarr", preset="none", quiet=True)
    for binning in (Binning("max", 16), Binning("rank", 16), Binning("max", 8)):
        path = tmp_path / f"{binning.scale}-{binning.bins}.zarr"
        pairscape.heatmaps(
            tmp_path / "e.zarr",
            path,
            source=PairSource(all_pairs=True),
            binning=binning,
            codes=tmp_path / "codes.zarr",
            compute=HERE,
            quiet=True,
        )
        assert_counted(path, expression)


def test_a_store_made_anew_in_one_session_is_read_anew(tmp_path):
    expression = module_expression(60, 4, 3, seed=2)[0]
    names = gene_names(12)
    pairscape.ingest(as_anndata(expression), tmp_path / "e.zarr", preset="none", quiet=True)
    for gene_a, gene_b in ((names[:6], names[6:]), (names[1:], names[:-1]), (names[5:0:-1], names[6:11])):
        shutil.rmtree(tmp_path / "i.zarr", ignore_errors=True)
        pairs = PairSource(pairs=write_pairs(tmp_path / "pairs.csv", gene_a, gene_b))
        pairscape.heatmaps(tmp_path / "e.zarr", tmp_path / "i.zarr", source=pairs, compute=HERE, quiet=True)
        assert_counted(tmp_path / "i.zarr", expression)
        assert open_images(tmp_path / "i.zarr").spec.n_pairs == len(gene_a)
        find_pair(open_images(tmp_path / "i.zarr"), gene_a[0], gene_b[0])


def test_a_matrix_in_memory_is_left_as_it_was(tmp_path):
    adata = as_anndata(module_expression(30, 2, 3, seed=0)[0])
    before = adata.copy()
    pairscape.heatmaps(adata, tmp_path / "i.zarr", source=PairSource(all_pairs=True), compute=HERE, quiet=True)
    assert isinstance(adata, AnnData)
    assert (adata.X != before.X).nnz == 0
    assert adata.uns == before.uns


def test_a_demo_never_replaces_what_it_did_not_make(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    assert run_command("demo", tmp_path) == 2
    assert "which no demo made" in capsys.readouterr().err
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"


def test_a_taken_folder_is_refused_before_anything_is_opened(place, capfd):
    """Neither the store, which is not there, nor PyTorch."""
    (place / "taken-run").mkdir()
    (place / "taken-run" / "notes.txt").write_text("mine\n")
    status, _, err = call(capfd, "train", "nowhere.zarr", "taken-run")
    shutil.rmtree(place / "taken-run")
    assert status == 2
    assert "taken-run exists and is not empty, and Pairscape did not make it" in err
