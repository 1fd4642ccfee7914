"""Two dates one over the other, with a slider between them that is a plain range field: mouse, touch and keyboard.

`gr.ImageSlider` answers to neither keyboard nor screen readers, and has no third picture to lay over the second.
"""

from __future__ import annotations

import base64
import io

from PIL import Image

QUALITY = 88  # of the JPEGs, which travel inside the page and so leave no file behind


def slider_html(before: Image.Image, after: Image.Image, change: Image.Image) -> str:
    """The earlier date on the left, the later one with its change map on the right, a box to lift the map off.

    Args:
        change: `after` under its change map. All pictures have one size.
    """
    return (
        f"<div class='dates' style='--ratio:{after.width / after.height:.3f}'><div class='stack'>"
        f"<img src='{_data_uri(after)}' alt='The later date'>"
        f"<img class='change' src='{_data_uri(change)}' alt='The later date under its change map'>"
        f"<img class='before' src='{_data_uri(before)}' alt='The earlier date'>"
        "<span class='bar' aria-hidden='true'></span></div>"
        "<input type='range' min='0' max='100' value='50' aria-label='Share of the earlier date, in percent'>"
        "<p class='ends'><span>Before</span>"
        "<label><input type='checkbox' checked> Change map</label><span>After</span></p></div>"
    )


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
