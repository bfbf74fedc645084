"""The origin of a store's vectors: its manifest, and whether a run may add to the store of an earlier one."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diptych.data.content import content_fingerprint
from diptych.data.source import Source
from diptych.embed.about import about
from diptych.embed.backends.backend_model import BackendModel
from diptych.embed.encoder import Encoder
from diptych.embed.engine import TEXT_EMBEDDINGS, PixelEncoder, image_function
from diptych.embed.store import Store, StoreManifest, open_store
from diptych.embed.text_batches import TextFunction
from diptych.errors import ConfigError, DataError
from diptych.files import writing

LEAST_COSINE = 0.999
"""The lowest cosine with stored vectors at which another back end may add to them."""
_FAST = "; JPEGs decoded at a reduced size"
_BACKEND_FIELDS = {"backend", "precision", "model_fingerprint"}
_SHOWN = 12  # characters of a fingerprint


def source_manifest(
    source: Source,
    encoder: Encoder,
    kind: str,
    *,
    batch_size: int,
    rows_per_shard: int,
    num_units: int,
    fast_decoding: bool = False,
) -> StoreManifest:
    """The manifest of a source's store.

    Raises:
        ConfigError: the encoder does not compute vectors of that kind.
    """
    dim, origin = _vector_dim(encoder, kind), encoder_manifest(encoder, kind)
    data = hashlib.sha256(f"{source.fingerprint} {content_fingerprint(source)}".encode()).hexdigest()
    identity = [kind, origin["model_fingerprint"], origin["precision"], data, batch_size, rows_per_shard, num_units]
    if fast_decoding:
        origin["preprocessing"] += _FAST
        identity.append("fast decoding")
    fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return StoreManifest(fingerprint=fingerprint, kind=kind, data=data, dim=dim, num_units=num_units, **origin)


def encoder_manifest(encoder: Encoder, kind: str = "embeddings") -> dict[str, Any]:
    """The fields of a store's manifest that describe the encoder."""
    record, of_texts = about(encoder), kind == TEXT_EMBEDDINGS
    has_pixels = isinstance(encoder, PixelEncoder) and not of_texts
    return {
        "model": encoder.name,
        "model_fingerprint": (record.text_fingerprint if of_texts else record.image_fingerprint) or "",
        "preprocessing": str(encoder.preprocessing) if has_pixels else "",  # type: ignore[attr-defined]
        "precision": record.precision or "",
        "backend": record.backend or f"torch {torch.__version__}",
    }


def _vector_dim(encoder: Encoder, kind: str) -> int:
    """Numbers per vector, measured on one input, so that a broken encoder fails before the first shard."""
    if isinstance(encoder, BackendModel) and (kind != TEXT_EMBEDDINGS or about(encoder).has_texts):
        return encoder.vector_dim(kind)
    if kind == TEXT_EMBEDDINGS:
        vectors, failed = TextFunction(encoder)(["a photo"])
        if vectors is None:
            raise failed[0]
        return vectors.shape[1]
    function = image_function(encoder, kind)
    if isinstance(encoder, PixelEncoder):
        size = encoder.preprocessing.image_size
        return function(torch.zeros(1, 3, size, size, dtype=torch.uint8)).shape[1]
    return function([Image.new("RGB", (64, 64))]).shape[1]


def open_or_create(
    folder: Path, manifest: StoreManifest, compare: Callable[[Store], float | None] | None = None
) -> Store:
    """The store of an earlier run, or a new one.

    Args:
        compare: called if the stored vectors differ only in back end or precision; encodes some stored items again and
            returns the worst cosine with the stored vectors, or None if nothing is stored. Without it, such a store is
            refused.
    Raises:
        DataError: the folder holds something else; the message states both values of each field that differs.
        ConfigError: the encoder has no fingerprint, so the store cannot be compared with it.
    """
    if not (folder / "manifest.json").exists():
        if folder.exists() and (not folder.is_dir() or any(folder.glob("[!.]*"))):
            raise DataError(f"{folder} holds something else; choose a new folder for the embeddings")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            manifest.write(folder)
        return open_store(folder)
    store = open_store(folder)
    if not manifest.model_fingerprint and store.shards:
        raise ConfigError(
            f"{manifest.model} has no image_fingerprint, so it is unknown whether {folder} holds its vectors; "
            "choose a new folder, or define image_fingerprint"
        )
    if manifest.fingerprint == store.manifest.fingerprint or manifest.fingerprint in store.manifest.added_by:
        return store
    fields = _differing(store.manifest, manifest)
    only_backend = {"backend", "precision"} & set(fields) and not set(fields) - _BACKEND_FIELDS
    if not only_backend or compare is None:
        advice = "; or allow another back end, which compares the vectors first" if only_backend else ""
        raise DataError(
            f"{folder} holds vectors of something else: {_in_words(fields, store.manifest, manifest)}; "
            f"choose another folder{advice}"
        )
    return _adopt(store, manifest, compare(store))


def _adopt(store: Store, manifest: StoreManifest, worst: float | None) -> Store:
    """Record in the store that another back end adds to it, if the vectors agree."""
    computed = f"{manifest.backend} {manifest.precision}"
    if worst is not None and worst < LEAST_COSINE:
        raise DataError(
            f"{store.folder} was computed by {store.manifest.backend} {store.manifest.precision}; {computed} gives "
            f"vectors with a cosine of {worst:.4f} at worst, below {LEAST_COSINE}: choose another folder"
        )
    added_by = {
        **store.manifest.added_by,
        manifest.fingerprint: f"{computed}, worst cosine {1.0 if worst is None else worst:.6f}",
    }
    with writing(store.folder):
        dataclasses.replace(store.manifest, added_by=added_by).write(store.folder)
    return open_store(store.folder)


def _differing(theirs: StoreManifest, ours: StoreManifest) -> list[str]:
    """The fields that differ, except the fingerprint, which follows from others."""
    names = [field.name for field in dataclasses.fields(ours) if field.name not in ("fingerprint", "added_by")]
    fields = [name for name in names if getattr(theirs, name) != getattr(ours, name)]
    if fields == ["backend"]:  # another version of the library alone; something else made the fingerprint differ
        return []
    return fields


def _in_words(fields: list[str], theirs: StoreManifest, ours: StoreManifest) -> str:
    if not fields:
        return "batch_size or rows_per_shard differ"
    parts = []
    for name in fields:
        if name == "data":
            parts.append("the data differ (files were added, removed or changed, or it is another source)")
            continue
        there, here = (str(getattr(manifest, name)) or "unknown" for manifest in (theirs, ours))
        if name == "model_fingerprint":
            there, here = there[:_SHOWN], here[:_SHOWN] if here[:_SHOWN] != there[:_SHOWN] else here
        parts.append(f"{name}: {there} there, {here} here")
    return "; ".join(parts)
