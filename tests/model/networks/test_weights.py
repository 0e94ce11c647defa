"""A run is read back as it was written, and what was not written to its end is never seen."""

import hashlib
import tomllib

import pytest
import torch
from safetensors.torch import save_file

from pairscape.model.networks import weights
from pairscape.model.networks.device import seed_everything
from pairscape.model.networks.weights import MODEL, load_weights, read_recipe, save_tensors, write_config, write_text
from pairscape.model.options import DEEP_CELL, Recipe, Rendering, Splitting, Training
from pairscape.pipeline.errors import InputError

STATE = {"dense.weight": torch.arange(12.0).reshape(3, 4).T, "norm.count": torch.tensor(7)}
FACTS = {"network": "pairnet", "bins": 32, "rendering": {"sigma": 0.5, "channels": "log+residual"}, "shown": 1 / 6}


def assert_stored(path):
    state, facts, sha256 = load_weights(path)
    assert facts == FACTS
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert state.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert torch.equal(state[name], tensor)
        assert state[name].dtype == tensor.dtype


def test_weights_and_facts_come_back_exactly(tmp_path):
    save_tensors(tmp_path / "model.safetensors", MODEL, STATE, FACTS)
    assert_stored(tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_what_is_no_trained_run_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match=r"no trained weights.*pairscape train"):
        load_weights(path)
    save_tensors(path, MODEL, STATE, FACTS)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_weights(path)
    path.write_bytes(b"not weights at all")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_weights(path)
    save_file(STATE | {"dense.weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="is None version None, this Pairscape reads pairscape-model version 1"):
        load_weights(path)
    save_file({"x": torch.zeros(2)}, path, metadata={"format": "pairscape-model", "format_version": "2", "facts": "{}"})
    with pytest.raises(InputError, match="version 2, this Pairscape reads pairscape-model version 1"):
        load_weights(path)


def test_the_same_weights_are_the_same_bytes(tmp_path):
    """The library's own header is in another order each time."""
    files = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for file in files:
        save_tensors(file, MODEL, STATE, FACTS)
    assert len({file.read_bytes() for file in files}) == 1


def test_weights_half_written_leave_the_earlier_ones(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_tensors(path, MODEL, STATE, FACTS)

    def out_of_disk(target, content):
        assert target != path
        with target.open("wb") as file:
            file.write(content[: len(content) // 2])
        assert_stored(path)  # also while the new ones are being written
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights.Path, "write_bytes", out_of_disk)
    with pytest.raises(OSError, match="No space"):
        save_tensors(path, MODEL, {"other": torch.zeros(1)}, {})
    assert_stored(path)


def test_text_half_written_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "metrics.json"
    write_text(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "x" * 100_000 + "\ud800")
    assert path.read_text() == "first"
    write_text(path, "second μ")
    assert path.read_text(encoding="utf-8") == "second μ"


# ---------------------------------------------------------------- configuration

RECIPES = {
    "default": Recipe(),
    "deep-cell": DEEP_CELL,
    "odd": Recipe(
        Rendering("log", pool=2, sigma=1.5, drop_both_zero=True),
        Splitting("regulator", 0.25, 0.125),
        Training(loss="weighted", class_weights=(1.0, 20.0, 20.0), optimizer="sgd", mirror=True, averaging=0.99),
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_comes_back_exactly(tmp_path, name):
    path = tmp_path / "config.toml"
    write_config(path, RECIPES[name], {"path": "images.zarr", "n_pairs": 7}, seed=11)
    assert read_recipe(path) == (RECIPES[name], 11)
    assert tomllib.loads(path.read_text())["store"] == {"path": "images.zarr", "n_pairs": 7}


def test_a_shorter_configuration_means_the_defaults(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("seed = 3\n[training]\nepochs = 5\n")
    assert read_recipe(path) == (Recipe(training=Training(epochs=5)), 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[training\n", "is not valid TOML"),
        ("[training]\nlearning_rte = 0.1\n", "'learning_rte' is no option of training"),
        ("[rendering]\nsigma = -1.0\n", "sigma is -1.0"),
        ("[splitting]\nsplit = 'gene'\n", "split 'gene' is unknown"),
        ("[rendering]\npool = 'two'\n", "config.toml"),
        ("seed = 'many'\n", "config.toml"),
        ("training = 3\n", "config.toml"),
    ],
)
def test_a_configuration_with_a_mistake_names_it(tmp_path, text, words):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_recipe(path)


def test_a_configuration_that_is_not_there_is_the_users_matter(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_recipe(tmp_path / "config.toml")
    (tmp_path / "file").write_text("a file where a run folder should be")
    with pytest.raises(InputError, match="no such file"):
        read_recipe(tmp_path / "file" / "config.toml")
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"config\.toml"):
        read_recipe(tmp_path / "config.toml")


def test_a_seed_makes_torch_repeat_itself():
    drawn = []
    for seed in (5, 5, 6):
        seed_everything(seed)
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.are_deterministic_algorithms_enabled()
