"""Conversations of every kind for tests, and their clues and answers in one pass."""

from tests.tiny import encode, picture, user

CLIP = [picture(seed) for seed in range(3)]
# Singles, pairs, clips, a dated sequence of images, two turns of which the last one with pictures counts.
CONVERSATIONS = [
    user(picture(1), "Is there a road?"),
    user(picture(2), picture(3), "What has changed?"),
    user(CLIP, "Which event is this?"),
    user(*(picture(seed) for seed in (4, 5, 6)), "What happens?"),
    [
        *user(picture(7), "What is this?"),
        {"role": "assistant", "content": "a lake"},
        *user(picture(8), picture(9), "And what has changed here?"),
        {"role": "assistant", "content": "nothing"},
        {"role": "user", "content": "Are you sure?"},
    ],
]
LIMITS = {"max_new_tokens": 9}


def one_pass(augmenter, model, conversations):
    found = augmenter.generate(model, conversations, encode(augmenter.processor, conversations), **LIMITS)
    return found.clues, [strip(row.tolist()) for row in found.tokens]


def strip(tokens, end=2, padding=0):
    """Without what stands behind the end of an answer in a batch."""
    tokens = tokens[: tokens.index(end) + 1] if end in tokens else tokens
    while tokens and tokens[-1] == padding:
        tokens.pop()
    return tokens
