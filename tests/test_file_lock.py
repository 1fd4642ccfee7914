"""One process at a time holds the lock of a file or a folder."""

import errno
import subprocess
import sys

import pytest

from unirs.file_lock import lock, locked_folder

fcntl = pytest.importorskip("fcntl")


def test_another_process_has_it_until_it_ends(tmp_path):
    path = tmp_path / "run.jsonl"
    holds = (
        "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    other = subprocess.Popen([sys.executable, "-c", holds, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with path.open("ab") as mine:
        assert other.stdout.readline()
        assert not lock(mine.fileno(), path)
        other.kill()
        other.communicate()
        assert lock(mine.fileno(), path)


def test_a_file_that_was_removed_or_replaced_since_it_was_opened_is_not_ours(tmp_path):
    path = tmp_path / "run.jsonl"
    with path.open("ab") as mine:
        path.unlink()
        assert not lock(mine.fileno(), path)
        path.write_text("of the next run")
        assert not lock(mine.fileno(), path)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written_to_all_the_same(tmp_path, monkeypatch, code):
    def no_locks(*_):
        raise OSError(code, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (tmp_path / "run.jsonl").open("ab") as mine:
        assert lock(mine.fileno(), tmp_path / "run.jsonl")


def test_a_folder_is_locked_as_long_as_it_is_written(tmp_path):
    with locked_folder(tmp_path) as ours, locked_folder(tmp_path) as others:
        assert (ours, others) == (True, False)
    with locked_folder(tmp_path) as ours:
        assert ours
    with locked_folder(tmp_path / "gone") as ours:
        assert not ours
