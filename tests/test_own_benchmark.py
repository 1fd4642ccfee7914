"""A user's own rows as a benchmark: what cannot be compared is told."""

import json

import pytest
from unirs.evaluation.benchmarks import load_benchmark
from unirs.trainers.data_sets import DataError


def own_rows(folder, *rows):
    said = [{"prompt": "?", "completion": answer, "images": ["a.png"], **more} for answer, more in rows]
    (folder / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in said))
    return folder / "rows.jsonl"


def test_spellings_of_a_class_are_one_class(tmp_path):
    rows = own_rows(tmp_path, ("Forest", {}), ("forest", {}), ("field", {}))
    assert load_benchmark("own", rows, metric="classes").classes == ("Forest", "field")


def test_class_without_a_letter_is_refused_and_unused_references_are_told(tmp_path):
    with pytest.raises(DataError, match="without a letter or digit"):
        load_benchmark("own", own_rows(tmp_path, ("field", {}), ("+", {})), metric="classes")
    rows = own_rows(tmp_path, ("field", {}), ("forest", {"references": ["woods"]}))
    assert "further references of 1 rows are not used" in load_benchmark("own", rows, metric="classes").problems[0]


def test_half_characters_in_an_id_leave_the_row_out(tmp_path):
    rows = own_rows(tmp_path, ("yes", {"id": "a\ud800"}), ("no", {"id": "b"}))
    benchmark = load_benchmark("own", rows, metric="vqa")
    assert [sample.id for sample in benchmark.samples] == ["b"]
    assert "half characters" in benchmark.problems[0]


def test_answers_of_marks_alone_are_no_references(tmp_path):
    """They could never be met, and their rows counted."""
    rows = own_rows(tmp_path, ("?", {}), ("!", {"references": ["yes", "..."]}))
    benchmark = load_benchmark("own", rows, metric="vqa")
    assert [one.references for one in benchmark.samples] == [("yes",)]
    assert benchmark.problems == [
        f"left out, it cannot be asked: {rows}, row 1: '?' is no answer to compare with; write one in words"
    ]


def test_pairs_of_which_some_have_no_kind_are_told(tmp_path):
    """One such row among thousands took change flag and `change_only` out of the report without a word."""
    rows = own_rows(tmp_path, ("a road", {"kind": "change"}), ("no change", {"kind": "no_change"}), ("a house", {}))
    assert load_benchmark("own", rows, metric="captions").problems == [
        "1 rows are neither of the kind change nor no_change, 2 first: there is no change flag and no change_only"
    ]
    assert load_benchmark("own", own_rows(tmp_path, ("a road", {})), metric="captions").problems == []
