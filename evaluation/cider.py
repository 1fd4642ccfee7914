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
        # Each n-gram of each distinct set once, as numbers of both, for the document frequencies.
        use, entry = self.sentences.expand(self.sentence_of_use)
        grams = len(self.ids)
        self.set_of_gram, self.gram_of_set = np.divmod(
            np.unique(self.set_of_use[use] * grams + self.sentences.gram[entry]), grams
        )
        # Where each n-gram stands, to find all sentences that have it.
        self.entries_by_gram = np.argsort(self.sentences.gram, kind="stable")
        self.entries_of_gram = np.bincount(self.sentences.gram)
        self._weigh()

    def part(self, places: Sequence[int]) -> CiderD:
        """The same for some of the pairs, as if there were no others."""
        part = copy.copy(self)
        part.set_of_pair = self.set_of_pair[places]
        part._weigh()
        return part

    def _weigh(self) -> None:
        """Inverse document frequencies log(pairs / pairs with the n-gram), and what follows from them."""
        pairs_of_set = np.bincount(self.set_of_pair, minlength=self.set_of_use[-1] + 1)
        frequency = np.bincount(self.gram_of_set, weights=pairs_of_set[self.set_of_gram])
        self.log_pairs = np.log(len(self.set_of_pair))
        self.idf = self.log_pairs - np.log(np.maximum(1.0, frequency))
        self.norms = self.sentences.norms(self.idf)  # (sentences, orders)

    def scores(self, captions: Sequence[str]) -> np.ndarray:
        """Times 100, of one normalised caption for each pair: `(pairs,)`."""
        distinct: dict[str, int] = {}
        said = np.array([distinct.setdefault(caption, len(distinct)) for caption in captions])
        spoken, idf = self._spoken(distinct)
        # each distinct task (caption, set) meets every sentence of its set; uses are sorted by set
        sizes = np.bincount(self.set_of_use)
        tasks, task_of_pair = np.unique(said * len(sizes) + self.set_of_pair, return_inverse=True)
        caption, references = np.divmod(tasks, len(sizes))
        task, place = _ranges(sizes[references])
        use = (np.cumsum(sizes) - sizes)[references[task]] + place
        caption, sentence = caption[task], self.sentence_of_use[use]  # (meetings,)
        product = self._products(spoken, caption, sentence, idf)
        similarity = self._similarity(product, spoken, caption, sentence, idf)
        mean = np.bincount(task, weights=similarity, minlength=len(tasks)) / sizes[references]
        return 100 * SCALE * mean[task_of_pair.reshape(-1)]

    def scores_of_all(self, caption: str) -> np.ndarray:
        """The same of one caption that is said of every pair, found from its n-grams: `(pairs,)`."""
        spoken, idf = self._spoken([caption])
        known = np.flatnonzero(spoken.gram < len(self.entries_of_gram))
        sizes = self.entries_of_gram[spoken.gram[known]]
        which, place = _ranges(sizes)
        starts = np.cumsum(self.entries_of_gram) - self.entries_of_gram
        own = known[which]  # the caption's entry, and below the sentences' that have the same n-gram
        entry = self.entries_by_gram[starts[spoken.gram[own]] + place]
        slot = self.sentences.owner[entry] * ORDERS + spoken.order[own]
        sentences = np.arange(len(self.sentences.sizes))
        product = _sums(slot, self._weight(spoken, own, self.sentences.count[entry], idf), len(sentences))
        similarity = self._similarity(product, spoken, np.zeros_like(sentences), sentences, idf)
        mean = np.bincount(self.set_of_use, weights=similarity[self.sentence_of_use]) / np.bincount(self.set_of_use)
        return 100 * SCALE * mean[self.set_of_pair]

    def _spoken(self, captions: Iterable[str]) -> tuple[_Ngrams, np.ndarray]:
        """n-grams of captions, and the weights of all n-grams that are known by now."""
        spoken = self._ngrams(captions)
        # A word that no reference has is in no pair: document frequency 1, as pycocoevalcap has it.
        return spoken, np.append(self.idf, np.full(len(self.ids) - len(self.idf), self.log_pairs))

    def _ngrams(self, sentences: Iterable[str]) -> _Ngrams:
        counts = [self.counted[one] if one in self.counted else count_ngrams(one) for one in sentences]
        return _Ngrams(counts, self.ids)

    def _products(self, spoken: _Ngrams, caption: np.ndarray, sentence: np.ndarray, idf: np.ndarray) -> np.ndarray:
        """Clipped dot products of the tf-idf vectors of each (caption, sentence): `(meetings, orders)`."""
        meeting, own = spoken.expand(caption)
        wanted = sentence[meeting] * SHIFT + spoken.gram[own]
        at = np.minimum(np.searchsorted(self.known, wanted), len(self.known) - 1)
        count = np.where(self.known[at] == wanted, self.sentences.count[at], 0)
        return _sums(meeting * ORDERS + spoken.order[own], self._weight(spoken, own, count, idf), len(caption))

    @staticmethod
    def _weight(spoken: _Ngrams, own: np.ndarray, count: np.ndarray, idf: np.ndarray) -> np.ndarray:
        """What an n-gram adds that the sentence has `count` times: what is said more often does not count more."""
        return idf[spoken.gram[own]] ** 2 * np.minimum(spoken.count[own], count) * count

    def _similarity(
        self, product: np.ndarray, spoken: _Ngrams, caption: np.ndarray, sentence: np.ndarray, idf: np.ndarray
    ) -> np.ndarray:
        """Mean over orders of the cosines, with the penalty on a difference in length: `(meetings,)`."""
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
        return np.sqrt(_sums(self.owner * ORDERS + self.order, squares, len(self.sizes)))


def _sums(slots: np.ndarray, values: np.ndarray, rows: int) -> np.ndarray:
    """Sums of values by row and order: `(rows, orders)`."""
    return np.bincount(slots, weights=values, minlength=rows * ORDERS).astype(float).reshape(rows, ORDERS)


def _ranges(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """0..size-1 of each size, one behind the other: whose it is, and the number itself."""
    whose = np.repeat(np.arange(len(sizes)), sizes)
    return whose, np.arange(len(whose)) - (np.cumsum(sizes) - sizes)[whose]
