"""What is written is there whole or not at all, and whatever fails leaves the folder as it was found."""

import os
from pathlib import Path

import pytest

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.storage.write import clear_unfinished, put_in_place, replaced, write_file, writing


def make(path, content):
    """A file; where the content is a dictionary, a folder of files."""
    if isinstance(content, dict):
        path.mkdir()
        for name, text in content.items():
            (path / name).write_text(text)
    else:
        path.write_text(content)


def held(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def make_and_fail(path, content, blow):
    make(path, content)
    if blow != "rename":
        raise blow


KINDS = [None, "old", {"a": "old", "b": "old"}]


@pytest.mark.parametrize("new", KINDS[1:], ids=["file", "folder"])
@pytest.mark.parametrize("old", KINDS, ids=["nothing", "file", "folder"])
@pytest.mark.parametrize("blow", [None, ValueError, KeyboardInterrupt, "rename"])
def test_the_new_takes_the_place_or_the_old_stays(old, new, blow, tmp_path, monkeypatch):
    make(tmp_path / "neighbour", "here")
    if old is not None:
        make(tmp_path / "t", old)
    before = held(tmp_path)

    def refuse(self, target):
        raise OSError("no")

    if blow is None:
        with replaced(tmp_path / "t") as part:
            assert held(tmp_path) == before  # nothing yet
            make(part, new)
        expected = {"t": new} if isinstance(new, str) else {f"t/{name}": text for name, text in new.items()}
        assert held(tmp_path) == {"neighbour": "here", **expected}
    else:
        if blow == "rename":
            monkeypatch.setattr(type(tmp_path), "replace", refuse)
        with pytest.raises(OSError if blow == "rename" else blow), replaced(tmp_path / "t") as part:
            make_and_fail(part, new, blow)
        assert held(tmp_path) == before


def test_folders_that_were_made_for_it_go_again(tmp_path):
    with pytest.raises(ValueError, match="bad"), replaced(tmp_path / "deep" / "er" / "t"):
        raise ValueError("bad")
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_reaches_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink()))
    with replaced(tmp_path / "t") as part:
        make(part, {"a": "1", "b": "2"})
    assert {path.name for path in synced} == {"a", "b"}
    assert all(path.parent.name.startswith(".t.") for path in synced)


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with replaced(tmp_path / "t") as one, replaced(tmp_path / "t") as other:
        assert one != other
        make(one, "one")
        make(other, "other")
    assert held(tmp_path) == {"t": "one"}


def test_a_disk_that_refuses_is_told_in_a_line(tmp_path, refuses):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "t"
    words = str(target), "cannot be written", "free some space", "; kept"
    with refuses(*words, kind=JobError), writing(target, "; kept"), replaced(target):
        pass


def test_what_was_made_elsewhere_is_put_in_place(tmp_path):
    make(tmp_path / "made", {"a": "new"})
    make(tmp_path / "t", {"a": "old", "b": "old"})
    put_in_place(tmp_path / "made", tmp_path / "t")
    assert held(tmp_path) == {"t/a": "new"}


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "deep" / "file"
    for content in (b"first", b"second"):
        write_file(path, content)
        assert path.read_bytes() == content
        assert [p.name for p in path.parent.iterdir()] == ["file"]
    write_file(path, b"")
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_writer_left_is_cleared_and_nothing_else(tmp_path):
    left = ("c/.1.4711471147114711", "c/0/0/.0.1212121212")
    for name in ("c/0/0/0", "c/1", "zarr.json", ".zattrs", ".notes.2024", *left):
        write_file(tmp_path / name, b"x")
    clear_unfinished(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == [".notes.2024", ".zattrs", "c/0/0/0", "c/1", "zarr.json"]
