"""`unirs map` as a user types it, on a tiny random model."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[geo]'")
import geopandas
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from tests.rasters import LEFT, PIXEL, TOP, scene, write

QUICK = ("--tile", 32, "--max-new-tokens", 3, "--batch-size", 4)


@pytest.fixture
def pair(tmp_path):
    """Two dates of one place; two of twelve tiles differ."""
    before = scene(width=128, height=96)
    after = before.copy()
    after[:, 32:64, 64:96] = 255 - after[:, 32:64, 64:96]
    after[:, 70:90, 5:25] = 0
    return write(tmp_path / "town_20190501.tif", before), write(tmp_path / "town_2021-07-02.tif", after)


def features(path):
    return json.loads(path.read_text())["features"]


def test_changed_tiles_alone_get_captions(unirs, checkpoint, pair, tmp_path):
    code, out, err = unirs("map", *pair, "--output", "c.geojson", "--threshold", 0.05, "--model", checkpoint, *QUICK)
    assert code == 0, err
    found = features(tmp_path / "c.geojson")
    assert [one["properties"]["tile"] for one in found] == ["r0001c0002", "r0002c0000"]
    assert {(one["properties"]["before"], one["properties"]["after"]) for one in found} == {
        ("2019-05-01", "2021-07-02")
    }
    assert out == "2 changes from 2 of 12 tiles: c.geojson\n"
    assert re.search(r"spared 10 tiles \(83%\), (about \d+ s|less than a second) of its time\.", err)
    assert not (tmp_path / "c.geojson.journal").exists()


def test_json_and_every_output(unirs, checkpoint, pair, tmp_path):
    outputs = ("--heatmap", "h.tif", "--preview", "p.png", "--html", "m.html")
    code, out, err = unirs(
        "map", *pair, "--output", "c.gpkg", *outputs, "--threshold", 0.05, "--merge", "--json", "--shift",
        "--dates", "old,</script>", "--model", checkpoint, *QUICK,
    )  # fmt: skip
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["tiles"], found["captioned"], found["broken"], found["without_data"]) == (12, 2, [], 0)
    assert [found[name] for name in ("output", "heatmap", "preview", "html")] == ["c.gpkg", "h.tif", "p.png", "m.html"]
    assert any("Shift of" in note for note in found["notes"])
    with rasterio.open(tmp_path / "h.tif") as heat, rasterio.open(pair[0]) as before:
        assert (heat.shape, heat.transform, heat.crs) == (before.shape, before.transform, before.crs)
        values = heat.read(1)
    assert values[40, 80] > 0
    assert values[:32].max() == 0
    with Image.open(tmp_path / "p.png") as preview:
        assert preview.width > 128 + 300
    assert len(geopandas.read_file(tmp_path / "c.gpkg")) == found["changes"] == 2
    assert '"tile": "r0001c0002"' in (tmp_path / "m.html").read_text()


class Resources(HTMLParser):
    """Everything that a page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.scripts = 0

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]


def test_the_page_fetches_nothing_and_captions_cannot_break_out(unirs, checkpoint, pair, tmp_path):
    code, _, err = unirs(
        "map", *pair, "--output", "c.geojson", "--html", "m.html", "--threshold", 0.05,
        "--dates", "<!--,</script><script>alert(1)", "--model", checkpoint, *QUICK,
    )  # fmt: skip
    assert code == 0, err
    page = (tmp_path / "m.html").read_text()
    resources = Resources()
    resources.feed(page)
    assert (resources.found, resources.scripts) == ([], 1)
    assert "default-src 'none'" in page
    assert set(re.findall(r"https?://[^\s\"')]+", page)) == {"http://www.w3.org/2000/svg"}
    data = json.loads(re.search(r"const data = (\{.*\});\nconst at", page)[1])
    assert data["labels"] == ["<!--", "</script><script>alert(1)"]
    assert len(data["changes"]) == 2
    assert all(one.startswith("data:image/jpeg;base64,") for one in data["dates"])


def test_more_dates_describe_each_step_and_the_sequence(unirs, checkpoint, pair, tmp_path):
    third = write(tmp_path / "town_2023-01-01.tif", scene(width=128, height=96))
    code, out, err = unirs(
        "map", *pair, third, "--output", "c.geojson", "--threshold", 0.05, "--model", checkpoint,
        "--heatmap", "h.tif", *QUICK,
    )  # fmt: skip
    assert code == 0, err
    found = [one["properties"] for one in features(tmp_path / "c.geojson")]
    steps = [("2019-05-01", "2021-07-02"), ("2021-07-02", "2023-01-01")]
    tiles = ["r0001c0002", "r0002c0000"]
    assert [(one["tile"], (one["before"], one["after"])) for one in found if one["kind"] == "tile"] == [
        (tile, step) for tile in tiles for step in steps
    ]
    assert out == "4 changes in 2 steps from 2 of 12 tiles, 2 captions of all dates together: c.geojson\n"
    assert "spared 20 pairs of tiles (83%)" in err
    assert "What is said about all dates together (kind: sequence) is outside of the model's training" in err
    assert {one["kind"] for one in found if not one["in_training_domain"]} == {"sequence"}
    whole = [one for one in found if one["kind"] == "sequence"]
    assert [one["tile"] for one in whole] == tiles
    assert {(one["before"], one["after"]) for one in whole} == {("2019-05-01", "2023-01-01")}
    with rasterio.open(tmp_path / "h.tif") as file:
        assert file.count == 2
        np.testing.assert_allclose(file.read(1), file.read(2), atol=0.005)  # there and back


def test_more_dates_than_the_model_reads_are_refused_before_any_tile_is_looked_at(unirs, checkpoint, pair, tmp_path):
    short = shutil.copytree(checkpoint, tmp_path / "short")
    config = json.loads((short / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 40
    (short / "config.json").write_text(json.dumps(config))
    asked = (*pair, pair[0], "--pixel", "--dates", "1,2,3", "--output", "c.geojson", "--model", short, *QUICK)
    code, _, err = unirs("map", *asked)
    assert code == 2
    assert re.search(
        r"3 dates and the answer make \d+ tokens and the model reads 40; give fewer dates$", err.splitlines()[-1]
    )
    assert not (tmp_path / "c.geojson").exists()


def test_places_without_data_are_no_change(unirs, checkpoint, pair, tmp_path):
    small = scene(width=128, height=96)[:, :64]
    after = write(tmp_path / "small.tif", small, transform=from_origin(LEFT, TOP, PIXEL, PIXEL))
    code, out, err = unirs(
        "map", pair[0], after, "--output", "c.geojson", "--heatmap", "h.tif", "--threshold", 0.01,
        "--model", checkpoint, *QUICK,
    )  # fmt: skip
    assert code == 0, err
    assert out.startswith("0 changes from 0 of 8 tiles")
    assert "All dates show at most 67% of the first one's extent." in err
    with rasterio.open(tmp_path / "h.tif") as heat:
        values = heat.read(1)
    assert np.isnan(values[64:]).all()
    assert (values[:64] == 0).all()


def test_sar_is_marked_as_outside_of_the_training(unirs, checkpoint, tmp_path):
    power = [10 ** (scene(seed, bands=2, dtype=np.float32, high=20) / 10 - 2) for seed in (0, 1)]
    paths = [write(tmp_path / f"{n}.tif", one, descriptions=["VV", "VH"]) for n, one in enumerate(power)]
    code, _, err = unirs("map", *paths, "--output", "c.geojson", "--threshold", 0.01, "--model", checkpoint, *QUICK)
    assert code == 0, err
    assert "outside of its training" in err
    collection = json.loads((tmp_path / "c.geojson").read_text())
    assert any("outside of its training" in note for note in collection["unirs"]["notes"])
    assert {one["properties"]["in_training_domain"] for one in collection["features"]} == {False}


def test_a_broken_tile_is_named_and_skipped_only_on_request(unirs, checkpoint, pair, tmp_path):
    whole = tmp_path / "tiled.tif"
    with rasterio.open(pair[1]) as file:
        write(whole, file.read(), tiled=True, blockxsize=32, blockysize=32, compress="deflate")
    data = bytearray(whole.read_bytes())
    with rasterio.open(whole) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    data[offset : offset + 40] = b"\xff" * 40
    whole.write_bytes(data)
    command = ("map", pair[0], whole, "--output", "c.geojson", "--threshold", 0.05, "--model", checkpoint, *QUICK)
    code, _, err = unirs(*command)
    assert code == 2
    assert err.splitlines()[-1].startswith("unirs: tile r0001c0001: ")
    assert "tiled.tif: cannot be read at columns 32 to 64, rows 32 to 64" in err
    assert "--resume --skip-broken leaves such tiles out" in err
    code, _, err = unirs(*command, "--resume", "--skip-broken", "--shift", "--preview", "p.png", "--html", "m.html")
    assert (code, "Left out: tile r0001c0001" in err) == (0, True)
    with Image.open(tmp_path / "p.png") as preview:
        assert len(preview.convert("L").crop((24, 24, 120, 100)).getcolors(256)) > 50  # the rest is there
    assert json.loads((tmp_path / "c.geojson").read_text())["unirs"]["broken_tiles"] == ["r0001c0001"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("{a}", "--output", "c.geojson"), "given 1 file; a map needs two dates"),
        (("{a}", "absent.tif", "--output", "c.geojson"), "absent.tif: no such file"),
        (("{a}", "{b}", "--output", "c.shp"), "--output c.shp: give a name that ends in .geojson"),
        (("{a}", "{b}", "--output", "c.geojson", "--heatmap", "{a}"), "is one of the dates"),
        (
            ("{a}", "{b}", "--output", "c.geojson", "--preview", "p.jpg"),
            "--preview p.jpg: give a name that ends in .png",
        ),
        (("{a}", "{b}", "--output", "no/c.geojson"), "does not exist; make it, or give another"),
        (("{a}", "{b}", "--output", "c.geojson", "--tile", "32", "--overlap", "20"), "more than half of a tile"),
        (("{a}", "{b}", "--output", "c.geojson", "--dates", "2019"), "--dates 2019: names 1 date for 2 files"),
        (("{a}", "{b}", "--output", "c.geojson", "--dates", "2019, 2019"), "give each date a name of its own"),
        (("{a}", "{b}", "--output", "c.geojson", "--dates", "2019,\udcff"), "--dates is no valid UTF-8 text"),
        (("{a}", "{b}", "--output", "\udcff.geojson"), "--output is no valid UTF-8 text"),
        (("{a}", "{b}", "--output", "c.geojson", "--min-area", "inf"), "Invalid value for '--min-area'"),
        (("{a}", "{b}", "--output", "c.geojson", "--min-area", "nan"), "Invalid value for '--min-area'"),
        (("{a}", "https://h/b.tif", "--output", "c.geojson"), "https://h/b.tif: is a URL"),
        (("{a}", "{b}", "--output", "c.geojson", "--crs", "FOO:1"), "--crs FOO:1: is no CRS; write it like EPSG"),
        (("{a}", "{b}", "--output", "c.geojson", "--bands", "2,1"), "bands 2 and 1 are two, and not named VV"),
        (("{a}", "{b}", "--output", "c.geojson", "--bands", "9,1,2"), "has no band 9; it has 3"),
        (("{a}", "{b}", "--output", "c.geojson", "--model", "nowhere"), "no such folder"),
    ],
)
def test_wrong_input_is_one_line(unirs, pair, words, reason):
    code, out, err = unirs("map", *[word.format(a=pair[0], b=pair[1]) for word in words])
    assert (code, out) == (2, "")
    assert reason in err
    assert len(err.splitlines()) == 1


def test_dates_may_be_file_urls(unirs, checkpoint, pair, tmp_path):
    (tmp_path / "c.geojson").write_text("of an earlier run")
    code, out, err = unirs(
        "map", *(path.as_uri() for path in pair), "--output", "c.geojson", "--json", "--model", checkpoint, *QUICK
    )
    assert (code, err) == (0, "")
    assert json.loads(out)["inputs"] == [str(path) for path in pair]
    assert json.loads((tmp_path / "c.geojson").read_text())["unirs"]["dates"] == ["2019-05-01", "2021-07-02"]


def test_a_full_disk_is_told_and_what_was_found_is_kept(unirs, checkpoint, pair, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    command = ("map", *pair, "--output", "c.geojson", "--model", checkpoint, *QUICK)
    with monkeypatch.context() as patch:
        patch.setattr("unirs.geo.vector_files._write_geojson", full)
        code, out, err = unirs(*command)
    told = "c.geojson: no space is left on its disk; free some, and go on with --resume"
    assert (code, out, err.splitlines()[-1]) == (2, "", f"unirs: {told}")
    code, out, err = unirs(*command, "--resume", "--json")
    assert (code, json.loads(out)["went_on_from"]) == (0, 12), err


# -- stopped and resumed ---------------------------------------------------------------------------------------------
def run_until(batches, command, folder):
    """Starts the command and kills it, as nothing can catch, once its journal has so many batches."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unirs", *map(str, command)], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    journal, deadline = folder / "c.geojson.journal", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > batches:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()


@pytest.mark.parametrize("overlap", [0, 10])
def test_a_killed_run_goes_on_to_the_same_bytes(unirs, checkpoint, tmp_path, overlap):
    before, after = scene(3, 320, 256), scene(4, 320, 256)
    after[:, :, 60:] = before[:, :, 60:]
    write(tmp_path / "a.tif", before)
    write(tmp_path / "b.tif", after)
    command = (
        "map", "a.tif", "b.tif", "--output", "c.geojson", "--threshold", 0.3, "--overlap", overlap, "--model",
        checkpoint, "--heatmap", "h.tif", *QUICK,
    )  # fmt: skip
    assert unirs(*command)[0] == 0
    expected = [(tmp_path / name).read_bytes() for name in ("c.geojson", "h.tif")]
    assert len(features(tmp_path / "c.geojson")) > 8
    for name in ("c.geojson", "h.tif"):
        (tmp_path / name).unlink()

    run_until(5, command, tmp_path)
    assert not (tmp_path / "c.geojson").exists()
    with (tmp_path / "c.geojson.journal").open("ab") as file:
        file.write(b'{"batch": 40, "tiles": [{"tile": "r00')  # the kill hit while a line was written
    code, _, err = unirs(*command)
    assert (code, "go on with --resume, or remove it" in err) == (2, True)
    code, _, err = unirs(*command, "--tile", 64, "--resume")
    assert (code, "that run had other settings (tile);" in err) == (2, True)
    code, _, err = unirs(*command, "--resume")
    assert (code, bool(re.search(r"^Going on: \d+ of \d+ tiles were kept\.$", err, re.MULTILINE))) == (0, True)
    assert [(tmp_path / name).read_bytes() for name in ("c.geojson", "h.tif")] == expected
    assert not list(tmp_path.glob("*.journal"))


def test_resume_refuses_other_tiles_of_the_same_number(unirs, checkpoint, tmp_path, monkeypatch):
    """200 pixels in tiles of 64: four a side with or without an overlap of 4, at other places."""
    a, b = write(tmp_path / "a.tif", scene(width=200, height=200)), write(tmp_path / "b.tif", scene(3, 200, 200))
    command = ("map", a, b, "--output", "c.geojson", "--model", checkpoint, "--tile", 64, "--max-new-tokens", 2)
    with monkeypatch.context() as killed:
        killed.setattr("unirs.cli_map.write", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        assert unirs(*command)[0] != 0
    code, _, err = unirs(*command, "--overlap", 4, "--resume")
    assert (code, "that run had other settings (overlap);" in err) == (2, True)
    code, out, _ = unirs(*command, "--resume", "--json")
    assert (code, json.loads(out)["went_on_from"]) == (0, 16)
    assert "No tile was kept: begun anew." in unirs(*command, "--resume")[2]


@pytest.mark.parametrize("content", [b"my notes\n", b"{}"])
def test_a_foreign_file_under_the_journals_name_is_left_alone(unirs, checkpoint, pair, tmp_path, content):
    (tmp_path / "c.geojson.journal").write_bytes(content)
    code, _, err = unirs("map", *pair, "--output", "c.geojson", "--model", checkpoint, *QUICK)
    assert (code, "is no journal of `unirs map`; move it away" in err) == (2, True)
    assert (tmp_path / "c.geojson.journal").read_bytes() == content


# -- the other commands ----------------------------------------------------------------------------------------------
def test_ask_change_and_video_read_rasters_as_the_map_does(unirs, checkpoint, tmp_path):
    """16 bits and four bands, on two grids: Pillow would refuse both."""
    values = scene(width=128, height=96, bands=4, dtype=np.uint16, high=3000)
    write(tmp_path / "a.tif", values, photometric="MINISBLACK")
    shifted = from_origin(LEFT + 320, TOP - 160, PIXEL, PIXEL)
    write(tmp_path / "b.tif", values[:, 16:, 32:], transform=shifted, photometric="MINISBLACK")
    common = ("--model", checkpoint, "--max-new-tokens", 3, "--json")
    code, out, err = unirs("ask", "a.tif", "What?", *common)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["composition"], found["bands"], found["in_training_domain"]) == ("rgb", [[3, 2, 1]], True)
    code, _, err = unirs("ask", "a.tif", "What?", "--bands", "4,3,2", *common[:-1])
    assert (code, err) == (0, "Shown to the model: bands 4, 3, 2 as red, green, blue.\n")
    code, _, err = unirs("change", "a.tif", "b.tif", "--bands", "4", *common[:-1])
    assert (code, "Shown to the model: band 4 as grey." in err, "outside of its training" in err) == (0, True, True)
    code, _, err = unirs("ask", "a.tif", "What?", "--bands", "9", *common)
    assert (code, "a.tif: has no band 9; it has 4" in err) == (2, True)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    code, _, err = unirs("change", "a.png", "a.png", "--bands", "1,2,3", *common)
    assert (code, "--bands 1,2,3: is for rasters (.jp2, .tif, .tiff); leave it out" in err) == (2, True)
    code, out, err = unirs("change", "a.tif", "b.tif", "--heatmap", "h.png", *common)
    assert code == 0, err
    assert json.loads(out)["change_map"]["max"] < 0.02  # the same ground
    with Image.open("h.png") as heat_map:
        assert heat_map.size == (96, 80)
    assert unirs("video", "a.tif", "b.tif", "a.tif", *common)[0] == 0
    far = write(tmp_path / "far.tif", values, transform=from_origin(0, 0, 10, 10), photometric="MINISBLACK")
    code, _, err = unirs("change", "a.tif", far, *common)
    assert (code, "far.tif: does not overlap BEFORE" in err) == (2, True)


def test_predict_reads_rasters_as_change_does(unirs, checkpoint, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'unirs[predict]'")
    values = scene(width=128, height=96, bands=4, dtype=np.uint16, high=3000)
    write(tmp_path / "a.tif", values, photometric="MINISBLACK")
    shifted = from_origin(LEFT + 320, TOP - 160, PIXEL, PIXEL)
    write(tmp_path / "b.tif", 3000 - values[:, 16:, 32:], transform=shifted, photometric="MINISBLACK")
    write(tmp_path / "far.tif", values, transform=from_origin(0, 0, 10, 10), photometric="MINISBLACK")
    (tmp_path / "pairs.csv").write_text("before,after\na.tif,b.tif\na.tif,far.tif\n")
    common = ("--model", checkpoint, "--max-new-tokens", 8)
    code, _, err = unirs("predict", "pairs.csv", "--output", "said.jsonl", *common)
    assert code in (0, 1), err
    good, bad = (json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines())
    code, out, err = unirs("change", "a.tif", "b.tif", *common, "--json")
    assert (code, good["answer"]) == (0, json.loads(out)["answer"]), err
    assert "far.tif: does not overlap BEFORE" in bad["error"]


def test_many_bands_are_asked_about_once_and_predict_takes_them(unirs, checkpoint, tmp_path, caplog):
    """Pillow logged a line of its own about them first, and `predict` advised an option that it lacked."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'unirs[predict]'")
    write(tmp_path / "nine.tif", scene(bands=9), photometric="MINISBLACK")
    (tmp_path / "rows.csv").write_text("image,question\nnine.tif,What?\n")
    common = ("--model", checkpoint, "--max-new-tokens", 3)
    advice = "nine.tif: has 9 bands without names; say which are red, green, blue: --bands"
    code, _, err = unirs("ask", "nine.tif", "What?", *common)
    assert (code, err.count("\n"), advice in err) == (2, 1, True)
    code, _, err = unirs("predict", "rows.csv", "--output", "said.jsonl", *common)
    assert (code, advice in err) == (2, True)
    assert [one for one in caplog.records if one.name.startswith("PIL") and one.levelname == "ERROR"] == []
    code, _, err = unirs("predict", "rows.csv", "--output", "again.jsonl", "--bands", "7,5,3", *common)
    assert code == 0, err
    code, out, _ = unirs("ask", "nine.tif", "What?", "--bands", "7,5,3", *common)
    assert json.loads((tmp_path / "again.jsonl").read_text())["answer"] == out.removesuffix("\n")


def test_predict_tells_of_each_raster_whether_the_model_knows_such(unirs, checkpoint, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'unirs[predict]'")
    write(tmp_path / "grey.tif", scene(bands=1))
    write(tmp_path / "rgb.tif", scene(bands=3), photometric="RGB")
    Image.new("RGB", (30, 30)).save(tmp_path / "plain.png")
    names = ("grey.tif", "rgb.tif", "plain.png", "absent.tif")
    (tmp_path / "rows.csv").write_text("image,question\n" + "".join(f"{name},What?\n" for name in names))
    common = ("--model", checkpoint, "--max-new-tokens", 3, "--batch-size", 2)
    for name in ("said.jsonl", "said.parquet"):
        assert unirs("predict", "rows.csv", "--output", name, *common)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert [line.get("in_training_domain", "not said") for line in lines] == [False, True, "not said", "not said"]
    column = parquet.read_table(tmp_path / "said.parquet")["in_training_domain"]
    assert column.to_pylist() == [False, True, None, None]
