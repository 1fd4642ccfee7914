"""Data sets for training, each a class with a data card: `len(data)` samples, `data.row(index, repetition)`."""

from typing import Protocol

from ..rows import Row
from .crsvqa import CRSVQA
from .era import ERA
from .errors import DataError, DataMissingError
from .generated import Generated
from .geochat import GeoChatInstruct
from .levir_cc import LevirCC
from .llava_json import LlavaJson
from .own import OwnData
from .rsvqa import RSVQAHR, RSVQALR


class DataSet(Protocol):
    """`repetition` counts how often a mixture has shown the sample; data sets with several answers change them."""

    name: str

    def __len__(self) -> int: ...

    def row(self, index: int, repetition: int = 0) -> Row: ...


# What a recipe calls `source`.
DATA_SETS = {
    "generated": Generated,
    "geochat_instruct": GeoChatInstruct,
    "levir_cc": LevirCC,
    "era": ERA,
    "rsvqa_lr": RSVQALR,
    "rsvqa_hr": RSVQAHR,
    "crsvqa": CRSVQA,
    "llava_json": LlavaJson,
    "own": OwnData,
}

__all__ = [
    "CRSVQA",
    "DATA_SETS",
    "ERA",
    "RSVQAHR",
    "RSVQALR",
    "DataError",
    "DataMissingError",
    "DataSet",
    "Generated",
    "GeoChatInstruct",
    "LevirCC",
    "LlavaJson",
    "OwnData",
]
