"""CIDEr-D of many captions against the same references, each distinct sentence looked at once.

pycocoevalcap's scorer gives the main figures. This gives the same numbers (tests/test_caption_floors.py) where that
would take seconds: captions that are tried on every pair, and a part of the pairs with its own document frequencies.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

ORDERS = 4  # n-grams of 1 to 4 words
SIGMA = 6.0  # of the penalty on a difference in length
SCALE = 10.0
SHIFT = 2**32  # `(sentence, n-gram)` as one number

Counts = Mapping[tuple[str, ...], int]  # n-gram -> how often it stands in the sentence


def count_ngrams(sentence: str) -> Counts:
    words = sentence.split()
    sizes = range(1, ORDERS + 1)
    return Counter(tuple(words[at : at + size]) for size in sizes for at in range(len(words) - size + 1))


class CiderD:
    """CIDEr-D (Vedantam et al., CVPR 2015) against fixed references.

    Args:
        references: The normalised captions of each pair; they also give the document frequencies.
        counted: n-grams with their counts of sentences, where somebody has counted them already.
    """

    def __init__(self, references: Sequence[Sequence[str]], counted: Mapping[str, Counts] | None = None):
        self.counted = counted or {}
        self.ids: dict[tuple[str, ...], int] = {}  # n-gram -> number
        sentences: dict[str, int] = {}
        sets: dict[tuple[str, ...], int] = {}  # half of LEVIR-CC's pairs have the same five captions
        self.set_of_pair = np.array([sets.setdefault(tuple(some), len(sets)) for some in references])
        owners = [(number, sentences.setdefault(one, len(sentences))) for some, number in sets.items() for one in some]
        self.set_of_use, self.sentence_of_use = np.array(owners).T  # (captions of all distinct sets,)
        self.sentences = self._ngrams(sentences)
        # Sorted, so a caption's n-grams are found in a sentence by bisection.
        self.known = self.sentences.owner * SHIFT + self.sentences.gram
        if not len(self.known):
            raise ValueError("no reference caption has any words")
        self._weigh()

    def part(self, places: Sequence[int]) -> CiderD:
        """The same for some of the pairs, as if there were no others."""
        part = copy.copy(self)
        part.set_of_pair = self.set_of_pair[places]
        part._weigh()
        return part

    def _weigh(self) -> None:
        """Inverse document frequencies log(pairs / pairs with the n-gram), and what follows from them."""
        use, entry = self.sentences.expand(self.sentence_of_use)
        grams = len(self.ids)
        once = np.unique(self.set_of_use[use] * grams + self.sentences.gram[entry])
        pairs_of_set = np.bincount(self.set_of_pair, minlength=self.set_of_use[-1] + 1)
        frequency = np.bincount(once % grams, weights=pairs_of_set[once // grams], minlength=grams)
        self.log_pairs = np.log(len(self.set_of_pair))
        self.idf = self.log_pairs - np.log(np.maximum(1.0, frequency))
        self.norms = self.sentences.norms(self.idf)  # (sentences, orders)

    def scores(self, captions: Sequence[str]) -> np.ndarray:
        """Times 100, of one normalised caption for each pair: `(pairs,)`."""
        distinct: dict[str, int] = {}
        said = np.array([distinct.setdefault(caption, len(distinct)) for caption in captions])
        spoken = self._ngrams(distinct)
        # A word that no reference has is in no pair: document frequency 1, as pycocoevalcap has it.
        idf = np.append(self.idf, np.full(len(self.ids) - len(self.idf), self.log_pairs))
        # each distinct task (caption, set) meets every sentence of its set; uses are sorted by set
        sizes = np.bincount(self.set_of_use)
        tasks, task_of_pair = np.unique(said * len(sizes) + self.set_of_pair, return_inverse=True)
        caption, references = np.divmod(tasks, len(sizes))
        task, place = _ranges(sizes[references])
        use = (np.cumsum(sizes) - sizes)[references[task]] + place
        similarity = self._similarity(spoken, caption[task], self.sentence_of_use[use], idf)
        mean = np.bincount(task, weights=similarity, minlength=len(tasks)) / sizes[references]
        return 100 * SCALE * mean[task_of_pair.reshape(-1)]

    def _ngrams(self, sentences: Iterable[str]) -> _Ngrams:
        counts = [self.counted[one] if one in self.counted else count_ngrams(one) for one in sentences]
        return _Ngrams(counts, self.ids)

    def _similarity(self, spoken: _Ngrams, caption: np.ndarray, sentence: np.ndarray, idf: np.ndarray) -> np.ndarray:
        """Mean over orders of the clipped cosine of each (caption, sentence), with the length penalty."""
        meeting, entry = spoken.expand(caption)
        gram = spoken.gram[entry]
        wanted = sentence[meeting] * SHIFT + gram
        at = np.minimum(np.searchsorted(self.known, wanted), len(self.known) - 1)
        count = np.where(self.known[at] == wanted, self.sentences.count[at], 0)
        weight = idf[gram] ** 2 * np.minimum(spoken.count[entry], count) * count
        slot = meeting * ORDERS + spoken.order[entry]
        product = np.bincount(slot, weights=weight, minlength=len(caption) * ORDERS).reshape(-1, ORDERS).astype(float)
        norms = spoken.norms(idf)[caption] * self.norms[sentence]  # (meetings, orders)
        cosine = np.divide(product, norms, out=np.zeros_like(product), where=norms != 0)
        apart = spoken.length[caption] - self.sentences.length[sentence]
        return cosine.mean(axis=1) * np.exp(-(apart**2) / (2 * SIGMA**2))


class _Ngrams:
    """Counted n-grams of sentences, as flat arrays: one entry for each n-gram of each sentence, sorted by both."""

    def __init__(self, sentences: Sequence[Counts], ids: dict[tuple[str, ...], int]):
        # pycocoevalcap's length of a sentence is the number of its word pairs.
        self.length = np.array([sum(count for one, count in some.items() if len(one) == 2) for some in sentences])
        self.sizes = np.array([len(some) for some in sentences])
        self.starts = np.cumsum(self.sizes) - self.sizes
        owner = np.repeat(np.arange(len(sentences)), self.sizes)
        gram = np.array([ids.setdefault(one, len(ids)) for some in sentences for one in some], int)
        order = np.array([len(one) - 1 for some in sentences for one in some], int)
        count = np.array([count for some in sentences for count in some.values()], float)
        ranks = np.lexsort((gram, owner))
        self.owner, self.gram, self.order, self.count = owner[ranks], gram[ranks], order[ranks], count[ranks]

    def expand(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Entries of the chosen sentences: for each, which choice it belongs to, and where it stands."""
        choice, place = _ranges(self.sizes[chosen])
        return choice, self.starts[chosen[choice]] + place

    def norms(self, idf: np.ndarray) -> np.ndarray:
        """Lengths of the tf-idf vectors, `(sentences, orders)`."""
        squares = (self.count * idf[self.gram]) ** 2
        slots = self.owner * ORDERS + self.order
        return np.sqrt(np.bincount(slots, weights=squares, minlength=len(self.sizes) * ORDERS)).reshape(-1, ORDERS)


def _ranges(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """0..size-1 of each size, one behind the other: whose it is, and the number itself."""
    whose = np.repeat(np.arange(len(sizes)), sizes)
    return whose, np.arange(len(whose)) - (np.cumsum(sizes) - sizes)[whose]
