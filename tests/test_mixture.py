"""Weights of data sets and the order of an epoch."""

from collections import Counter

import numpy as np
import pytest
from unirs.trainers.data_sets import DataError, Generated
from unirs.trainers.mixture import EpochSampler, Mixture
from unirs.trainers.packing import fill_rows, padding_share, share_out


class Words:
    """A data set of numbered rows; the answer tells the repetition."""

    def __init__(self, name, count):
        self.name, self.count = name, count

    def __len__(self):
        return self.count

    def row(self, index, repetition=0):
        return {
            "id": f"{self.name}{index}",
            "task": "text",
            "messages": [{"role": "assistant", "content": repetition}],
        }


def test_a_weight_shows_every_sample_so_often_with_another_answer_each_time():
    mixture = Mixture([(Words("a", 3), 1), (Words("b", 2), 5)])
    shown = [(row["id"], row["messages"][0]["content"]) for row in map(mixture.row, range(len(mixture)))]
    assert Counter(shown) == Counter(
        [(f"a{k}", 0) for k in range(3)] + [(f"b{k}", n) for k in range(2) for n in range(5)]
    )


def test_each_caption_of_a_generated_pair_comes_once_in_five_repetitions():
    data = Generated("pair", count=1, size=32)
    answers = {data.row(0, repetition)["messages"][1]["content"] for repetition in range(5)}
    assert len(answers) == 5


def test_train_and_test_scenes_have_no_seed_in_common():
    ids = [{Generated("single", 3, split, size=32).row(k)["id"] for k in range(3)} for split in ("train", "test")]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    ("parts", "reason"), [([], "empty"), ([(Words("a", 0), 1)], "no sample"), ([(Words("a", 1), 0)], "repeat")]
)
def test_a_mixture_without_samples_is_refused(parts, reason):
    with pytest.raises(DataError, match=reason):
        Mixture(parts)


def test_an_epoch_shows_all_samples_once_and_its_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch, lengths=None):
        sampler = EpochSampler(100, 8, seed, lengths)
        sampler.epoch = epoch
        return list(sampler)

    lengths = np.random.default_rng(0).integers(10, 1000, 100)
    for known in (None, lengths):
        first = order(1, 0, known)
        np.random.default_rng().random(7)  # nobody else's generator matters
        assert first == order(1, 0, known)
        assert sorted(first) == list(range(100))
        assert len({tuple(order(seed, epoch, known)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_grouping_puts_like_lengths_into_a_batch():
    lengths = np.random.default_rng(0).choice([230, 1600], 400)
    grouped = EpochSampler(400, 8, 0, lengths)
    batches = np.array(list(grouped)).reshape(-1, 8)
    mixed = sum(len(set(lengths[batch])) > 1 for batch in batches)
    assert mixed <= 2  # one where the two lengths meet, in each of two megabatches
    long_first = [lengths[batch].max() for batch in batches]
    assert long_first != sorted(long_first, reverse=True)  # batches themselves are shuffled


def test_padding_share_by_hand():
    assert padding_share([10, 30, 20, 20], 2, packed=False) == pytest.approx(20 / 100)  # (10+30) in 60, 40 in 40
    assert padding_share([10, 30, 20, 20], 4, packed=True) == 0


def test_rows_hold_every_sample_once_and_never_more_than_their_capacity():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = rng.integers(1, 1700, rng.integers(1, 40)).tolist()
        capacity = max(lengths) + int(rng.integers(0, 500))
        for rows in (fill_rows(lengths, capacity), share_out(lengths), share_out(lengths, one_row=True)):
            assert sorted(member for row in rows for member in row) == list(range(len(lengths)))
        assert max(sum(lengths[m] for m in row) for row in fill_rows(lengths, capacity)) <= capacity


def test_eight_equal_samples_fill_two_rows_without_padding():
    """Filling rows of 2,048 tokens to the brim would put seven of 260 into the first and one into the second."""
    assert [len(row) for row in share_out([260] * 8)] == [4, 4]
