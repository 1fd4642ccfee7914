"""Pictures of any origin become upright 8-bit RGB, or one `VisualInputError` that says what to do.

This is the door for files nobody has looked at: sizes are checked before pixels are decoded, the decoders are
a short list of Pillow's in-process ones, and the network is never opened. What Pillow's `convert("RGB")` does
is kept where the released preprocessing relied on it (alpha dropped, one-band 16-bit values clipped to 255).
"""

import base64
import binascii
import contextlib
import io
import logging
import os
import re
import stat
import threading
import warnings
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps

from .jpeg_scans_unirs import MOST_SCANS, has_many_scans, is_one_scan

logger = logging.getLogger(__name__)

# 16,384 x 16,384: about 1 GB as RGB inside Pillow. Larger scenes belong in a tiling tool.
MAX_PIXELS = 2**28
# In-process decoders only. EPS (starts ghostscript), WMF, PDF, FITS... are never tried.
IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000")
_JPEG_SCALES = (2, 4, 8)  # what libjpeg can shrink by while it decodes
_TIFF_BITS_PER_SAMPLE, _TIFF_SAMPLES_PER_PIXEL, _TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 258, 277, 322, 323
_BLEACHED = 0.9  # share of pixels above 255, of those above 0
_FLOAT_SLACK = 1e-3  # rounding in the caller's own arithmetic may pass 1.0 or 255.0 by this share
_TIFF_LOG = logging.getLogger("PIL.TiffImagePlugin")  # tells bad files before it raises
_TO_8_BIT = "stretch it to 8-bit RGB, e.g. `gdal_translate -ot Byte -scale -b 1 -b 2 -b 3 in.tif out.tif`"
_ONE_TO_8_BIT = _TO_8_BIT.replace(" -b 1 -b 2 -b 3", "")  # of pictures of one band


class VisualInputError(ValueError):
    """A bad picture or clip; the message names it and says what to do."""


class _QuietStrictPillow:
    """Pillow without warnings and without grey filling of cut files, for as long as one thread decodes.

    All switches (`warnings` filters, `ImageFile.LOAD_TRUNCATED_IMAGES`, the log of its TIFF reader) belong to the
    whole process, so the first thread in saves and sets them and the last one out puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._filters = warnings.catch_warnings()
        self._fills_cut_files = False
        self._is_silent = False

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
                self._fills_cut_files = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False
                self._is_silent, _TIFF_LOG.disabled = _TIFF_LOG.disabled, True
            self._users += 1

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._fills_cut_files
                _TIFF_LOG.disabled = self._is_silent
                self._filters.__exit__(None, None, None)


quiet_strict_pillow = _QuietStrictPillow()


def load_image(source: Any, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read one picture, whatever it comes as.

    Args:
        source: Path (`str`, `os.PathLike`, "file://..."), "data:image/...;base64,..." text, encoded `bytes`,
            `PIL.Image.Image`, or numpy array / torch tensor (H, W), (H, W, 1|3|4) or (1|3|4, H, W). Integers
            count as 0..255; floats as 0..1 where no value is above 1, else as 0..255; bool as black/white.
        max_pixels: Refuse larger pictures, before decoding. A JPEG above it is read at 1/2, 1/4 or 1/8 scale.

    Returns:
        RGB picture, turned upright by its EXIF orientation. First frame or page of a file with several.

    Raises:
        VisualInputError: Nothing usable: one line that names the source and says what to do.
    """
    if isinstance(source, Image.Image):
        with quiet_strict_pillow:
            return _finish(source, "<PIL image>", max_pixels)
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return _array_to_image(to_numpy(source, "<array>"), "<array>", max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(bytes(source)), "<bytes>", max_pixels)
    if isinstance(source, str) and source[:5].lower() == "data:":
        return _decode(io.BytesIO(read_data_uri(source, "image")), "<data URI>", max_pixels)
    path, name = find_file(source)
    with path.open("rb") as file:
        return _decode(file, name, max_pixels)


def shown(text: Any) -> str:
    """Quote a caller's text or exception in one line of bounded length, safe for a log and a terminal."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))
    return line if len(line) <= 200 else f"{line[:140]}...{line[-50:]}"


def local_path(text: str) -> str:
    """The path that "file://" text names; other text is one.

    Raises:
        VisualInputError: It names another machine, or the network.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if not scheme:
        return text
    name = shown(text)
    if scheme[1].lower() != "file":
        raise VisualInputError(f"{name}: is a URL and UniRS never opens the network; download the file first")
    try:
        host = urlsplit(text).netloc
    except ValueError as error:
        raise VisualInputError(f"{name}: is no address of a file; give its path") from error
    if host.lower() not in ("", "localhost"):
        raise VisualInputError(f"{name}: lies on another machine ({shown(host)}); copy the file first")
    path = os.fsdecode(unquote_to_bytes(text[len("file://") + len(host) :]))
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path  # file:///C:/... on Windows


def find_file(source: Any) -> tuple[Path, str]:
    """Turn a path or "file://" text into the absolute path of a readable, non-empty, regular file.

    Returns:
        The path, and the name to use for it in messages.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise VisualInputError(
            f"cannot read a {type(source).__name__}: pass a path, bytes, a PIL image, an array or a tensor"
        )
    text = os.fsdecode(source)
    name = shown(text)
    try:
        path = Path(os.path.abspath(local_path(text)))
        status = path.stat()
        # A pipe or a device could block for ever or never end.
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise VisualInputError(f"{name}: is {kind}; pass one picture or clip file")
        if status.st_size == 0:
            raise VisualInputError(f"{name}: is empty (0 bytes); copy or download it again")
        path.open("rb").close()
    except FileNotFoundError:
        raise VisualInputError(f"{name}: no such file; check the path") from None
    except PermissionError:
        raise VisualInputError(f"{name}: no permission to read it; change its access rights") from None
    except (OSError, ValueError) as error:
        if isinstance(error, VisualInputError):
            raise
        raise VisualInputError(f"{name}: cannot be opened ({shown(error)}); check the path") from None
    return path, name


def read_data_uri(text: str, kind: str) -> bytes:
    """Decode "data:<kind>/...;base64,..." text; `kind` is "image" or "video"."""
    head, comma, body = text.partition(",")
    if not comma or not re.fullmatch(rf"data:{kind}/[^,]*;base64", head.strip(), re.IGNORECASE):
        raise VisualInputError(f"<data URI>: begins {shown(head[:40])!r}; write data:{kind}/...;base64,...")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise VisualInputError(f"<data URI>: is not valid base64 ({shown(error)}); encode it again") from None


def to_numpy(source: Any, name: str) -> np.ndarray:
    """Bring an array or a tensor of any device and dtype to a plain numpy array."""
    if isinstance(source, torch.Tensor):
        try:
            tensor = source.detach().cpu()
            source = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        except (RuntimeError, TypeError, NotImplementedError) as error:  # sparse, quantised, meta...
            raise VisualInputError(f"{name}: no plain dense tensor ({shown(error)}); make it one") from None
    return np.asarray(source)


def to_uint8(values: np.ndarray, name: str) -> np.ndarray:
    """Bring pixel values (..., channels) to 0..255 by the rule in `load_image`; never guesses a stretch.

    One-band integers above 255 are clipped with a warning, as Pillow's `convert` did for the released
    preprocessing; where that would bleach the picture, and in colour (which it never saw), they are refused.
    """
    if values.size == 0:
        raise VisualInputError(f"{name}: has no pixels (shape {values.shape}); check how it was cut")
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "iuf":
        raise VisualInputError(f"{name}: holds {values.dtype} values; pass numbers in 0..255 or 0..1")
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise VisualInputError(f"{name}: holds NaN or infinite values; fill them first (for example with 0)")
    if low < (-_FLOAT_SLACK if values.dtype.kind == "f" else 0):
        raise VisualInputError(f"{name}: holds values below 0 ({low:g}); scale it to 0..255 or 0..1 first")
    advice = _TO_8_BIT if values.shape[-1] > 1 else _ONE_TO_8_BIT
    if values.dtype.kind in "iu":
        # Above 255 nearly throughout (most satellite bands, leaving out a border of zeros), clipping would leave
        # a white sheet.
        if high > 255 and (values.shape[-1] > 1 or (values > 255).sum() > _BLEACHED * (values > 0).sum()):
            raise VisualInputError(f"{name}: holds values {low:g} to {high:g}; {advice}")
        if high > 255:
            logger.warning("%s: one band with values up to %g, clipped to 255; %s", name, high, advice)
        return values.clip(max=min(255, np.iinfo(values.dtype).max)).astype(np.uint8)  # of int8 that is 127
    if 1 + _FLOAT_SLACK < high < 2:
        raise VisualInputError(f"{name}: floats up to {high:g} are neither 0..1 nor 0..255; clip it first")
    if high > 255 * (1 + _FLOAT_SLACK):
        raise VisualInputError(f"{name}: holds values up to {high:g}; {advice}")
    scale = 255.0 if high <= 1 + _FLOAT_SLACK else 1.0
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def channels_last(array: np.ndarray, name: str) -> np.ndarray:
    """Put the channels of (..., H, W, C) or (..., C, H, W) last (C: 1, 3, 4); refuse what could be either."""
    first, last = array.shape[-3] in (1, 3, 4), array.shape[-1] in (1, 3, 4)
    one_row_of_colour = array.shape[-3] == 1 and array.shape[-1] in (3, 4)
    if first and last and not one_row_of_colour and array.shape[-3:] != (1, 1, 1):
        raise VisualInputError(f"{name}: shape {array.shape} may be channels first or last; pass a PIL image")
    if not first and not last:
        raise VisualInputError(f"{name}: shape {array.shape} has no axis of 1, 3 or 4 channels; pass 3 bands")
    return array if last else np.moveaxis(array, -3, -1)


def _array_to_image(array: np.ndarray, name: str, max_pixels: int) -> Image.Image:
    if array.ndim not in (2, 3):
        raise VisualInputError(f"{name}: shape {array.shape} is not one picture; pass (H, W, 3)")
    array = array[..., None] if array.ndim == 2 else channels_last(array, name)  # (H, W, C)
    _check_size(array.shape[1], array.shape[0], name, max_pixels)
    pixels = to_uint8(array, name)
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]  # (H, W, 3)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise VisualInputError(f"{name}: has no pixels ({width} x {height}); check how it was cut")
    if width * height > max_pixels:
        raise VisualInputError(
            f"{name}: {width} x {height} is more than {max_pixels} pixels; cut it into smaller tiles, "
            "e.g. with gdal_retile.py"
        )


def _decode(file: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    """Open an encoded picture with an accepted decoder, check its header, then decode it."""
    with quiet_strict_pillow:
        image = open_header(file, name)
        with contextlib.closing(image):  # the caller keeps `file`
            if image.format in ("JPEG", "MPO") and has_many_scans(file):  # MPO: with a second picture, as phones do
                raise VisualInputError(f"{name}: is a JPEG of more than {MOST_SCANS} scans; save it again")
            if image.format == "JPEG":
                _shrink_while_decoding(image, file, name, max_pixels)
            if image.format == "TIFF":
                _check_tiff(image, name, max_pixels)
            elif len(image.getbands()) > 1 and (bits := _bits_of_a_band(image, file)) > 8:
                raise VisualInputError(f"{name}: has bands of {bits} bits; {_TO_8_BIT}")
            picture = _finish(image, name, max_pixels)
            with contextlib.suppress(Exception):  # to tell, Pillow reads on, and what comes next may be damaged
                if getattr(image, "is_animated", False):
                    logger.info("%s: holds several frames or pages; the first is used", name)
            return picture


def open_header(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    """What `Image.open(file, formats=...)` does, less its size limit, which is one for the whole process."""
    Image.init()
    prefix = file.read(16)
    for kind in IMAGE_FORMATS:
        factory, accepts = Image.OPEN.get(kind, (None, None))
        verdict = accepts(prefix) if accepts else False
        if factory is None or not verdict or isinstance(verdict, str):  # text: Pillow was built without it
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except Exception as error:  # plugins raise a dozen types on hostile headers; all mean the same here
            advice = f"if it has 16 bits or other bands, {_TO_8_BIT}" if kind == "TIFF" else "copy or export it again"
            raise VisualInputError(f"{name}: {kind} cannot be opened ({shown(error)}); {advice}") from error
    raise VisualInputError(f"{name}: is none of {', '.join(IMAGE_FORMATS)}; convert it to PNG")


def _shrink_while_decoding(image: Any, file: BinaryIO, name: str, max_pixels: int) -> None:
    """Let libjpeg shrink a JPEG above the limit: the model sees a few hundred pixels a side in any case."""
    width, height = image.size
    if width * height <= max_pixels:
        return
    scale = next((s for s in _JPEG_SCALES if -(-width // s) * -(-height // s) <= max_pixels), None)
    # Several scans (progressive) make libjpeg hold every coefficient of the full size, whatever the scale.
    if scale is None or not is_one_scan(file):
        _check_size(width, height, name, max_pixels)
    else:
        image.draft(image.mode, (width // scale, height // scale))
        logger.info("%s: %d x %d read at 1/%d scale", name, width, height, scale)
    _check_size(image.width, image.height, name, max_pixels)


def _bits_of_a_band(image: Any, file: BinaryIO) -> int:
    """By the header, of formats that may have more than 8: Pillow would show the high byte of each."""
    if image.format == "PPM":
        arguments = image.tile[0][3]
        return 8 if isinstance(arguments, str) else int(arguments[1]).bit_length()
    if image.format not in ("PNG", "JPEG2000"):
        return 8
    place = file.tell()
    try:
        file.seek(0)
        head = file.read(2**16 if image.format == "JPEG2000" else 25)
    finally:
        file.seek(place)
    if image.format == "PNG":
        return head[24]
    box, size = head.find(b"ihdr"), head.find(b"\xff\x4f\xff\x51")
    # of a JP2 file its header box, whose 255 means "as the bands say"; of a bare codestream its first band
    depth = head[box + 14 : box + 15] if box >= 0 else b""
    if depth in (b"", b"\xff"):
        depth = head[size + 42 : size + 43] if size >= 0 else b""
    return (depth[0] & 0x7F) + 1 if depth else 8


def _check_tiff(image: Any, name: str, max_pixels: int) -> None:
    """Refuse what Pillow would show wrongly (the high byte of 16-bit bands) or decode without bound."""
    tags = image.tag_v2
    samples = tags.get(_TIFF_SAMPLES_PER_PIXEL, 1)
    # Of bands that lie one behind the other Pillow shows the first as grey, without a word.
    if not isinstance(samples, int) or samples > (2 if len(image.getbands()) == 1 else 4):
        raise VisualInputError(f"{name}: has {samples} bands; choose three, and {_TO_8_BIT}")
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        bits = tags.get(_TIFF_BITS_PER_SAMPLE, (1,))
        if max(bits) > 8:
            raise VisualInputError(f"{name}: has {len(bits)} bands of {max(bits)} bits; {_TO_8_BIT}")
    tile = (tags.get(_TIFF_TILE_WIDTH, 1), tags.get(_TIFF_TILE_LENGTH, 1))
    if not all(isinstance(side, int) for side in tile) or tile[0] * tile[1] > max_pixels:
        raise VisualInputError(f"{name}: has TIFF tiles of {tile[0]} x {tile[1]}; write it with tiles of 256")


def _finish(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    """Decode, convert to RGB and turn upright."""
    _check_size(image.width, image.height, name, max_pixels)
    try:
        image.load()
        if image.mode == "F" or image.mode.startswith("I"):
            rgb = _array_to_image(np.asarray(image), name, max_pixels)
            rgb.info = dict(image.info)
        else:
            # RGBa and La (premultiplied) have no direct way to RGB.
            straight = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)
            rgb = (image.convert(straight) if straight else image).convert("RGB")
    except VisualInputError:
        raise
    except Exception as error:  # decoders raise a dozen types on damaged data; all mean the same here
        raise VisualInputError(
            f"{name}: cut or damaged ({type(error).__name__}: {shown(error)}); copy or export it again"
        ) from error
    try:
        ImageOps.exif_transpose(rgb, in_place=True)
    except Exception as error:  # a damaged EXIF block says nothing about the pixels
        logger.info("%s: EXIF cannot be read (%s); the picture is not turned", name, shown(error))
    rgb.info = {}  # a profile or an EXIF block no longer describes these pixels
    return rgb
