"""Class embeddings kept on disk by content: model, class names and templates. Does not import torch."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diptych.files import cache_folder, expanded, read_or_none, write_whole

_log = logging.getLogger(__name__)
_MAX_CACHE_BYTES = 2**31


def default_cache_folder() -> Path | None:
    """Where the command line caches classifiers: $XDG_CACHE_HOME/diptych/classifiers, under ~/.cache by default."""
    caches = cache_folder()
    return None if caches is None else caches / "diptych" / "classifiers"


def cache_path(
    folder: str | Path | None,
    fingerprint: str | None,
    class_names: Sequence[str | Sequence[str]],
    templates: Sequence[str],
) -> Path | None:
    """The file of a classifier; None without a folder or without the model's text fingerprint."""
    if folder is None or not fingerprint:
        return None
    content = json.dumps([fingerprint, list(class_names), list(templates)])
    return expanded(folder) / f"{hashlib.sha256(content.encode()).hexdigest()}.safetensors"


def read_class_vectors(path: Path, num_classes: int) -> np.ndarray | None:
    """The (C, E) float32 vectors in a file; None if there is none, or, with a warning, if it is broken."""
    return read_or_none(path, lambda kept: _read(kept, num_classes), "cached classifier")


def _read(path: Path, num_classes: int) -> np.ndarray:
    from safetensors.numpy import load

    if path.stat().st_size > _MAX_CACHE_BYTES:
        raise ValueError("too large")
    vectors = load(path.read_bytes())["class_embeddings"]
    if vectors.ndim != 2 or len(vectors) != num_classes or vectors.dtype != np.float32:
        raise ValueError(f"{vectors.dtype} of shape {vectors.shape} for {num_classes} classes")
    if not (np.abs(np.linalg.norm(vectors, axis=1) - 1) < 1e-4).all():
        raise ValueError("rows without unit norm")
    return vectors


def write_class_vectors(vectors: np.ndarray, path: Path) -> None:
    """Cache a classifier; a failed write is only logged, since the result does not depend on it."""
    from safetensors.numpy import save

    try:
        write_whole(path, save({"class_embeddings": np.ascontiguousarray(vectors)}))
    except OSError as error:
        _log.warning("the classifier cannot be cached: %s", error)
