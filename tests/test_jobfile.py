"""One file, the whole job: the same bytes as the single commands, all options checked first, nothing done twice."""

import json
from pathlib import Path

import pytest

import pairscape
from model_fixtures import as_anndata, curved_expression, run_command
from pairscape.jobfile import read_job
from pairscape.pipeline.errors import JobError

JOB = """
folder = "results"
seed = 3
scheduler = "synchronous"

[ingest]
matrix = "cells.h5ad"
preset = "none"

[heatmaps]
all-pairs = true
labels = "replicate"
threshold = 0.2
bins = 16

[train]
epochs = 1
"""


@pytest.fixture
def folder(tmp_path):
    as_anndata(curved_expression(120, 4, 6, seed=0)[0]).write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "job.toml").write_text(JOB)
    return tmp_path


def files(folder):
    """Content of every file; of notes and reports, which hold times and paths, only the names."""
    loose = (".steps", "report.html", "model-card.md", "history.csv", "metrics.json", "config.toml")
    return {
        str(path.relative_to(folder)): None if any(part in loose for part in path.parts) else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_single_commands_write_the_same(folder, monkeypatch):
    assert run_command("run", folder / "job.toml", "--quiet") == 0
    monkeypatch.chdir(folder)
    Path("single").mkdir()
    quiet = ["--scheduler", "synchronous", "--quiet"]
    run_command("ingest", "cells.h5ad", "single/expression.zarr", "--preset", "none", *quiet)
    pairs = ["--all-pairs", "--labels", "replicate", "--threshold", "0.2", "--bins", "16", "--seed", "3"]
    run_command("heatmaps", "single/expression.zarr", "single/images.zarr", *pairs, *quiet)
    run_command("train", "single/images.zarr", "single/run", "--epochs", "1", "--seed", "3", "--quiet")
    made, single = files(folder / "results"), files(folder / "single")
    notes = {name for name in made if name.startswith(".steps")}
    assert notes == {f".steps/{step}.json" for step in ("ingest", "heatmaps", "train")}
    assert made.keys() - notes == single.keys()
    # attributes name the stores' own paths, figures of a run its store and times; others have their digests
    named = ("zarr.json", "layout.json", "receipt.json")
    same = [name for name in single if not any(word in name for word in named)]
    assert all(made[name] == single[name] for name in same)


def test_what_is_done_is_not_done_again(folder, monkeypatch):
    calls = []
    monkeypatch.setattr("pairscape.model.training.run.train_run", lambda *a, **k: calls.append("train") or stop())

    def stop():
        raise JobError("the power is out")

    assert run_command("run", folder / "job.toml", "--quiet") == 1
    before = files(folder / "results")
    monkeypatch.setattr("pairscape.pipeline.matrix.ingest.ingest", lambda *a, **k: calls.append("ingest"))
    monkeypatch.setattr("pairscape.pipeline.heatmaps.job.make_heatmaps", lambda *a, **k: calls.append("heatmaps"))
    assert run_command("run", folder / "job.toml", "--quiet") == 1
    assert calls == ["train", "train"]
    assert files(folder / "results") == before


def test_an_interrupted_training_starts_over(folder):
    assert run_command("run", folder / "job.toml", "--quiet") == 0
    note = folder / "results" / ".steps" / "train.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"done": False}))
    (folder / "results" / "run" / "metrics.json").unlink()
    assert run_command("run", folder / "job.toml", "--quiet") == 0
    assert (folder / "results" / "run" / "metrics.json").is_file()


def test_other_options_in_a_used_folder_are_refused(folder, capfd):
    only = JOB[: JOB.index("[heatmaps]")]
    (folder / "job.toml").write_text(only)
    assert run_command("run", folder / "job.toml", "--quiet") == 0
    (folder / "job.toml").write_text(only.replace('"none"', '"log1p"'))
    assert run_command("run", folder / "job.toml", "--quiet") == 2
    assert "expression.zarr was made with other options" in capfd.readouterr().err


def test_a_dry_run_shows_the_commands_and_writes_nothing(folder, capfd):
    assert run_command("run", folder / "job.toml", "--dry-run") == 0
    said = capfd.readouterr().out.splitlines()
    assert [line.split()[:2] for line in said] == [["pairscape", name] for name in ("ingest", "heatmaps", "train")]
    assert not (folder / "results").exists()


def test_every_step_is_a_command_with_the_paths_of_the_steps_before(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text("""
folder = "x"
workers = 2
[export]
file = "best.graphml"
top = 10
[predict]
regulators = "tfs.txt"
expression = "other.h5ad"
q_values = true
[train]
[ingest]
matrix = "a.h5ad"
[heatmaps]
all_pairs = true
""")
    found = [step.words for step in read_job(path)[1]]
    assert found == [
        ("ingest", "a.h5ad", "x/expression.zarr", "--workers=2"),
        ("heatmaps", "x/expression.zarr", "x/images.zarr", "--workers=2", "--all-pairs"),
        ("train", "x/images.zarr", "x/run"),
        ("predict", "x/run", "other.h5ad", "x/scores.parquet", "--workers=2", "--regulators=tfs.txt", "--q-values"),
        ("export", "x/scores.parquet", "x/best.graphml", "--top=10"),
    ]
    for words in found:
        pairscape.app.parse_args(words, exit_on_error=False, print_error=False)


def test_switches_and_lists_are_typed_as_a_user_would(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(
        'folder = "x"\n[ingest]\nmatrix = ["a.h5ad", "b.h5ad"]\ndry_run = true\noverwrite = false\nz = [1, 2]\n'
    )
    words = read_job(path)[1][0].words
    assert words == ("ingest", "a.h5ad", "b.h5ad", "x/expression.zarr", "--dry-run", "--no-overwrite", "--z=1", "--z=2")


BAD = {
    "no file": (None, ["cannot be read"]),
    "not TOML": ("folder = ", ["not valid TOML"]),
    "no folder": ("[train]\nepochs = 1\n", ["folder is None"]),
    "folder is a number": ("folder = 3\n[train]\n", ["folder is 3"]),
    "no step": ('folder = "x"\n', ["names no step"]),
    "unknown table": ('folder = "x"\n[trian]\n', ["'trian'", "known are ingest"]),
    "unknown name": ('folder = "x"\nsed = 1\n[train]\n', ["'sed'", "seed"]),
    "no matrix": ('folder = "x"\n[ingest]\n', ["[ingest] lacks matrix"]),
    "unknown option": ('folder = "x"\n[train]\nepohs = 1\n', ["--epohs", "--epochs"]),
    "value of another kind": ('folder = "x"\n[train]\nepochs = "many"\n', ["--epochs", "many"]),
    "value out of range": ('folder = "x"\n[train]\nepochs = 0\n', ["epochs is 0"]),
    "a matrix that is not there": (JOB.replace("cells.h5ad", "nowhere.h5ad"), ["nowhere.h5ad", "does not exist"]),
    "a late mistake": (JOB.replace("epochs = 1", "epochs = 0"), ["epochs is 0"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_before_anything_is_done(name, folder, capfd):
    text, words = BAD[name]
    path = folder / "bad.toml"
    if text is not None:
        path.write_text(text)
    before = files(folder)
    assert run_command("run", path, "--quiet") == 2
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert all(word in err for word in words), err
    assert files(folder) == before
    assert not (folder / "results").exists()


def test_the_command_is_a_function_too(folder):
    (folder / "job.toml").write_text(JOB[: JOB.index("[heatmaps]")])
    pairscape.run(folder / "job.toml", quiet=True)
    assert (folder / "results" / "expression.zarr").is_dir()


PLANTING_JOB = """
folder = "results"
seed = 3

[plant]
matrix = ["cells.h5ad", "other.h5ad"]
kinds = "rising,u-shaped"
planted_pairs = 24
negatives_per_positive = 2
min_expressing = 20
stores = 2

[heatmaps]
classes = "kinds"
scale = "rank"
bins = 16
scheduler = "synchronous"

[train]
network = "momentnet"
channels = "counts"
epochs = 1
split = "dataset"
test_stores = ["results/images/other-1.zarr", "results/images/other-2.zarr"]
"""


@pytest.fixture
def planting(tmp_path):
    for seed, name in enumerate(("cells", "other")):
        as_anndata(curved_expression(120, 4, 6, seed=seed)[0]).write_h5ad(tmp_path / f"{name}.h5ad")
    (tmp_path / "job.toml").write_text(PLANTING_JOB)
    return tmp_path


def test_planted_stores_go_all_the_way_and_are_not_made_again(planting, capfd):
    assert run_command("run", planting / "job.toml") == 0
    results = planting / "results"
    stores = ["cells-1", "cells-2", "other-1", "other-2"]
    assert [path.stem for path in sorted(results.glob("planted/*.tsv"))] == stores
    assert (results / "planted/cells-1.tsv").read_text() != (results / "planted/other-1.tsv").read_text()
    metrics = json.loads((results / "run/metrics.json").read_text())
    assert [Path(store["path"]).stem for store in metrics["stores"] if "test" in store] == stores[2:]
    seeds = [word for step in read_job(planting / "job.toml")[1] for word in step.words if word.startswith("--seed=")]
    assert seeds == ["--seed=3", "--seed=4", *["--seed=3"] * 5]
    capfd.readouterr()
    assert run_command("run", planting / "job.toml") == 0
    said = capfd.readouterr().out.splitlines()
    assert len(said) == 7
    assert all(line.endswith("(done before)") for line in said)


def test_an_interrupted_planting_starts_over(planting):
    (planting / "results/planted").mkdir(parents=True)
    (planting / "results/.steps").mkdir()
    words = next(step for step in read_job(planting / "job.toml")[1]).words
    assert run_command("run", planting / "job.toml", "--quiet") == 0
    note = planting / "results/.steps/plant-cells.json"
    assert json.loads(note.read_text())["words"] == list(words)
    note.write_text(json.dumps(json.loads(note.read_text()) | {"done": False}))
    before = files(planting / "results/planted")
    assert run_command("run", planting / "job.toml", "--quiet") == 0
    assert files(planting / "results/planted") == before


def test_two_matrices_of_one_name_are_refused(planting, capfd):
    (planting / "sub").mkdir()
    (planting / "job.toml").write_text(PLANTING_JOB.replace('"other.h5ad"', '"sub/cells.h5ad"'))
    assert run_command("run", planting / "job.toml") == 2
    assert "give one another name" in capfd.readouterr().err
