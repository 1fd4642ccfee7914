"""One run at a time writes a file or a folder: a lock that ends with its process, however that ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not noticed
    fcntl = None  # type: ignore[assignment]


def lock(opened: int, path: Path) -> bool:
    """Whether `opened`, a descriptor of the file or folder `path`, is now locked for this process alone.

    Where the file system has no locks two runs at once are not noticed, and it is True.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # as network file systems answer that have no locks
        return True
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:  # the run that held it ended since it was opened, and removed it
        return False


@contextmanager
def locked_folder(folder: Path) -> Iterator[bool]:
    """Locks a folder as long as it lasts; yields whether it is this process's."""
    if fcntl is None:  # Windows opens no folders
        yield True
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # the run that made it ended just now, and removed it
        yield False
        return
    try:
        yield lock(opened, folder)
    finally:
        os.close(opened)
