"""Numbers, words and ticks as a request has them: Gradio does not hold them to what its fields allow."""

from __future__ import annotations

import math
from typing import Any

from unirs.terminal import InputError

LARGEST_EXACT = 2**53  # a float, and a browser, knows every whole number up to it


def number(given: Any, what: str, least: float, most: float) -> float:
    """Raises:
    InputError: It is no number from `least` to `most`.
    """
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or abs(given) > LARGEST_EXACT or math.isnan(given) or not least <= given <= most:
        raise InputError(f"{what} is a number from {least:g} to {most:g}.")
    return float(given)


def whole(given: Any, what: str, least: int, most: int) -> int:
    """Raises:
    InputError: It is no whole number from `least` to `most`.
    """
    found = number(given, what, least, most)
    if not found.is_integer():
        raise InputError(f"{what} is a whole number.")
    return int(found)


def words(given: Any, what: str) -> str:
    """Raises:
    InputError: It is no text. Nothing at all is an empty one.
    """
    if given is None:
        return ""
    if not isinstance(given, str):
        raise InputError(f"{what} is text.")
    try:
        given.encode()
    except UnicodeEncodeError:  # half a character, which JSON can hold
        raise InputError(f"{what} holds half a character. Type it anew.") from None
    return given


def ticked(given: Any, what: str) -> bool:
    """Raises:
    InputError: It is neither yes nor no.
    """
    if not isinstance(given, bool):
        raise InputError(f"{what} is either ticked or not.")
    return given
