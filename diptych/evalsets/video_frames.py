"""Decodes the middle frame of a video, or several evenly spaced frames, with PyAV. Keeps only these in memory.

A set's videos are decoded in a separate process, because FFmpeg crashes on some damaged files.
"""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.decoding import MAX_PIXELS
from diptych.data.parquet_process import ParquetError, call
from diptych.errors import DataError
from diptych.evalsets.set_sources import EntriesSource, entries_fingerprint
from diptych.files import utf8
from diptych.records import Broken, Sample

VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".webm", ".mov")

_PER_SHARD = 100
_MAX_BYTES = 2 << 30  # memory limit per video: a 4K frame takes 12 MB, and FFmpeg may hold 16 of them
_SECONDS, _RATE = 120.0, 100_000  # limit of processor time per video: seconds, plus one second per so many bytes
_INEXACT = 1.1  # tolerance for inexact headers
_REORDERED = ("h264", "hevc")  # codecs with wrong frame times in AVI; MPEG-4's decoder gives the right times
_READING = 2  # increase it when the same video would give another frame; this invalidates cached vectors


def middle_frame(path: Path, start: float | None = None, end: float | None = None) -> np.ndarray:
    """The middle frame of a video: frame n // 2 of n, counted from 0.

    Args:
        path: a video file.
        start: in seconds; earlier frames are ignored.
        end: in seconds; frames at this time or later are ignored.
    Returns:
        uint8 (height, width, 3).
    Raises:
        DataError: the file is missing or damaged, holds no video, or has no frame between start and end.
    """
    return next(frames(path, 1, start, end))


def frames(path: Path, count: int, start: float | None = None, end: float | None = None) -> Iterator[np.ndarray]:
    """Frames of a video in order: the middle frame of each of `count` equal parts.

    A video with at most `count` frames gives each of them once. One frame is in memory at a time.

    Args:
        path: a video file.
        count: number of frames, at least 1.
        start: in seconds; earlier frames are ignored.
        end: in seconds; frames at this time or later are ignored.
    Yields:
        uint8 (height, width, 3).
    Raises:
        DataError: as for `middle_frame`. Damage may be detected only after some frames.
    """
    if count < 1:
        raise DataError(f"the number of frames of a video is {count}; it must be at least 1")
    av = import_av()
    if not path.is_file():
        raise DataError(f"cannot read {path}: no such file")
    try:
        stamps, unit, zero = _stamps(av, path)
        chosen = _choose(_numbers(path, stamps, unit, zero, start, end), count)
        if not chosen:
            raise DataError(f"{path} has no frames" + ("" if start is None else f" between {start} and {end} seconds"))
        yield from _decode(av, path, stamps, chosen)
    except DataError:
        raise
    except (av.FFmpegError, ValueError, IndexError, OSError) as error:
        raise DataError(f"{path} cannot be decoded as a video: {error}") from None


def read_frames(path: Path, count: int, start: float | None = None, end: float | None = None) -> list[np.ndarray]:
    """The frames of `frames` as a list, decoded in another process.

    Raises:
        DataError: as for `frames`; or decoding takes too much time or memory, or crashes.
    """
    import_av()  # raises if PyAV is missing
    if not path.is_file():
        raise DataError(f"cannot read {path}: no such file")
    seconds = _SECONDS + path.stat().st_size / _RATE
    try:
        shapes, data = call(decoded_frames, path, count, start, end, num_bytes=_MAX_BYTES, seconds=seconds)
    except ParquetError as error:
        raise DataError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    sizes = np.cumsum([0, *(height * width * 3 for height, width, _ in shapes)])
    pixels = np.frombuffer(bytearray(data), np.uint8)
    return [pixels[sizes[n] : sizes[n + 1]].reshape(shape) for n, shape in enumerate(shapes)]


def decoded_frames(path: str, count: int, start: float | None, end: float | None) -> tuple[list[Any], bytes]:
    """Runs in the other process: the shapes of the frames, and their pixels."""
    decoded = list(frames(Path(path), count, start, end))
    return [frame.shape for frame in decoded], b"".join(frame.tobytes() for frame in decoded)


def import_av() -> Any:
    """Import PyAV. If it is missing, DataError says how to install it."""
    try:
        import av
    except ImportError:
        raise DataError("videos are read with PyAV, which is not installed: pip install 'diptych[video]'") from None
    return av


def _open(av: Any, path: Path) -> Any:
    # Files only: a playlist disguised as a video must not reach the network.
    container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    try:
        if not container.streams.video:
            raise DataError(f"{path} holds no video")
        context = container.streams.video[0].codec_context
        if context is None:
            raise DataError(f"{path}: no decoder for its video; the file may be truncated")
        # One thread per video: the loader has many workers.
        context.thread_count = 1
        if context.width * context.height > MAX_PIXELS:
            raise DataError(f"{path} has frames of more than {MAX_PIXELS} pixels")
    except BaseException:
        container.close()
        raise
    return container


def _stamps(av: Any, path: Path) -> tuple[list[int | None], float, int]:
    """The times of the frames in display order, the unit of time in seconds, and the time origin. Decodes nothing.

    Some formats store no times; then each time is None.
    """
    with _open(av, path) as container:
        stream = container.streams.video[0]
        unit, zero, promised = float(stream.time_base or 0), stream.start_time or 0, stream.frames
        is_avi = container.format.name == "avi"
        # Matroska stores no frame count, but a duration. The audio may be longer than the video.
        stamps: list[int | None] = []
        last, length = (0.0, 0.0), 0.0 if promised else (container.duration or 0) / av.time_base
        for packet in container.demux(*([stream] if promised else [])):
            if packet.size and packet.stream_index == stream.index:
                stamps.append(packet.pts)
            if packet.size and packet.pts is not None and packet.time_base:
                base = float(packet.time_base)
                last = max(last, (packet.pts * base, (packet.duration or 0) * base))
    if promised > len(stamps) * _INEXACT:
        raise DataError(f"{path} is truncated: it has {len(stamps)} of {promised} frames")
    if stamps and length > (end := _end(*last, len(stamps))) * _INEXACT:
        raise DataError(f"{path} is truncated: it ends after {end:.1f} of {length:.1f} seconds")
    known = [stamp for stamp in stamps if stamp is not None]
    if len(set(known)) < len(stamps):
        return [None] * len(stamps), unit, zero
    if is_avi and known:
        zero = min(known)  # AVI times are derived from the storage order, and late by the reorder delay
    return [*sorted(known)], unit, zero


def _end(start: float, duration: float, num_packets: int) -> float:
    """The end of the last packet in seconds. Without a stored duration, the mean duration of the others is used."""
    if duration or not start:
        return start + duration or float("inf")
    return start * num_packets / max(num_packets - 1, 1)


def _numbers(
    path: Path, stamps: list[int | None], unit: float, zero: int, start: float | None, end: float | None
) -> list[int]:
    """The numbers of the frames between start and end."""
    if start is None and end is None:
        return list(range(len(stamps)))
    first, last = start or 0.0, float("inf") if end is None else end
    numbers = []
    for number, stamp in enumerate(stamps):
        if stamp is None:
            raise DataError(f"{path} stores no frame times, so the part from {start} to {end} seconds cannot be found")
        if first <= (stamp - zero) * unit < last:
            numbers.append(number)
    return numbers


def _choose(numbers: Sequence[int], count: int) -> list[int]:
    """The middle number of each of `count` equal parts, in order."""
    if len(numbers) <= count:
        return list(numbers)
    return [numbers[(2 * part + 1) * len(numbers) // (2 * count)] for part in range(count)]


def _decode(av: Any, path: Path, stamps: list[int | None], chosen: list[int]) -> Iterator[np.ndarray]:
    """The frames with these numbers, which are in ascending order."""
    remaining = list(reversed(chosen))
    with _open(av, path) as container:
        for number, frame in _numbered(container, stamps, chosen[0]):
            if number == remaining[-1]:
                remaining.pop()
                if frame.width * frame.height > MAX_PIXELS:
                    raise DataError(f"{path} has frames of more than {MAX_PIXELS} pixels")
                yield frame.to_ndarray(format="rgb24")
                if not remaining:
                    return
    raise DataError(f"{path} is damaged: frame {remaining[-1]} cannot be decoded")


def _numbered(container: Any, stamps: list[int | None], first: int) -> Iterator[tuple[int | None, Any]]:
    """Frames with their numbers. If the format stores times, decoding starts at a key frame before frame `first`."""
    stream = container.streams.video[0]
    # AVI numbers frames in storage order. If this is not the display order, a decoded frame has the time of another
    # one. Counting frames is correct then, but all frames before the first must be decoded.
    as_stored = container.format.name == "avi" and stream.codec_context.name in _REORDERED
    if first and stamps[first] is not None and not as_stored:
        number_of = {stamp: number for number, stamp in enumerate(stamps)}
        container.seek(stamps[first], stream=stream)
        decoded = container.decode(stream)
        frame = next(decoded, None)
        number = None if frame is None else number_of.get(frame.pts)
        if number is not None and number <= first:
            yield number, frame
            yield from ((number_of.get(frame.pts), frame) for frame in decoded)
            return
        container.seek(0, stream=stream)  # some formats cannot seek to key frames
    yield from enumerate(container.decode(stream))


@dataclasses.dataclass(frozen=True)
class VideoSource(EntriesSource):
    """Listed videos: the middle frame of each, or several frames.

    Attributes:
        entries: one per video. "start" and "end" in the metadata, in seconds, select a part of the video. A missing or
            damaged video becomes one Broken, even if some of its frames could be decoded.
        num_frames: None for the middle frame, with the entry's key. Otherwise this many frames; their keys end in
            "#<number>", and their metadata has {"clip": key of the video}. All frames of one video are in memory at
            once.
    """

    num_frames: int | None = None

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<root>:<number of its first video>."""
        return tuple(f"{self.root}:{first}" for first in range(0, len(self.entries), _PER_SHARD))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the entries, the files' sizes, the number of frames, and the version of the choice of frames."""
        return entries_fingerprint(self.root, self.entries, f"{self.num_frames} {_READING}")

    @functools.cached_property
    def num_samples(self) -> int | None:
        """The number of videos; None for several frames per video, since short videos give fewer."""
        return len(self.entries) if self.num_frames is None else None

    def get_all(self, keys: Collection[str]) -> Iterator[Sample]:
        """Decode only the videos of these samples."""
        videos = {key.rpartition("#")[0] if self.num_frames is not None else key for key in keys}
        entries = [entry for entry in self.entries if utf8(entry.key or entry.file) in videos]
        yield from super(VideoSource, dataclasses.replace(self, entries=entries)).get_all(keys)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The frames of up to 100 videos."""
        for entry in self.entries[index * _PER_SHARD : (index + 1) * _PER_SHARD]:
            key = utf8(entry.key or entry.file)
            start_and_end = entry.metadata.get("start"), entry.metadata.get("end")
            try:
                images = read_frames(self.root / entry.file, self.num_frames or 1, *start_and_end)
            except DataError as error:
                yield Broken(key, self.shards[index], str(error))
                continue
            if self.num_frames is None:
                yield Sample(key, images[0], entry.texts, entry.label, entry.metadata)
                continue
            for number, image in enumerate(images):
                metadata = {**entry.metadata, "clip": key}
                yield Sample(f"{key}#{number}", image, entry.texts, entry.label, metadata)
