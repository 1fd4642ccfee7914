"""Clips of any origin become a few upright RGB frames, or one `VisualInputError` that says what to do.

The container is recognised by its first bytes and its demuxer is named to FFmpeg, so playlists, concatenation scripts
and file-name patterns, through which a hostile "clip" could reach the network or other files, are never interpreted.
"""

import contextlib
import io
import logging
import math
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .frame_sampling_unirs import DatedSequence, sample_date_indices, sample_frame_indices
from .image_loading_unirs import (
    VisualInputError,
    channels_last,
    find_file,
    load_image,
    open_header,
    quiet_strict_pillow,
    read_data_uri,
    shown,
    to_numpy,
    to_uint8,
)
from .prompts_unirs import MAX_FRAMES

logger = logging.getLogger(__name__)

MAX_FRAME_PIXELS = 2**26  # 8,192 x 8,192: twice an 8K frame
_SEEKABLE = ("mov", "matroska", "avi")  # their index finds a frame by its time; others are read through
_ATTACHED_PICTURE = 0x400  # FFmpeg's AV_DISPOSITION_ATTACHED_PIC
_TURNS = {  # by the signs of the four cells of the container's display matrix that turn or mirror
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}

Choose = Callable[[int], list[int]]  # frame count -> indices wanted, ascending


@dataclass(frozen=True)
class _Clip:
    data: Path | bytes
    name: str
    container: str  # FFmpeg's name of the demuxer, or "pillow"
    max_pixels: int = MAX_FRAME_PIXELS  # of a frame
    until: float = math.inf  # by `time.monotonic`


def load_video(
    source: Any, num_frames: int, max_frame_pixels: int | None = None, max_seconds: float | None = None
) -> list[Image.Image]:
    """Read at most `num_frames` frames of a clip.

    Args:
        source: Path (`str`, `os.PathLike`, "file://..."), "data:video/...;base64,..." text, `bytes`, a list
            of pictures that `load_image` takes (frames of a clip, or a `DatedSequence`), or array / tensor
            (T, H, W, 3) or (T, 3, H, W). Files: MP4/MOV, Matroska/WebM, AVI, MPEG-TS/PS, FLV, ASF, Ogg and
            animated GIF, WebP, PNG.
        num_frames: Frames wanted, 1 to `MAX_FRAMES`; fewer come back where the clip has fewer.
        max_frame_pixels: Of each frame of a file; default and most: `MAX_FRAME_PIXELS`.
        max_seconds: For all of a file; a small one may hold days of frames. By default it takes what it takes.

    Returns:
        RGB frames in time order, turned upright by the container's rotation.

    Raises:
        VisualInputError: Nothing usable: one line that names the source and says what to do.
    """
    if isinstance(num_frames, bool) or not isinstance(num_frames, int) or not 1 <= num_frames <= MAX_FRAMES:
        raise VisualInputError(f"num_frames is {shown(num_frames)}; ask for 1 to {MAX_FRAMES} frames")

    def choose(frame_count: int) -> list[int]:
        return sample_frame_indices(frame_count, num_frames)

    if isinstance(source, (list, tuple)):
        name = f"<list of {len(source)} pictures>"
        rule = sample_date_indices if isinstance(source, DatedSequence) else sample_frame_indices
        frames = _frames_of_list(source, lambda count: rule(count, num_frames))
    elif isinstance(source, (np.ndarray, torch.Tensor)):
        name, frames = "<array>", _frames_of_array(source, choose)
    else:
        most = min(max_frame_pixels or MAX_FRAME_PIXELS, MAX_FRAME_PIXELS)
        until = math.inf if max_seconds is None else time.monotonic() + max_seconds
        clip = replace(_recognise(source), max_pixels=most, until=until)
        name, frames = clip.name, _read(clip, choose)
    if len(frames) < num_frames:
        logger.info("%s: gives %d frames, %d were asked for", name, len(frames), num_frames)
    return frames


def _frames_of_list(pictures: Sequence[Any], choose: Choose) -> list[Image.Image]:
    if not pictures:
        raise VisualInputError("<list of 0 pictures>: pass at least one picture")
    frames = []
    for index in choose(len(pictures)):
        try:
            frames.append(load_image(pictures[index]))
        except VisualInputError as error:
            raise VisualInputError(f"picture {index} of the list: {error}") from error
    return frames


def _frames_of_array(clip: Any, choose: Choose) -> list[Image.Image]:
    if clip.ndim != 4 or 0 in clip.shape:
        raise VisualInputError(f"<array>: shape {tuple(clip.shape)} is not a clip; pass (T, H, W, 3)")
    chosen = channels_last(to_numpy(clip[choose(len(clip))], "<array>"), "<array>")  # (T, H, W, C)
    # All frames at once: whether floats mean 0..1 must not change from frame to frame.
    frames = to_uint8(chosen, "<array>")[..., :3]
    if frames.shape[-1] == 1:
        frames = np.repeat(frames, 3, axis=-1)  # (T, H, W, 3)
    return [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]


def _recognise(source: Any) -> _Clip:
    data: Path | bytes
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name = bytes(source), "<bytes>"
    elif isinstance(source, str) and source[:5].lower() == "data:":
        data, name = read_data_uri(source, "video"), "<data URI>"
    elif not isinstance(source, (str, os.PathLike)):
        raise VisualInputError(
            f"cannot read a {type(source).__name__} as a clip: pass a path, bytes, a list of pictures or an array"
        )
    else:
        data, name = find_file(source)
    if isinstance(data, bytes):
        head = data[:1024]
    else:
        with data.open("rb") as file:
            head = file.read(1024)
    container = _container_of(head)
    if container is None:
        raise VisualInputError(
            f"{name}: is no MP4, MOV, Matroska, WebM, AVI, MPEG, FLV, ASF, Ogg, GIF, WebP or PNG clip; "
            "convert it to MP4 (a list of pictures is a clip too)"
        )
    return _Clip(data, name, container)


def _container_of(head: bytes) -> str | None:
    """Name the demuxer by the file's first bytes; None for everything that is not on the list."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"):
        return "mov"
    if head[:4] == b"RIFF":
        return {b"AVI ": "avi", b"AVIX": "avi", b"WEBP": "pillow"}.get(head[8:12])
    for magic, container in (
        (b"\x1aE\xdf\xa3", "matroska"),
        (b"GIF8", "pillow"),
        (b"\x89PNG", "pillow"),
        (b"FLV\x01", "flv"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
        (b"OggS", "ogg"),
        (b"\x00\x00\x01\xba", "mpeg"),
    ):
        if head.startswith(magic):
            return container
    for start, packet in ((0, 188), (4, 192)):  # transport streams; with 4 bytes of time code: M2TS
        if head[start : start + 4 * packet : packet] == b"G" * 4:
            return "mpegts"
    return None


def _read(clip: _Clip, choose: Choose) -> list[Image.Image]:
    if clip.container == "pillow":
        return _read_with_pillow(clip, choose)
    try:
        return _read_with_pyav(clip, choose)
    except ImportError:
        pass
    try:
        return _read_with_decord(clip, choose)
    except ImportError:
        raise VisualInputError(f"{clip.name}: no video reader is installed; run `pip install av`") from None


def _read_with_pillow(clip: _Clip, choose: Choose) -> list[Image.Image]:
    file = io.BytesIO(clip.data) if isinstance(clip.data, bytes) else clip.data.open("rb")
    with quiet_strict_pillow, file:
        image = open_header(file, clip.name)
        try:
            frames, wanted = [], set(choose(getattr(image, "n_frames", 1)))
            for index in range(max(wanted) + 1):  # each needs those before it, which may enlarge the canvas of a GIF
                image.seek(index)
                _check_frame_size(image.width, image.height, clip)
                _check_time(clip)
                image.load()
                if index in wanted:
                    frames.append(load_image(image))
        except VisualInputError as error:
            raise VisualInputError(str(error).replace("<PIL image>", clip.name)) from error
        except Exception as error:  # decoders raise a dozen types on damaged data; all mean the same here
            raise _damaged(clip, error) from error
        return frames


def _read_with_pyav(clip: _Clip, choose: Choose) -> list[Image.Image]:
    """Read the chosen frames by PyAV: a seek for each where the index allows, else one pass over the clip."""
    try:  # in a `try`, or the scan of published code would demand the package
        import av
    except ImportError:
        raise
    try:
        with _open_container(av, clip) as container:
            stream = _video_stream(container, clip)
            times, keys, packets, told = *_packet_times(av, container, stream, clip), stream.frames
            guess = len(times) or packets
            wanted = choose(guess) if guess else []
            frames = None
            if times and clip.container in _SEEKABLE and len(set(times)) == len(times) and packets >= told:
                frames = _seek_frames(av, container, stream, clip, [times[i] for i in wanted], keys)
        if frames:
            return frames
        frames, count = _walk(av, clip, wanted, "AUTO")
        if count != guess:  # damaged: which frames come out of parallel decoding differs from run to run
            frames, count = _walk(av, clip, [], "NONE")
            if count:
                frames, count = _walk(av, clip, choose(count), "NONE")
    except (av.FFmpegError, OSError, ValueError, MemoryError, EOFError) as error:
        if isinstance(error, VisualInputError):
            raise
        raise _damaged(clip, error) from error
    if not frames:
        raise VisualInputError(f"{clip.name}: none of its frames decodes; it is cut or damaged: export it again")
    told = max(told, packets)
    if count < told:
        logger.warning("%s: only %d of %d frames can be decoded; they are used", clip.name, count, told)
    return frames


def _open_container(av: Any, clip: _Clip) -> Any:
    # A named demuxer and a "file:" name: nothing in the name or the content makes FFmpeg open anything else.
    target = io.BytesIO(clip.data) if isinstance(clip.data, bytes) else f"file:{clip.data}"
    options = {"protocol_whitelist": "file"}
    return av.open(target, format=clip.container, container_options=options, metadata_errors="replace")


def _video_stream(container: Any, clip: _Clip) -> Any:
    # The cover of a sound file is a "video" stream of one picture: not a clip.
    streams = [s for s in container.streams.video if not int(s.disposition) & _ATTACHED_PICTURE]
    if not streams:
        raise VisualInputError(f"{clip.name}: holds no video stream; pass a clip with pictures")
    stream = streams[0]
    if stream.codec_context is None:
        raise VisualInputError(f"{clip.name}: its video codec is unknown here; convert it to H.264 in MP4")
    _check_frame_size(stream.width, stream.height, clip)
    stream.codec_context.options = {"max_pixels": str(clip.max_pixels)}  # the bitstream may tell another size
    stream.thread_type = "AUTO"
    return stream


def _packet_times(av: Any, container: Any, stream: Any, clip: _Clip) -> tuple[list[int], list[int], int]:
    """Count frames without decoding: headers are often wrong or silent.

    Returns:
        Sorted times of the frames to show, of the key frames among them, and the number of packets.
        The first list is empty where packets carry no times.
    """
    times, keys, packets = [], [], 0
    with contextlib.suppress(av.FFmpegError):  # a cut file: what came before counts
        for packet in container.demux(stream):
            _check_time(clip)
            if packet.size == 0:
                continue
            packets += 1
            if packet.pts is None:
                return [], [], packets
            if not packet.is_discard and not packet.is_corrupt:
                times.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
    return sorted(times), sorted(keys), packets


def _seek_frames(
    av: Any, container: Any, stream: Any, clip: _Clip, times: list[int], keys: list[int]
) -> list[Image.Image] | None:
    """Decode the frames shown at `times`; None where the index does not lead exactly there."""
    frames: list[Image.Image] = []
    decoded: Any = iter(())
    last: int | None = None
    try:
        for shown_at in times:
            key = bisect_right(keys, shown_at)
            if key == 0:
                return None
            if last is None or keys[key - 1] > last:  # else the wanted frame follows without a seek
                container.seek(shown_at, stream=stream, backward=True)
                decoded = _decode(container, stream, clip)
            for frame in decoded:
                last = frame.pts
                if last is None or last > shown_at or frame.is_corrupt:
                    return None
                if last == shown_at:
                    frames.append(_to_picture(frame, clip))
                    break
            else:
                return None
    except av.FFmpegError:
        return None
    return frames


def _decode(container: Any, stream: Any, clip: _Clip) -> Iterator[Any]:
    """As `container.decode`, but looks at the time also where packets give no frame."""
    for packet in container.demux(stream):
        _check_time(clip)
        yield from packet.decode()


def _walk(av: Any, clip: _Clip, wanted: list[int], threads: str) -> tuple[list[Image.Image], int]:
    """Decode the whole clip, keep the frames at the positions `wanted`, count those that decode."""
    keep, frames, count = set(wanted), [], 0
    with _open_container(av, clip) as container, contextlib.suppress(av.FFmpegError):
        stream = _video_stream(container, clip)
        stream.thread_type = threads
        for packet in container.demux(stream):
            _check_time(clip)
            try:
                decoded = packet.decode()
            except av.FFmpegError as error:
                # By codec, FFmpeg leaves a size that it refuses, or none. Under its own limit it may be damage, too.
                size = stream.codec_context.width * stream.codec_context.height
                if clip.max_pixels < MAX_FRAME_PIXELS and not 1 <= size <= clip.max_pixels:
                    raise VisualInputError(
                        f"{clip.name}: later frames have more than {clip.max_pixels} pixels; export it smaller"
                    ) from error
                continue  # one damaged packet; the next key frame mends it
            for frame in decoded:
                if frame.is_corrupt:
                    continue
                if count in keep:
                    frames.append(_to_picture(frame, clip))
                count += 1
    return frames, count


def _to_picture(frame: Any, clip: _Clip) -> Image.Image:
    _check_frame_size(frame.width, frame.height, clip)
    picture = frame.to_image()
    matrix = next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), b"")
    if len(matrix) != 36:
        return picture
    cells = np.sign(np.frombuffer(matrix, np.int32))  # (9,): a b u, c d v, x y w
    turn = _TURNS.get(tuple(cells[[0, 1, 3, 4]].tolist()))
    return picture if turn is None else picture.transpose(turn)


def _read_with_decord(clip: _Clip, choose: Choose) -> list[Image.Image]:
    """Read the chosen frames by decord, for places without PyAV; it knows no rotation.

    PyAV comes first because decord (unmaintained, FFmpeg of 2021) was seen to give wrong frames without an error
    on MPEG streams, and to fail on valid clips of odd sizes and on every cut file.
    """
    if clip.container not in _SEEKABLE:
        raise VisualInputError(f"{clip.name}: needs PyAV to be read; run `pip install av`")
    try:
        import decord
    except ImportError:
        raise
    decord.logging.set_level(decord.logging.FATAL)
    # By name only where FFmpeg cannot take the name for a pattern of numbered pictures.
    by_name = isinstance(clip.data, Path) and "%" not in str(clip.data)
    data = clip.data if isinstance(clip.data, bytes) or by_name else clip.data.read_bytes()
    try:
        reader = decord.VideoReader(os.fspath(data) if isinstance(data, Path) else io.BytesIO(data))
        height, width, _ = reader[0].shape
        _check_frame_size(width, height, clip)
        batch = reader.get_batch(choose(len(reader))).asnumpy()
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, OSError, AssertionError) as error:
        raise _damaged(clip, error) from error
    return [Image.fromarray(frame) for frame in batch]


def _check_frame_size(width: int, height: int, clip: _Clip) -> None:
    if width < 1 or height < 1 or width * height > clip.max_pixels:
        raise VisualInputError(
            f"{clip.name}: frames of {width} x {height} are not 1 to {clip.max_pixels} pixels; export it smaller"
        )


def _check_time(clip: _Clip) -> None:
    if time.monotonic() > clip.until:
        raise VisualInputError(f"{clip.name}: takes too long to read; cut it, or export it smaller")


def _damaged(clip: _Clip, error: Exception) -> VisualInputError:
    return VisualInputError(
        f"{clip.name}: cut or damaged ({shown(getattr(error, 'strerror', None) or error)}); copy or export it again"
    )
