"""Data sets for training, each a class with a data card: `len(data)` samples, `data.row(index, repetition)`."""

from typing import Protocol

from ..rows import Row
from .errors import DataError, DataMissingError
from .generated import Generated


class DataSet(Protocol):
    """`repetition` counts how often a mixture has shown the sample; data sets with several answers change them."""

    name: str

    def __len__(self) -> int: ...

    def row(self, index: int, repetition: int = 0) -> Row: ...


DATA_SETS = {"generated": Generated}

__all__ = ["DATA_SETS", "DataError", "DataMissingError", "DataSet", "Generated"]
