"""What one request may cost."""

from __future__ import annotations

from dataclasses import dataclass

from unirs.evaluation.seen_pictures import SEEN_BYTES

TOO_SLOW = "the answer took longer than this server allows; ask for a shorter one, or later"


class RequestError(ValueError):
    """A request that is not answered: `status` of HTTP, and a sentence for who sent it."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Args:
    request_bytes: Body, pictures as data included.
    fetched_bytes: One picture or clip from a URL.
    pixels: Of all pictures and frames of a request together.
    pictures: In a request; a clip counts as one.
    new_tokens: Longest answer; the default where a request names none.
    seconds: From when all of a request has arrived to its answer's end.
    waiting: Requests at a time; more are sent away at once.
    waiting_bytes: Their bodies together; above it, whoever is not alone is sent away.
    batch: Requests that are answered together.
    seen_bytes: What the model saw in the last pictures, kept for who asks again.
    """

    request_bytes: int = 32 * 2**20
    fetched_bytes: int = 64 * 2**20
    pixels: int = 64 * 10**6
    pictures: int = 64
    new_tokens: int = 512
    seconds: float = 60.0
    waiting: int = 128
    waiting_bytes: int = 512 * 2**20
    batch: int = 16
    seen_bytes: int = SEEN_BYTES
