"""JPEGs of many scans, each of which takes all pixels once more, are refused before they are decoded."""

import io

import pytest
from PIL import Image, ImageFile
from unirs.processing.image_loading_unirs import load_image

from tests.test_image_loading import encoded, noise, refusal


def progressive(scans: int) -> bytes:
    """A JPEG of ten scans or so, the last of which is repeated."""
    content = encoded(Image.fromarray(noise(64, 64)), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * scans + content[-2:]


def behind_fill_bytes(jpeg: bytes) -> bytes:
    return jpeg.replace(b"\xff\xda", b"\xff\xff\xff\xda")


def behind_a_marker_without_length(jpeg: bytes) -> bytes:
    """A reader that takes `ff 02` for a segment jumps over all scans behind it; libjpeg does not."""
    first = jpeg.index(b"\xff\xda")
    scans = jpeg[first:].replace(b"\xff\xda", b"\xff\x02\xff\xff\xff\xda")
    return jpeg[:first] + b"\xff\xdd\x00\x04\x00\x01" + scans.removeprefix(b"\xff\x02\xff\xff")


def beside_a_second_picture(jpeg: bytes) -> bytes:
    """An MPO, as phones write it, whose first picture is this one."""
    two = [Image.fromarray(noise(64, 64, seed)) for seed in (1, 2)]
    whole = encoded(two[0], "MPO", save_all=True, append_images=two[1:])
    end = whole.index(b"\xff\xda")
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return whole[:end] + last * 101 + whole[end:]


@pytest.mark.parametrize(
    "hide",
    [bytes, behind_fill_bytes, behind_a_marker_without_length, beside_a_second_picture],
    ids=lambda one: one.__name__,
)
def test_jpeg_of_many_scans_is_refused_before_it_is_decoded(hide, monkeypatch):
    """Each of 14 bytes took all pixels once more: half a megabyte kept a reader for minutes, 32 for a day."""
    content = hide(progressive(100))
    assert Image.open(io.BytesIO(content)).format in ("JPEG", "MPO")  # Pillow would read it
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    assert "is a JPEG of more than 100 scans; save it again" in refusal(content)


def test_jpeg_of_few_scans_is_read_whatever_its_other_bytes_are():
    content = progressive(5)
    thumbnail = b"\xff\xe1" + (3002).to_bytes(2, "big") + b"\xff\xda\x00" * 1000
    behind_the_end = b"\x00\x02" + b"\xff\xda\x00\x02" * 1000
    for one in (content, content + behind_the_end, content[:2] + thumbnail + content[2:]):
        assert load_image(one).size == (64, 64)
