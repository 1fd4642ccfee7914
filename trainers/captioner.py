"""The captioner that Change Extraction is trained under: words, and one transformer decoder layer over them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")
PAD, START, END, UNKNOWN = range(len(SPECIAL))


class Vocabulary:
    """Words by number, the special ones first."""

    def __init__(self, words: Iterable[str]):
        self.words = (*SPECIAL, *words)
        self.numbers = {word: number for number, word in enumerate(self.words)}
        if len(self.numbers) != len(self.words):
            raise ValueError(f"{len(self.words) - len(self.numbers)} words of the vocabulary are there twice")

    @classmethod
    def of_captions(cls, captions: Iterable[str], min_count: int = 5) -> Vocabulary:
        """Every word that the captions have at least `min_count` times, in alphabetical order."""
        counts = Counter(word for caption in captions for word in caption.lower().split())
        return cls(sorted(word for word, count in counts.items() if count >= min_count and word not in SPECIAL))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, caption: str, longest: int) -> list[int]:
        """`<start>`, at most `longest` words, and `<end>` unless words had to be cut off."""
        numbers = [self.numbers.get(word, UNKNOWN) for word in caption.lower().split()]
        return [START, *numbers, END] if len(numbers) <= longest else [START, *numbers[:longest]]

    def decode(self, numbers: Iterable[int]) -> str:
        """The words before `<end>`; `<pad>` and `<start>` are no words."""
        words = []
        for number in numbers:
            if number == END:
                break
            if number not in (PAD, START):
                words.append(self.words[number])
        return " ".join(words)

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(self.words[len(SPECIAL) :], indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Vocabulary:
        return cls(json.loads(file.read_text(encoding="utf-8")))


class ChangeCaptioner(nn.Module):
    """Says fused features `(pairs, tokens, dim)` in words: one multi-head decoder layer, as in Chg2Cap.

    Args:
        dim: Channels of the features, and of the words.
        words: Length of the vocabulary.
        longest: Words that a caption may have.
        heads: Of the attention; must divide `dim`.
    """

    def __init__(self, dim: int, words: int, longest: int = 40, heads: int = 8, dropout: float = 0.1):
        super().__init__()
        self.longest = longest
        self.word_embedding = nn.Embedding(words, dim, padding_idx=PAD)
        self.position_embedding = nn.Embedding(longest + 1, dim)  # what is said goes in behind <start>
        self.layer = nn.TransformerDecoderLayer(dim, heads, dim_feedforward=4 * dim, dropout=dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, words)
        for weight in (self.word_embedding.weight, self.position_embedding.weight, self.head.weight):
            nn.init.uniform_(weight, -0.1, 0.1)  # Chg2Cap's; the default of N(0, 1) would drown the features
        nn.init.zeros_(self.head.bias)

    def forward(self, features: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Logits `(pairs, length, vocabulary)` of the word behind each of `words` `(pairs, length)`."""
        length = words.shape[1]
        if length > self.longest + 1:
            raise ValueError(f"a caption of {length - 1} words was given; the captioner has {self.longest} places")
        said = self.word_embedding(words) + self.position_embedding.weight[:length]  # (pairs, length, dim)
        later = torch.ones(length, length, dtype=torch.bool, device=words.device).triu(1)  # True = may not be seen
        hidden_states = self.layer(
            self.dropout(said), features, tgt_mask=later, tgt_key_padding_mask=words == PAD
        )  # (pairs, length, dim)
        return self.head(self.dropout(hidden_states))

    def loss(self, features: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of each word and `<end>` after the true words before; `words` as `encode`, padded."""
        logits = self(features, words[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten(), ignore_index=PAD)

    @torch.no_grad()
    def caption(self, features: torch.Tensor) -> torch.Tensor:
        """The likeliest word each time, until all pairs have ended: `(pairs, longest)`, padded behind `<end>`."""
        said = features.new_full((len(features), 1), START, dtype=torch.long)
        ended = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        while said.shape[1] <= self.longest and not ended.all():
            logits = self(features, said)[:, -1]  # (pairs, vocabulary)
            logits[:, [PAD, START, UNKNOWN]] = float("-inf")  # none of them is a word to say
            word = logits.argmax(-1).masked_fill(ended, PAD)
            said = torch.cat([said, word[:, None]], dim=1)
            ended |= word == END
        return F.pad(said[:, 1:], (0, self.longest + 1 - said.shape[1]), value=PAD)
