"""What a plan says of scoring is measured on the very work: the network, its strata and the decoys."""

import re

import pairscape
from conftest import simulated, store_expression
from pairscape.pipeline.options import Compute


def test_plan_foretells_scores_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    path = store_expression(tmp_path / "e.zarr", simulated(300, 30))
    cost = pairscape.plan(path, all_pairs=True, compute=Compute("synchronous"))
    assert cost.network == "universal"
    assert 0 < cost.score_seconds < 60
    assert 0 < cost.decoy_seconds < 60
    assert cost.predict_seconds > cost.score_seconds + cost.decoy_seconds
    said = capsys.readouterr().out
    assert said.startswith(f"reading {path}")
    assert re.search(r"predict +about [\d.]+ s with universal, which stores no image: .* for decoys", said)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["e.zarr", "scratch"]
