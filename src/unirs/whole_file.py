"""Files that are whole under their name, or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` once all is written; a killed run leaves no half file under it.

    What such a run has left is written over by the next; two at a time are to be kept apart by a lock. A link
    stays one: what it points to is written.
    """
    path = path.resolve()
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
