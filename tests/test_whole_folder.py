"""Folders that appear when they are complete: two runs for one name, and what a killed run left."""

from pathlib import Path

import pytest
from unirs.hub.weight_files import WeightError
from unirs.hub.whole_folder import check_free, whole_folder


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    """The second would have removed what the first had written, and both would have ended well."""
    pytest.importorskip("fcntl")
    with whole_folder(tmp_path / "out", 0) as first:
        (first / "a").write_text("first")
        with pytest.raises(WeightError, match="out: another run is making it"), whole_folder(tmp_path / "out", 0):
            raise AssertionError
        assert (first / "a").read_text() == "first"
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out/a").read_text() == "first"


def test_what_a_killed_run_left_is_no_part_of_the_next(tmp_path):
    (tmp_path / ".out.partial/folder").mkdir(parents=True)
    (tmp_path / ".out.partial/old").write_text("old")
    with whole_folder(tmp_path / "out", 0) as folder:
        (folder / "new").write_text("new")
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["new"]


def test_a_run_that_fails_leaves_nothing(tmp_path):
    def fails():
        with whole_folder(tmp_path / "out", 0) as folder:
            (folder / "half").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["current", "link", "broken link", "mount"])
def test_an_empty_folder_that_cannot_be_replaced_is_refused_before_anything_is_written(kind, tmp_path, monkeypatch):
    """Each failed at the very end, after all weights."""
    (tmp_path / "real").mkdir()
    target = tmp_path / "real"
    if kind == "current":
        monkeypatch.chdir(target)
        target = Path(".")
    elif kind == "mount":
        monkeypatch.setattr(Path, "is_mount", lambda self: self == target)
    else:
        target = tmp_path / "link"
        target.symlink_to("real" if kind == "link" else "nowhere")
    with pytest.raises(WeightError, match="is a link, a mount point or the folder you are in"):
        check_free(target)


def test_an_empty_folder_is_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    with whole_folder(tmp_path / "out", 0) as folder:
        (folder / "new").write_text("new")
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["new"]
