"""The preview and the page of a change map whose cells are set by hand."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[geo]'")
from PIL import Image, ImageDraw, ImageFont
from rasterio.crs import CRS
from rasterio.transform import from_origin
from shapely.geometry import box
from unirs.geo.changes import Change, tile_changes
from unirs.geo.coregistration import Grid

from tests.test_geo_outputs import BLOCK, a_map
from unirs.map_page import page_data, write_page
from unirs.map_preview import OUTLINE, _shortened, draw_preview


def test_the_preview_outlines_the_steps_alone_as_its_legend_counts_them():
    """What is said about all dates of a tile had the same outline once, and no line in the legend."""
    change_map = a_map({})
    step = replace(tile_changes(a_map(BLOCK))[0], place=box(20, 20, 50, 50))
    together = replace(step, kind="sequence", place=box(100, 60, 160, 110))
    shown = np.asarray(draw_preview(change_map, [step, together], Image.new("RGB", (180, 120))))
    rows, columns = (shown[:, :200] == OUTLINE).all(2).nonzero()
    assert (rows.min() - 24, rows.max() - 24) == pytest.approx((20, 50), abs=2)
    assert (columns.min() - 24, columns.max() - 24) == pytest.approx((20, 50), abs=2)


def test_a_tile_that_changes_at_two_steps_counts_once(monkeypatch):
    told: list[str] = []
    write_text = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda self, at, text, **how: (told.append(text), write_text(self, at, text, **how)),
    )
    change_map = a_map({**BLOCK, **{(1, row, column): value for (_, row, column), value in BLOCK.items()}}, steps=2)
    change_map.scene.labels[:] = [f"a_place_with_a_long_name_of_its_own_{year}" for year in (2019, 2020, 2021)]
    changes = tile_changes(change_map)
    assert len(changes) == 8
    draw_preview(change_map, changes, Image.new("RGB", (180, 120)))
    assert "4 changed tiles" in told
    ends = [text for text in told if text.startswith("a_place")]
    assert len(set(ends)) == 2  # shortened, and told apart


@pytest.mark.parametrize(
    ("label", "begins"), [("W" * 40, "WW"), ("Übersicht Århus", "Ubersicht Arhus"), ("東京", "??"), ("", "")]
)
def test_a_dates_name_stays_in_the_legend_in_letters_that_can_be_drawn(label, begins):
    """Pillow's own font has ASCII alone; others were boxes."""
    font = ImageFont.load_default(16)
    shown = _shortened(label, font)
    assert shown.startswith(begins)
    assert font.getlength(shown) <= 300 - 44


def test_a_map_whose_middle_has_no_ground_has_no_scale_bar(tmp_path):
    """The corner of a geostationary disc: the run ended in a traceback at its last step."""
    change_map = a_map(BLOCK)
    disc = CRS.from_string("+proj=geos +h=35785831 +lon_0=0 +datum=WGS84")
    grid = Grid(disc, from_origin(-6.4e6, 6.4e6, 30_000, 30_000), 180, 120)
    object.__setattr__(change_map.scene, "grid", grid)
    assert draw_preview(change_map, [], Image.new("RGB", (180, 120))).width > 300


def test_outlines_of_a_strip_lie_where_it_is_drawn():
    """Pixels of its small picture need not be square: at least one row is kept."""
    change_map = a_map({}, width=60, height=60)
    change = Change(box(10, 20, 30, 60), "tile", ("r0000c0000",), 0.9, "x", "2019", "2020")
    (row,) = page_data(change_map, [change], [Image.new("RGB", (60, 12))] * 2)["changes"]
    assert np.array(row["rings"][0]).max(0).tolist() == [30, 12]
    shown = np.asarray(draw_preview(change_map, [change], Image.new("RGB", (60, 12))))[24:36, 24:84]
    assert (shown == OUTLINE).all(2).nonzero()[0].min() == pytest.approx(4, abs=1)


def test_the_pages_text_cannot_break_out(tmp_path):
    change_map = a_map(BLOCK)
    hostile = "</script><img src=x onerror=alert(1)><!--"
    changes = [replace(one, caption=hostile, before=hostile) for one in tile_changes(change_map)]
    change_map.about["notes"] = [hostile]
    write_page(change_map, changes, [Image.new("RGB", (180, 120))] * 2, tmp_path / "m.html")
    page = (tmp_path / "m.html").read_text()
    assert "onerror=alert(1)" in page
    assert "<img src=x" not in page
    assert page.count("</script>") == 1


def test_longitudes_on_the_page_do_not_jump_at_the_180th_meridian():
    change_map = a_map(BLOCK)
    grid = Grid(CRS.from_string("EPSG:32660"), from_origin(829_000, 10_000, 100, 100), 180, 120)
    object.__setattr__(change_map.scene, "grid", grid)
    row = page_data(change_map, [], [Image.new("RGB", (180, 120))])["lattice"][0]
    steps = np.diff([longitude for longitude, _ in row])
    assert row[0][0] < 180 < row[-1][0]
    assert steps.max() < 0.05
