"""A trained run is portable: four files suffice, the card says what it is, and what does not fit is refused."""

import json
import shutil

import pytest
import torch
from model_fixtures import HERE, curved_store, run_command
from safetensors.torch import load_file

import pairscape
from model.checkpoint import load_weights, save_weights
from model.classifier import load_classifier
from model.facts import complete_facts
from model.run import train_run
from model.scores import read_facts, read_scores
from model.spec import Recipe, Splitting, Training
from pipeline.errors import InputError
from pipeline.progress import Silent

PORTABLE = ("model.safetensors", "config.toml", "reference.safetensors", "model-card.md")
RECIPE = Recipe(splitting=Splitting("pair"), training=Training(network="cnnc", epochs=1))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return curved_store(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "run"
    train_run(images, folder, RECIPE, 3, Silent(), overwrite=False, say=lambda *_: None)
    return folder


@pytest.fixture
def portable(run, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in PORTABLE:
        shutil.copy(run / name, folder)
    return folder


def rewritten(folder, **facts):
    """The weights with other facts; one that is None is left out."""
    state, known = load_weights(folder / "model.safetensors")
    kept = {name: value for name, value in (known | facts).items() if value is not None or name not in facts}
    save_weights(folder / "model.safetensors", state, kept)
    return folder


def test_the_card_says_what_it_was_trained_on_and_what_it_is_worth(run, images):
    card, metrics = (run / "model-card.md").read_text(), json.loads((run / "metrics.json").read_text())
    matrix = images.provenance["matrix"]
    for said in (
        matrix["path"], matrix["sha256"], images.spec.plan_hash, "| 0 | none |", "| 1 | pair |", "`rank`", "`cnnc`",
        "300 in every image", f"{metrics['n_test']:,} test pairs", f"{metrics['test']['auroc']:.3f}", "Labels only",
        "Not for decisions about patients", "## Licence", "seed: 3", "pairs.csv",
    ):  # fmt: skip
        assert said in card, said
    assert card.count("|---|") >= 4


def test_a_report_made_again_makes_the_same_card(run):
    before = (run / "model-card.md").read_bytes()
    (run / "model-card.md").unlink()
    assert run_command("report", run) == 0
    assert (run / "model-card.md").read_bytes() == before


def test_four_files_score_as_the_whole_run_does(run, portable, images, tmp_path):
    for name, folder in (("whole", run), ("four", portable)):
        pairscape.predict(folder, tmp_path / f"{name}.parquet", images=images.path, compute=HERE, quiet=True)
    whole, four = (read_scores(tmp_path / f"{name}.parquet").to_pandas() for name in ("whole", "four"))
    assert (whole["score"] == four["score"]).all()
    assert read_facts(tmp_path / "four.parquet")["shift"]["level"] == "like"
    found = pairscape.evaluate(portable, images.path, out=tmp_path / "on", quiet=True)
    assert found["shift"]["level"] == "like"
    assert (tmp_path / "on" / "history.csv").read_text().count("\n") == 1  # no epoch was trained here


def test_an_early_run_is_completed_from_its_other_files(run, portable):
    _, stored = load_weights(run / "model.safetensors")
    shutil.copy(run / "metrics.json", portable)
    later = dict.fromkeys(("network_version", "scale", "class_names", "natural", "loss_weights", "gamma"))
    rewritten(portable, **later)
    _, facts = load_weights(portable / "model.safetensors")
    assert "natural" not in facts
    found = complete_facts(facts, portable)
    assert {name: found[name] for name in later} == {name: pytest.approx(stored[name]) for name in later}


BAD = {
    "another version of the network": ({"network_version": 2}, r"network_version is 2, not 1"),
    "a network that nobody knows": ({"network": "resnet"}, r"network is 'resnet', not a network that this"),
    "channels that nobody knows": ({"rendering": {"channels": "rgb"}}, r"rendering is .*'rgb'.*, not a rendering"),
    "no bins": ({"bins": None}, r"does not say its bins"),
    "bins of text": ({"bins": "16"}, r"bins is '16', not a number of bins"),
    "other bins": ({"bins": 64}, r"does not hold the weights of the network that it names"),
    "another rule of binning": ({"scale": "log2"}, r"scale is 'log2', not a rule of binning"),
    "five classes": ({"classes": 5}, r"classes is 5, not 2 or 3"),
    "names of three classes": ({"class_names": ["a", "b", "c"]}, r"class_names has 3 entries for 2 classes"),
    "a share beyond 1": ({"natural": 1.5}, r"natural is 1.5, not a share"),
    "negative weights": ({"loss_weights": [1.0, -1.0]}, r"loss_weights is .*, not weights above 0"),
    "another architecture": ({"network": "deep-cell-1"}, r"does not hold the weights of the network that it names"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_in_one_line(portable, case):
    facts, said = BAD[case]
    rewritten(portable, **facts)
    with pytest.raises(InputError, match=said) as refused:
        load_classifier(portable)
    assert "\n" not in str(refused.value)


def test_other_shapes_and_lost_weights_are_refused(portable):
    path = portable / "model.safetensors"
    _, facts = load_weights(path)
    state = load_file(path)
    name, tensor = next((n, t) for n, t in state.items() if t.ndim > 1)
    for changed, said in (
        ({k: v for k, v in state.items() if k != name}, f"{name} is missing"),
        (state | {"more": torch.zeros(2)}, "more is none of its weights"),
        (state | {name: tensor[:1]}, f"{name} is float32 1 × "),
        (state | {name: tensor.double()}, f"{name} is float64"),
    ):
        save_weights(path, changed, facts)
        with pytest.raises(InputError, match=said):
            load_classifier(portable)
