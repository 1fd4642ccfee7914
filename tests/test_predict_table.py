"""Tables of `unirs predict`, record by record, without a model."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.spec import AbstractBufferedFile
from unirs.trainers.data_sets import DataError

from tests.tiny import picture
from unirs.predicting import table as table_module
from unirs.predicting.rows import read_row
from unirs.predicting.table import Table

BOUND = "a quote is not closed within 2 lines"


def questions_of(table):
    """Of each record its question, or its error."""
    return [record.error or record.values["question"] for record in table]


class Stored(AbstractBufferedFile):
    """As a store's files are: no `readline` of a part of a line."""

    def __init__(self, content: bytes):
        self.content = content
        super().__init__(None, "stored", "rb", size=len(content))

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.content[start:end]


def test_only_the_line_of_a_quote_that_is_not_closed_is_lost(tmp_path, monkeypatch):
    """All lines behind it were one row with an error, and the count hid them. A cell of several lines stays one."""
    lines = ["image,question", *(f"a.png,{number}" for number in range(2, 9))]
    lines[3], lines[6] = 'a.png,"4', 'a.png,"7,\n8 and ""9"""\n'  # of the file's lines
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    quoted, told = (
        '7,\n8 and "9"',
        "is no line of CSV (',' expected after '\"'; line 4 of the file, read on to line 7)",
    )
    assert questions_of(Table(str(path))) == ["2", "3", told, "5", "6", quoted, "8"]
    assert [record.number for record in Table(str(path))] == [1, 2, 3, 4, 5, 6, 7]
    # one that no quote follows, in a store's file too
    content = "\r\n".join([*lines[:6], *lines[7:], ""]).encode()
    end = "is no line of CSV (unexpected end of data; line 4 of the file, read on to line 7)"
    monkeypatch.setattr(table_module, "open_file", lambda path: Stored(content))
    table = Table(str(path))
    assert (len(table), questions_of(table)) == (6, ["2", "3", end, "5", "6", "8"])
    # of a long table only some lines are read again
    monkeypatch.setattr(table_module, "LONGEST_RECORD", 2)
    assert questions_of(table) == ["2", "3", end.replace("unexpected end of data", BOUND).replace("7", "5"), *"568"]


def test_lines_behind_a_quote_that_another_closes_are_read_if_the_cells_do_not_fit(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('image,question\na.png,"2\na.png,3\na.png,4",x\na.png,5\n')
    told = "has 3 cells, and the head has 2 (line 2 of the file, read on to line 4)"
    alone = "has 3 cells, and the head has 2 (line 4 of the file)"
    assert questions_of(Table(str(path))) == [told, "3", alone, "5"]


def test_a_file_that_comes_into_the_folder_later_pushes_no_other_out(tmp_path):
    for name in ("b.png", "c.png"):
        picture(1).save(tmp_path / name)
    rows = Table(str(tmp_path))
    picture(1).save(tmp_path / "a.png")
    assert (len(rows), [record.id for record in rows]) == (2, ["b.png", "c.png"])


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_column_that_is_there_twice_is_told(tmp_path, name):
    """Of two `image` columns the last one was asked about, without a word."""
    if name == "t.csv":
        (tmp_path / name).write_text("image,question,image\na.png,Is it?,b.png\n")
    else:
        cells = [pa.array(["a.png"]), pa.array(["b.png"])]
        pq.write_table(pa.Table.from_arrays(cells, names=["image", "image"]), tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: has 2 columns named image; leave one"):
        Table(str(tmp_path / name))


def test_spaces_around_the_names_of_columns_are_none_of_theirs(tmp_path):
    """The questions of such a table were left out, and "Not read: question" did not tell why."""
    (tmp_path / "t.csv").write_text("image, question ,\tid\na.png,Is it?,7\n")
    rows = Table(str(tmp_path / "t.csv"))
    assert (rows.unread, [record.values for record in rows]) == (
        [],
        [{"image": "a.png", "question": "Is it?", "id": "7"}],
    )


def test_a_cell_of_blanks_is_an_empty_one(tmp_path):
    """The row was asked " ", not the question of the command; and a blank `before` was a second kind of picture."""
    (tmp_path / "t.csv").write_text("image,before,question\na.png, ,  \n")
    (record,) = Table(str(tmp_path / "t.csv"))
    (message,) = read_row(record, str(tmp_path), "Is it?").messages
    assert message["content"] == [
        {"type": "image", "image": str(tmp_path / "a.png")},
        {"type": "text", "text": "Is it?"},
    ]


def test_the_index_that_pandas_writes_is_no_column_that_is_missed(tmp_path):
    (tmp_path / "t.csv").write_text(",image,note\n0,a.png,x\n")
    assert Table(str(tmp_path / "t.csv")).unread == ["note"]


def test_ids_of_parquet_that_are_not_marked_as_text_are_text(tmp_path):
    """Rows went by `b'one'`, which no other table calls them."""
    pq.write_table(pa.table({"id": [b"one", None], "image": ["a.png", "b.png"]}), tmp_path / "t.parquet")
    assert [record.id for record in Table(str(tmp_path / "t.parquet"))] == ["one", "2"]


def test_a_csv_that_is_no_utf8_is_told(tmp_path):
    (tmp_path / "t.csv").write_text("image\na.png\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"t.csv: its head is no UTF-8 text; save the table as UTF-8"):
        Table(str(tmp_path / "t.csv"))


@pytest.mark.parametrize("end", ["\n", ""], ids=["ended", "cut off"])
def test_a_line_without_an_end_is_one_bad_row_and_is_not_kept_in_memory(tmp_path, monkeypatch, end):
    monkeypatch.setattr(table_module, "LONGEST_LINE", 40)
    path = tmp_path / "long.jsonl"
    exact = json.dumps({"image": "x" * 27}) + "\n"
    assert len(exact) == 41  # its end does not count
    path.write_text(f'{{"image": "a.png"}}\n{"y" * 1000}\n\n{exact}{"z" * 41}{end}')
    rows = list(Table(str(path)))
    assert [row.values.get("image") for row in rows] == ["a.png", None, "x" * 27, None]
    assert [row.number for row in rows] == [1, 2, 3, 4]
    assert [bool(row.error) for row in rows] == [False, True, False, True]
    assert "40 bytes" in rows[1].error


def test_lines_of_a_stores_file_are_read_as_those_of_a_local_one(monkeypatch, tmp_path):
    content = b'{"image": "a.png"}\n{"image": "b.png"}'
    with pytest.raises(TypeError):
        Stored(content).readline(5)
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    monkeypatch.setattr(table_module, "open_file", lambda path: Stored(content))
    assert [row.values["image"] for row in Table(str(path))] == ["a.png", "b.png"]


def test_two_colons_in_a_name_chain_no_stores(tmp_path, monkeypatch):
    """fsspec reads `simplecache::s3://...` as one store through another; a file's name may have them all the same."""
    monkeypatch.chdir(tmp_path)
    for name in ("a::b.csv", "simplecache::c.csv"):
        (tmp_path / name).write_text("image,question\na.png,2\n")
        assert questions_of(Table(name)) == ["2"]
    with pytest.raises(DataError, match="'::'"):
        Table("memory://archive/t.csv::s3://bucket/t.csv")
