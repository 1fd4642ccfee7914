"""Files on this machine and, through fsspec, in stores like `s3://`."""

from __future__ import annotations

import os
from typing import IO, Any

import fsspec

from unirs.processing.image_loading_unirs import VisualInputError, local_path
from unirs.trainers.data_sets import DataError

# What a table may name. Its author need not be who runs it, so http is not here: it reaches every inner service.
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "hdfs", "hf", "memory")
WITH_BUCKETS = ("s3", "s3a", "gs", "gcs")  # the first part of a path is there, or nothing can be written
LARGEST = 2**31  # bytes of one picture or clip


def is_remote(path: str) -> bool:
    return "://" in path and not path.lower().startswith("file://")


def without_scheme(path: str) -> str:
    """A path of this machine without "file://"; one in a store as it is.

    Raises:
        DataError: It names another machine.
    """
    try:
        return path if is_remote(path) else local_path(path)
    except VisualInputError as error:
        raise DataError(str(error)) from error


def file_system(path: str) -> tuple[Any, str]:
    """The store of a path, and the path within it.

    Raises:
        DataError: The store is not known here, or needs a package or rights that are missing.
    """
    if not is_remote(path):
        return fsspec.filesystem("file"), os.path.abspath(path)
    if "::" in path:  # one store read through another: by it a table could name what is not in STORES
        raise DataError(f"{path}: has '::' in it, by which one store is read through another; give a plain path")
    try:
        return fsspec.core.url_to_fs(path)
    except ImportError as error:
        raise DataError(f"{path}: {error}; install what it names") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}; check the beginning of the path") from error


def exists(path: str) -> bool:
    """Whether a file or folder is there, local or in a store.

    Raises:
        DataError: The store does not tell: wrong credentials, or no way to it.
    """
    files, place = file_system(path)
    try:
        return files.exists(place)
    except Exception as error:  # each store has its own kinds
        raise DataError(f"{path}: cannot be looked for ({reason(error)}); check the store's credentials") from error


def check_bucket(path: str) -> None:
    """Told before anything is asked: a store takes a file into any folder, but into no bucket that is not there.

    Raises:
        DataError: It is not there.
    """
    if path.split("://")[0].lower() not in WITH_BUCKETS:
        return
    files, place = file_system(path)
    bucket = place.split("/")[0]
    try:
        files.info(bucket)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no bucket {bucket!r}; make it, or check the path") from error
    except Exception:  # who may write below one prefix need not be allowed to look at the bucket
        return


def open_file(path: str) -> IO[bytes]:
    """A file to read from.

    Raises:
        DataError: It is not there, or may not be read.
    """
    files, place = file_system(path)
    try:
        return files.open(place, "rb")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except Exception as error:  # each store has its own kinds
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error


def fetch(path: str) -> bytes:
    """All of a remote picture or clip.

    Raises:
        DataError: As `open_file`; or it is too large.
    """
    with open_file(path) as file:
        try:
            content = file.read(LARGEST + 1)
        except Exception as error:  # each store has its own kinds
            raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    if len(content) > LARGEST:
        raise DataError(f"{path}: has more than {LARGEST:,} bytes; cut it, or copy it to this machine")
    return content


def parent(path: str) -> str:
    """Folder of a file, remote or not."""
    return path.rsplit("/", 1)[0] if is_remote(path) else os.path.dirname(os.path.abspath(path))


def reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
