"""What one visitor of the page may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Args:
    upload_bytes: Of one upload, all its files together.
    pixels: Of all pictures of a question together, of a clip's frames together, and of each raster of a map.
    files: Dated pictures of a sequence; also the most frames that are taken from a clip, if the model reads so many.
    characters: Of a question.
    new_tokens: Longest answer.
    seconds: Longest time for an answer's words, those of its clue included.
    clip_seconds: Longest time for reading a clip: a small file may hold days of frames.
    map_seconds: Longest time for a map, whose tiles are answered one batch after another.
    folder_bytes: All that visitors have uploaded and been shown; more is refused until some has been removed.
    kept_seconds: Uploads and results are removed after this time.
    """

    upload_bytes: int = 64 * 2**20
    pixels: int = 64 * 10**6
    files: int = 64
    characters: int = 2000
    new_tokens: int = 64
    seconds: float = 60.0
    clip_seconds: float = 15.0
    map_seconds: float = 600.0
    folder_bytes: int = 4 * 2**30
    kept_seconds: int = 1800
