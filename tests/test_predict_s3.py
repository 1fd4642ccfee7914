"""`unirs predict` over the protocol of S3: table, pictures and output in a store that moto plays on this machine."""

import io
import json
import os
import urllib.request

import pyarrow.parquet as pq
import pytest

from tests.predicting import predict_until_killed
from tests.tiny import picture
from unirs.predicting.output import journal_of

WHY = "pip install 'moto[server]' s3fs"
server = pytest.importorskip("moto.server", reason=WHY)
s3fs = pytest.importorskip("s3fs", reason=WHY)
boto3 = pytest.importorskip("boto3", reason=WHY)

TABLE = "s3://archive/scenes/table.jsonl"
COUNT = 10
MISSING, CUT = 4, 7  # their places in the table


def png(seed):
    file = io.BytesIO()
    picture(seed, 28, 24).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def store(monkeypatch):
    """A client of a store with a table of singles and pairs: one picture is missing, one is cut."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ACCESS_KEY_ID", "who"),
        ("AWS_SECRET_ACCESS_KEY", "knows"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="archive")
    rows = []
    for number in range(COUNT):
        one, other = f"{number}.png", f"{(number + 1) % MISSING}.png"
        rows.append({"image": one} if number % 2 else {"before": one, "after": other})
        if number != MISSING:
            content = png(number)[: 300 if number == CUT else None]
            client.put_object(Bucket="archive", Key=f"scenes/{one}", Body=content)
    lines = "".join(json.dumps({"question": "What?", **row}) + "\n" for row in rows)
    client.put_object(Bucket="archive", Key="scenes/table.jsonl", Body=lines.encode())
    yield client
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


def allow(requests):
    """How many requests moto answers, from here on, without a look at their keys."""
    address = os.environ["AWS_ENDPOINT_URL"] + "/moto-api/reset-auth"
    urllib.request.urlopen(urllib.request.Request(address, requests, {"Content-Type": "text/plain"}))


def content(store, key):
    return store.get_object(Bucket="archive", Key=key)["Body"].read()


def test_killed_run_goes_on_and_bad_pictures_are_told(store, unirs, tmp_path):
    words = [TABLE, "--max-new-tokens", "6", "--batch-size", "2", "--output"]
    journal = tmp_path / journal_of("s3://archive/answers/out.parquet")
    predict_until_killed([*words, "s3://archive/answers/out.parquet"], tmp_path, journal, 4)
    assert store.list_objects_v2(Bucket="archive", Prefix="answers/")["KeyCount"] == 0
    known = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    code, out, err = unirs("predict", *words, "s3://archive/answers/out.parquet", "--json")
    assert (code, json.loads(out)["errors"]) == (0, 2), err
    assert json.loads(out)["went_on_from"] == sum(line["error"] is None for line in known)
    rows = pq.read_table(io.BytesIO(content(store, "answers/out.parquet"))).to_pylist()
    assert [row["row"] for row in rows] == list(range(1, COUNT + 1))
    assert [row["row"] - 1 for row in rows if row["error"]] == [MISSING, CUT]
    assert "no such file" in rows[MISSING]["error"]
    assert not list(tmp_path.glob("*.writing"))
    code, _, err = unirs("predict", *words, "s3://archive/answers/out.jsonl")
    lines = list(map(json.loads, content(store, "answers/out.jsonl").splitlines()))
    assert [line["answer"] for line in lines] == [row["answer"] for row in rows]
    # mended, the two are asked by the same command
    for number in (MISSING, CUT):
        store.put_object(Bucket="archive", Key=f"scenes/{number}.png", Body=png(number))
    code, out, err = unirs("predict", *words, "s3://archive/answers/out.parquet", "--json")
    found = json.loads(out)
    assert (code, found["answered"], found["went_on_from"]) == (0, COUNT, COUNT - 2), err
    assert not journal.exists()


def test_output_is_whole_or_not_there(store, tmp_path, monkeypatch):
    from unirs.trainers.data_sets import DataError

    from unirs.predicting.output import write_output

    monkeypatch.chdir(tmp_path)

    def broken():
        yield {"row": 1}
        raise OSError("the journal's disk is gone")

    for ending in ("jsonl", "parquet"):
        with pytest.raises(DataError, match="cannot be written"):
            write_output(broken(), f"s3://archive/half.{ending}", False)
    assert store.list_objects_v2(Bucket="archive", Prefix="half")["KeyCount"] == 0


def test_wrong_buckets_and_credentials_are_one_sentence(store, unirs):
    for words, message in (
        (["s3://nobody/t.jsonl", "--output", "out.jsonl"], "s3://nobody/t.jsonl: no such file or folder"),
        (["s3://archive/scenes/no.csv", "--output", "out.jsonl"], "no.csv: no such file or folder"),
        ([TABLE, "--output", "s3://nobody/out.jsonl"], "there is no bucket 'nobody'"),
        ([TABLE, "--output", TABLE], "is the table itself"),
    ):
        code, out, err = unirs("predict", *words)
        assert (code, err.count("\n")) == (2, 1), (words, out, err)
        assert message in err
    try:
        allow(b"0")  # moto looks at keys from here on
        for words in ([TABLE, "--output", "out.jsonl"], ["t.csv", "--output", "s3://archive/out.jsonl"]):
            s3fs.S3FileSystem.clear_instance_cache()
            code, out, err = unirs("predict", *words)
            assert (code, err.count("\n")) == (2, 1), (words, out, err)
            assert "check the store's credentials" in err
    finally:
        allow(b"inf")
