"""A real scene, edited and warped: the embedded checkpoint finds the edits at the right places on the ground."""

import json

import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[geo]'")
from tests.conftest import DATA
from tests.true_pair import make_pair, overlap


@pytest.mark.data
def test_edits_are_found_where_they_are(unirs, tmp_path):
    before, after, true = make_pair(DATA, tmp_path)
    code, _, err = unirs(
        "map", before, after, "--output", "c.geojson", "--merge", "--overlap", 64, "--max-new-tokens", 4
    )
    assert code == 0, err
    found = overlap(json.loads((tmp_path / "c.geojson").read_text())["features"], before, true)
    print({name: round(value, 3) for name, value in found.items()})  # pytest -s
    assert found["iou"] > 0.5
    assert min(found[f"iou_{number}"] for number in range(len(true))) > 0.2
    assert found["false_area"] < 0.1 * sum(place.area for place in true)


@pytest.mark.data
def test_a_wrong_georeference_is_reported_in_pixels(tmp_path):
    from unirs.geo import open_dates
    from unirs.geo.shift import estimate_shift

    before, after, _ = make_pair(DATA, tmp_path, shift=4.0)
    with open_dates([before, after]) as aligned:
        found = estimate_shift(aligned, 1)
    # 0.4 m of UTM's ground are 0.4 / cos(14.6 degrees) m of the Mercator grid of 0.1 m.
    assert found.east == pytest.approx(-4.0 / 0.9677, abs=0.3)
    assert found.south == pytest.approx(0, abs=0.3)
