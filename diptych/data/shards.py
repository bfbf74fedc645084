"""Tar shards in webdataset's format: reading them as a Source, and writing them."""

import collections
import dataclasses
import functools
import io
import itertools
import json
import logging
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from diptych.data.grouping import Group, key_and_extension
from diptych.data.samples import clean_texts, fingerprint, relative_names
from diptych.data.source import Source, Survey, spaced
from diptych.data.tar import DamagedArchiveError, Member, MissingEndError, read_members, read_names
from diptych.errors import DataError
from diptych.files import expanded, new_file, stand_in_at, writing
from diptych.records import Broken, Sample

logger = logging.getLogger(__name__)

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MAGIC = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG", "png"),
    (b"RIFF", "webp"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
    (b"P6", "ppm"),
    (b"P5", "pgm"),
    (b"P4", "pbm"),
)


@dataclasses.dataclass(frozen=True)
class TarSource(Source):
    """Tar shards, plain or gzipped, as webdataset and img2dataset write them.

    A truncated or corrupt shard yields the samples before the damage, then one Broken for the rest.

    Attributes:
        paths: the shards, in reading order.
        images_only: captions, labels and other members are ignored.
        strict: treat a missing end-of-archive mark as damage. Such a shard may be truncated between two members, or
            come from a writer that omits the mark. If False, it counts as complete, as in tarfile, and is logged.
    """

    paths: tuple[Path, ...]
    strict: bool = False
    images_only: bool = False

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """The files' paths."""
        return tuple(str(path) for path in self.paths)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the shards' names and sizes."""
        return fingerprint(self.paths, relative_names(self.paths))

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(re.sub(r"(\.tar|\.tar\.gz|\.tgz)$", "", name, flags=re.I) for name in relative_names(self.paths))

    @functools.cached_property
    def _without_end(self) -> set[int]:
        """Shards that were already logged, because each epoch reads them again."""
        return set()

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The samples of one shard, with keys "<shard>/<key in the shard>".

        Raises:
            DataError: the file is missing, or the disk fails.
        """
        shard, name = self.shards[index], self._names[index]
        new_group = functools.partial(Group, images_only=self.images_only)
        group, seen, lost = new_group("", name, shard), collections.Counter[str](), dict[str, tuple[str, bool]]()
        try:
            for member in self._members(index):
                key, extension = key_and_extension(member)
                if not key:
                    continue
                if key != group.key:
                    for item in group.finish():
                        if isinstance(item, Broken):
                            lost[group.key] = item.reason, group.has_image
                        yield item
                    group = new_group(key, name, shard, seen[key], lost.get(key))
                    seen[key] += 1
                group.add(extension, member)
            yield from group.finish()
            if not seen:
                yield Broken(name, shard, "empty shard: it has no samples")
        except DamagedArchiveError as error:
            if key_and_extension(Member(error.member))[0] != group.key:
                yield from (item for item in group.finish() if isinstance(item, Sample))
            why = (not seen and stand_in_at(self.paths[index], "shard")) or error
            yield Broken(f"{name}/{error.member}", shard, f"the rest of the shard is lost: {why}", rest_lost=True)
        except OSError as error:
            raise DataError(f"cannot read the shard {shard}: {error.strerror or error}") from error

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """The shards."""
        yield from spaced(self.paths, limit)

    def survey(self) -> Survey:
        """Count samples from the headers only; consecutive members with one key are a sample, as in `read`."""
        counts, problems = zip(*map(_count_tar, self.paths), strict=True)
        return Survey(sum(counts), [problem for problem in problems if problem])

    def get_all(self, keys: Collection[str]) -> Iterator[Sample]:
        """The samples of some keys; only shards whose names the keys begin with are read."""
        for index, name in enumerate(self._names):
            if any(key.startswith(f"{name}/") for key in keys):
                yield from (item for item in self.read(index) if isinstance(item, Sample) and item.key in keys)

    def _members(self, index: int) -> Iterator[Member]:
        try:
            yield from read_members(self.paths[index])
        except MissingEndError as error:
            if self.strict:
                raise
            if index not in self._without_end:
                self._without_end.add(index)
                logger.warning("%s has %s", self.shards[index], error)


def _count_tar(path: Path) -> tuple[int, str]:
    """The number of samples in a shard, and what is wrong with it; grouped as in `read`."""
    count, last = 0, ""
    try:
        for member in read_names(path):
            key = key_and_extension(member)[0]
            count += bool(key) and key != last
            last = key or last
    except (DamagedArchiveError, OSError) as error:
        return count, f"{path} breaks off: {str(error)[:200]}"
    return count, "" if count else f"{path} has no samples"


def write_shards(samples: Iterable[Sample], folder: str | Path, shard_size: int = 5000) -> list[Path]:
    """Write samples as tar shards 0.tar, 1.tar, ... and nshards.txt (the wds layout); equal samples give equal bytes.

    Encoded images are stored unchanged, arrays as PNG. A single caption becomes a .txt; several captions and metadata
    become a .json; a label becomes a .cls. A shard gets its name only when it is complete, and nshards.txt is written
    when all shards are.

    Args:
        samples: read once, one at a time.
        folder: created if it is missing; must not contain shards.
        shard_size: samples per shard.
    Returns:
        The shards' paths.
    Raises:
        DataError: the folder contains shards, a sample cannot be stored (no text and no label, a duplicate key, ...),
            or the disk is full or not writable.
    """
    folder = expanded(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        existing = [path.name for path in folder.iterdir() if path.name.lower().endswith(TAR_SUFFIXES)]
    if existing:
        raise DataError(
            f"{folder} already contains shards ({min(existing)}, ...): name another folder, or delete them first"
        )
    paths: list[Path] = []
    iterator = iter(samples)
    while (first := next(iterator, None)) is not None:
        paths.append(folder / f"{len(paths)}.tar")
        with writing(paths[-1]):
            _write_shard(itertools.chain([first], itertools.islice(iterator, shard_size - 1)), paths[-1])
    with writing(folder / "nshards.txt"):
        (folder / "nshards.txt").write_text(f"{len(paths)}\n")
    return paths


def _write_shard(samples: Iterable[Sample], path: Path) -> None:
    keys: set[str] = set()
    with (
        new_file(path, durable=True) as unfinished,
        tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for sample in samples:
            key = _member_key(sample.key)
            if key in keys:
                raise DataError(f"two samples are named {sample.key}")
            keys.add(key)
            for extension, data in _sample_files(sample).items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def _member_key(key: str) -> str:
    """The key, with %XX for characters that would end it or lead out of the archive."""
    safe = r"[^\w/-]" if re.fullmatch(r"[^/]+(/[^/]+)*", key) else r"[^\w-]"
    return re.sub(safe, lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), key)


def _sample_files(sample: Sample) -> dict[str, bytes]:
    try:
        texts = clean_texts(sample.texts)
        if not texts and sample.label is None:
            raise DataError("it has neither a caption nor a label")
        extension, data = _image_file(sample.image)
        files = {extension: data}
        record = {name: value for name, value in sample.metadata.items() if name not in _STORED_ELSEWHERE}
        if len(texts) == 1 and "\n" not in texts[0]:
            files["txt"] = texts[0].encode()
        elif texts:
            record["captions"] = list(texts)
        if sample.label is not None:
            files["cls"] = str(sample.label).encode()
        if record:
            files["json"] = json.dumps(record, ensure_ascii=False, default=str).encode()
        return files
    except (DataError, UnicodeEncodeError) as error:
        raise DataError(f"the sample {sample.key} cannot be stored: {error}") from None


_STORED_ELSEWHERE = ("captions", "texts", "caption", "text", "label")


def _image_file(image: bytes | np.ndarray) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        for magic, extension in _MAGIC:
            if image.startswith(magic):
                return extension, image
        if image[4:8] == b"ftyp":
            return ("avif" if image[8:12] in (b"avif", b"avis") else "heic"), image
        raise DataError(f"its image begins with {image[:8]!r}, which is not a known format")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"its image is {image.dtype} {image.shape}, not uint8 (height, width, 3)")
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return "png", stream.getvalue()
