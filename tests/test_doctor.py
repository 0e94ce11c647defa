"""The examination of an installation says what is there, and finds what is broken."""

import importlib.metadata
from pathlib import Path

import pytest

import pairscape
from pairscape import examination
from pairscape.pipeline.errors import JobError


def states(folder: Path, scheduler: str = "synchronous") -> dict[str, tuple[str, str]]:
    return {found.what: (found.state, found.words) for found in examination.examine(folder, scheduler)}


def test_this_installation_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = pairscape.doctor(folder=tmp_path, scheduler="synchronous")
    assert {one["state"] for one in found} <= {"ok", "note"}
    assert list(tmp_path.iterdir()) == []
    said = "".join(capsys.readouterr())
    for what in ("Python", "packages", "cores, memory", "network universal", "disk", "workers", "optional"):
        assert f"{what}: " in said


def test_a_scheduler_that_nobody_answers_at_fails(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"1 of 11 checks fail \(workers\)"):
        pairscape.doctor(folder=tmp_path, scheduler="tcp://127.0.0.1:9")


def test_a_folder_that_is_not_there_fails(tmp_path: Path) -> None:
    state, words = states(tmp_path / "none")["disk"]
    assert state == "fails"
    assert "none" in words


@pytest.mark.parametrize(
    ("required", "said"),
    [("no-such-package>=1", "no-such-package is missing"), ("numpy>=99", "is not >=99"), ("numpy<1", "is not <1")],
)
def test_packages_that_do_not_fit_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, required: str, said: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["pandas", required, "zarrs; extra == 'zarrs'"])
    state, words = states(tmp_path)["packages"]
    assert state == "fails"
    assert said in words


def test_a_network_that_is_damaged_fails_and_the_other_checks_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairscape.model.networks.bundled.bundled_folder", lambda: tmp_path)
    found = states(tmp_path)
    assert found["network universal"][0] == "fails"
    assert found["disk"][0] in ("ok", "note")
    assert found["workers"][0] == "ok"
