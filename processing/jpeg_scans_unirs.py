"""How often a JPEG's scans pass over its pixels, told before they do."""

import re
from typing import BinaryIO

MOST_SCANS = 100  # as libtiff has it; cameras and editors write about ten
# Those with a length behind them, and the end. Others are passed over, as libjpeg does: what it reads on counts.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])", re.DOTALL)


def has_many_scans(file: BinaryIO) -> bool:
    """Whether libjpeg would be busy with a JPEG for minutes or hours: each scan, of a few bytes, takes all pixels."""
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    at, scans = 2, 0
    while scans <= MOST_SCANS and (found := _MARKER.search(content, at)) and found[1] != b"\xd9":  # the end
        scans += found[1] == b"\xda"
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return scans > MOST_SCANS


def is_one_scan(file: BinaryIO) -> bool:
    """Tell whether a JPEG is baseline with all its components in the first scan."""
    place = file.tell()
    file.seek(2)
    components = 0
    try:
        while True:
            head = file.read(4)
            if len(head) < 4 or head[0] != 0xFF:
                return False
            marker, length = head[1], int.from_bytes(head[2:], "big")
            body = file.read(length - 2) if length >= 2 else b""
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
                if marker not in (0xC0, 0xC1) or len(body) < 6:
                    return False
                components = body[5]
            elif marker == 0xDA:  # start of scan
                return len(body) > 0 and components > 0 and body[0] == components
    finally:
        file.seek(place)
