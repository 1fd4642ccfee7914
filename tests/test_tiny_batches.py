"""In which order stage 2 of the embedded checkpoint goes through its conversations."""

from collections import Counter
from pathlib import Path

from unirs.trainers.tiny_tuning import Schedule, in_batches_of_one_kind


def test_batches_hold_one_kind_and_every_row_as_often_as_any_other():
    rows = [{"kind": kind, "row": row} for kind, count in (("a", 40), ("b", 40), ("c", 20)) for row in range(count)]
    ordered = in_batches_of_one_kind(rows, Schedule(30, 10, 1e-3, 0, Path(), 0))
    batches = [ordered[start : start + 10] for start in range(0, 300, 10)]
    assert all(len({row["kind"] for row in batch}) == 1 for batch in batches)
    assert set(Counter((row["kind"], row["row"]) for row in ordered).values()) == {3}
    turns = "".join(batch[0]["kind"] for batch in batches)
    assert "ab" in turns
    assert "ba" in turns
    assert ordered != in_batches_of_one_kind(rows, Schedule(30, 10, 1e-3, 1, Path(), 0))


def test_a_row_that_an_epoch_holds_three_times_waits_for_all_others_of_its_kind():
    rows = [{"kind": "a", "row": row} for row in range(20)] * 3 + [{"kind": "b", "row": row} for row in range(60)]
    ordered = in_batches_of_one_kind(rows, Schedule(24, 5, 1e-3, 0, Path(), 0))
    seen = [row["row"] for row in ordered if row["kind"] == "a"]
    assert len(seen) == 60  # its share is that of all its rows
    assert all(set(seen[start : start + 20]) == set(range(20)) for start in (0, 20, 40))


def test_fewer_rows_than_a_batch_still_fill_one():
    ordered = in_batches_of_one_kind(
        [{"kind": "a", "row": row} for row in range(3)], Schedule(2, 4, 1e-3, 0, Path(), 0)
    )
    assert len(ordered) == 8
    assert {row["row"] for row in ordered[:4]} == {0, 1, 2}
