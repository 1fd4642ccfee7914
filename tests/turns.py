"""What a turn of a training conversation says."""

from __future__ import annotations

from typing import Any


def words_of(turn: dict[str, Any]) -> str:
    """Its text, without the clue and the pictures beside it."""
    content = turn["content"]
    return content if isinstance(content, str) else " ".join(one["text"] for one in content if one["type"] == "text")
