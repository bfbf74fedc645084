"""Images or texts to a store of vectors, in one call: what `diptych embed` does, as functions."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diptych.data.columns import ColumnNames
from diptych.data.open_images import Inputs, open_images
from diptych.data.source import Source
from diptych.data.texts import open_texts
from diptych.embed.about import about
from diptych.embed.embed_source import embed_source
from diptych.embed.encoder import Encoder
from diptych.embed.engine import TEXT_EMBEDDINGS
from diptych.embed.store import Store
from diptych.errors import ConfigError, TextError
from diptych.records import Broken, Sample

BATCH_SIZE, GPU_BATCH_SIZE, TEXT_BATCH_SIZE = 64, 256, 1024
ROWS_PER_SHARD = 4096
"""Rows that a killed run loses at most."""
_TEXTS_PER_SHARD = 65_536


def embed_images(
    model: Encoder,
    images: Inputs | Source,
    folder: str | Path,
    *,
    image_column: str | None = None,
    kind: str = "embeddings",
    batch_size: int | None = None,
    **options: Any,
) -> Store:
    """Embed images into a store. Call it again to resume an interrupted run.

    Args:
        model: from `diptych.load`, or any Encoder.
        images: files, folders, tar shards, parquet or CSV files as in `open_images`; or a Source, such as a UrlSource.
        folder: folder of the store; created if it is missing.
        image_column: column of a table, if it has not a usual name.
        kind: "embeddings" of unit norm, or "features" before the projection.
        batch_size: images per batch; by default 64, or 256 on a GPU. A resumed run needs the same.
        options: num_workers, num_processes, num_threads, fast_decoding, allow_other_backend and more of `embed_source`.
    Returns:
        The complete store; `all_broken_samples(store)` lists the images that could not be used.
    Raises:
        DataError: no images are found, or the folder holds vectors of something else.
    """
    if isinstance(images, Source):
        source = images
    else:
        source = open_images(images, ColumnNames(image=image_column))
    return embed_source(source, model, folder, kind=kind, **_sizes(batch_size or _batch_size(model)), **options)


def embed_texts(
    model: Encoder,
    texts: Sequence[str] | str | Path,
    folder: str | Path,
    *,
    text_column: str | None = None,
    batch_size: int = TEXT_BATCH_SIZE,
    **options: Any,
) -> Store:
    """Embed texts into a store of the same format. Call it again to resume an interrupted run.

    A text longer than the model's context is cut there; the log tells how many were.

    Args:
        model: from `diptych.load`, or any Encoder with a text side.
        texts: a list of texts, whose keys are their indices; or a file as in `open_texts`.
        folder: folder of the store; created if it is missing.
        text_column: column of a table, if it has not a usual name.
        batch_size: texts per batch; the model splits them into batches of similar length.
        options: as in `embed_images`.
    Raises:
        TextError: the list is empty or holds something else than texts.
        DataError: the file has no texts, or the folder holds vectors of something else.
        ConfigError: the model encodes no texts.
    """
    source = open_texts(texts, text_column) if isinstance(texts, str | Path) else listed_texts(texts)
    return embed_source(source, model, folder, kind=TEXT_EMBEDDINGS, **_sizes(batch_size), **options)


def listed_texts(texts: Sequence[str]) -> "ListedTexts":
    """A list of texts as a Source.

    Raises:
        TextError: the list is empty or holds something else than texts.
    """
    if not (texts := tuple(texts)):
        raise TextError("give at least one text")
    wrong = next((index for index, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise TextError(f"text {wrong} is not a str but {type(texts[wrong]).__name__}")
    return ListedTexts(texts)


@dataclasses.dataclass(frozen=True)
class ListedTexts(Source):
    """Texts in memory; the key of a text is its index."""

    texts: tuple[str, ...]

    @property
    def shards(self) -> Sequence[str]:
        """<number of the first text>."""
        return [f"texts:{first}" for first in range(0, len(self.texts), _TEXTS_PER_SHARD)]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the texts."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()

    @property
    def num_samples(self) -> int | None:
        """The number of texts."""
        return len(self.texts)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The texts of a shard, each as a Sample without an image."""
        first = index * _TEXTS_PER_SHARD
        for number, text in enumerate(self.texts[first : first + _TEXTS_PER_SHARD], first):
            yield Sample(str(number), b"", (text,))


def _sizes(batch_size: int) -> dict[str, Any]:
    """Batch size, and the multiple of it that is close to ROWS_PER_SHARD."""
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
    return {"batch_size": batch_size, "rows_per_shard": batch_size * max(1, ROWS_PER_SHARD // batch_size)}


def _batch_size(model: Encoder) -> int:
    device = about(model).device
    return BATCH_SIZE if device is None or str(device).partition(":")[0] == "cpu" else GPU_BATCH_SIZE
