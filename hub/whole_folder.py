"""A folder that appears when it is complete, or not at all; and a list of hashes that tells when it was changed."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..file_lock import locked_folder
from .weight_files import WeightError

SUMS = "SHA256SUMS"  # `sha256sum -c SHA256SUMS` reads it too
OF_THE_HUB = (".cache", ".git", ".gitattributes", "__pycache__")  # what downloading and loading a repository adds


def check_free(target: Path) -> None:
    """Raises `WeightError` where `target` cannot be made."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise WeightError(f"{target}: is there already; give another name or remove it")
    # An empty folder is replaced at the end, which the system does with none of these.
    if target.is_symlink() or target.is_mount() or (target.exists() and target.samefile(Path.cwd())):
        raise WeightError(f"{target}: is a link, a mount point or the folder you are in; name a new folder in it")
    if not target.absolute().parent.is_dir():
        raise WeightError(f"{target}: the folder {target.absolute().parent} does not exist")


@contextmanager
def whole_folder(target: Path, needed: int) -> Iterator[Path]:
    """Yields a folder beside `target` to write into, and renames it when the block ends well.

    Args:
        needed: Bytes that will be written, checked against the free space first.
    """
    check_free(target)
    parent = target.absolute().parent
    if (free := shutil.disk_usage(parent).free) < needed:
        raise WeightError(f"{target}: needs {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB left")
    partial = parent / f".{target.name}.partial"
    try:
        partial.mkdir(exist_ok=True)  # that of a run that was killed may be there
        with locked_folder(partial) as ours:
            if not ours:
                raise WeightError(f"{target}: another run is making it; wait for that one")
            try:
                for left in partial.iterdir():
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                yield partial
                if target.exists():
                    target.rmdir()  # it is empty
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise WeightError(f"{target}: cannot be written ({error.strerror or error})") from error


def counting(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """A function that is told steps, from one that is told what is done and the total."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return tick


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def files_of(folder: Path) -> list[str]:
    """All files of a folder by their names below it, without what the hub's tools add."""
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [path.as_posix() for path in found if path.parts[0] not in OF_THE_HUB]


def write_sums(folder: Path) -> None:
    lines = [f"{sha256(folder / name)}  {name}\n" for name in files_of(folder) if name != SUMS]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def read_sums(file: Path) -> dict[str, str]:
    """The hashes of a published folder's files, by their names.

    Raises:
        WeightError: There is no such list, or a damaged one.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightError(
            f"{file.parent}: has no readable {SUMS}; only a folder that was published has one"
        ) from error
    listed: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{64})  ([^/\\].*)", line)
        if match is None or ".." in Path(match[2]).parts:
            raise WeightError(f"{file}: is damaged at {line[:80]!r}; download the folder again")
        listed[match[2]] = match[1]
    if not listed:
        raise WeightError(f"{file}: lists nothing; download the folder again")
    return listed


def verify(folder: Path) -> dict[str, str]:
    """What is wrong with a published folder: `{file: "changed" | "missing" | "added"}`, empty where all is as it was.

    Raises:
        WeightError: The folder has no list of hashes, or a damaged one.
    """
    listed = read_sums(folder / SUMS)
    there = {name for name in files_of(folder) if name != SUMS}
    wrong = dict.fromkeys(sorted(there - listed.keys()), "added")
    for name, value in listed.items():
        if name not in there:
            wrong[name] = "missing"
        elif sha256(folder / name) != value:
            wrong[name] = "changed"
    return wrong
