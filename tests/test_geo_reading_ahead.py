"""Tiles are read while the model is busy, and nothing of it is lost on the way."""

import threading
import time

import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[geo]'")
from unirs.geo.tile_reader import read_ahead


def test_the_next_batch_is_read_while_this_one_is_looked_at():
    begun = [threading.Event() for _ in range(6)]

    def read():
        for number, event in enumerate(begun):
            event.set()
            yield number

    seen = []
    for number in read_ahead(read):
        if number + 1 < len(begun):
            assert begun[number + 1].wait(30)  # without a thread it would not begin before the next turn
        seen.append(number)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_no_more_is_read_than_fits_in_front_of_the_model():
    read_so_far = []

    def read():
        for number in range(100):
            read_so_far.append(number)
            yield number

    batches = read_ahead(read, ahead=2)
    next(batches)
    time.sleep(0.3)
    assert len(read_so_far) <= 5  # one taken, two waiting, one in hand
    batches.close()


def test_errors_come_out_where_they_can_be_handled():
    def read():
        yield 1
        raise ValueError("tile r0000c0001 is broken")

    batches = read_ahead(read)
    assert next(batches) == 1
    with pytest.raises(ValueError, match="r0000c0001"):
        next(batches)


def test_the_thread_ends_when_nobody_takes_any_more():
    before = threading.active_count()

    def read():
        while True:
            yield 0

    batches = read_ahead(read)
    next(batches)
    batches.close()
    assert threading.active_count() == before
