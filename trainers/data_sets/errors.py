"""What is wrong with training data, told so that its owner can mend it."""


class DataError(ValueError):
    """Data cannot be used; the message names the file or row, and says what to do. Shown as one line."""


class DataMissingError(DataError):
    """A file or folder of a data set is not there."""

    def __init__(self, name: str, path: object, origin: str):
        super().__init__(f"{name}: {path} is not there; the data come from {origin}")
