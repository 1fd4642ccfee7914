"""A clue as it may stand in a prompt: the words of another model are as little to be trusted as a user's."""

import re
import unicodedata
from collections.abc import Iterable

from .prompts_unirs import CHANGE_MARKER, IMAGE_MARKER, TASK_TAGS, VIDEO_MARKER

MARKERS = re.compile(rf"{IMAGE_MARKER}|{CHANGE_MARKER}|{VIDEO_MARKER}|<Frame\s*\d*>", re.IGNORECASE)
# What a model says after its answer when it talks on in both roles.
ROLES = re.compile(r"(?:USER|ASSISTANT|SYSTEM|HUMAN)\s*:|(?<![^\W\d_])(?i:user|assistant|human)\s*:")
TEMPLATE_WORDS = re.compile("|".join([r"clues?\s*:", *map(re.escape, TASK_TAGS.values())]), re.IGNORECASE)
# Drawn as nothing, though no control characters: joiners, variation selectors, fillers.
INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0]")
BRACKETS = re.compile(r"[<>{}]")  # of markers, of special tokens and of Jinja


def clean_clue(text: str, special_tokens: Iterable[str] = (), longest: int = 300) -> str:
    """One line without markers, special tokens, roles and words of the template; empty if no word is left.

    Args:
        special_tokens: Of the tokenizer.
        longest: In characters; the end is cut off behind a whole word.
    """
    specials = re.compile("|".join(map(re.escape, sorted(special_tokens, key=len, reverse=True))) or r"(?!)")
    before = None
    while text != before:  # what is taken out may bring parts of another one together
        before = text
        text = "".join(_plain(character) for character in unicodedata.normalize("NFKC", text))
        text = INVISIBLE.sub("", text)
        text = TEMPLATE_WORDS.sub(" ", specials.sub(" ", MARKERS.sub(" ", text)))
        text = BRACKETS.sub(" ", ROLES.split(text, maxsplit=1)[0])
        text = " ".join(text.split())
    if len(text) > longest:
        text = text[: longest + 1].rpartition(" ")[0] or text[:longest]
    return text if any(character.isalnum() for character in text) else ""


def _plain(character: str) -> str:
    """Line ends become spaces; control, invisible, private and half characters vanish."""
    if character.isspace():
        return " "
    return "" if unicodedata.category(character).startswith("C") else character


__all__ = ["clean_clue"]
