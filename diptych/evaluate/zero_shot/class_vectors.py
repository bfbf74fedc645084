"""One vector per class from the texts of its prompts. Arrays alone: what embeds the texts may be anything."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from diptych.errors import InputError, ShapeError
from diptych.evaluate.zero_shot.class_prompts import fill_template
from diptych.evaluate.zero_shot.class_vector_cache import cache_path, read_class_vectors, write_class_vectors
from diptych.progress import progress_bar

_PROMPTS_PER_BATCH = 1024


def class_vectors(
    encode_texts: Callable[[Sequence[str]], np.ndarray],
    model: str,
    text_fingerprint: str | None,
    class_names: Sequence[str | Sequence[str]],
    templates: Sequence[str],
    cache_folder: str | Path | None,
) -> np.ndarray:
    """One vector per class: the mean of its prompts' unit embeddings, scaled to unit norm.

    Args:
        encode_texts: n prompts -> (n, E), unit norm.
        model: its name, for messages.
        text_fingerprint: of the model; without one the result is not cached.
        class_names: C classes, each with one name or several names of equal weight.
        templates: T templates with {c}.
        cache_folder: where to cache the result; None caches nothing.
    Returns:
        (C, E) float32, unit L2 norm.
    Raises:
        InputError: the embedding of a prompt is not finite, or the embeddings of a class sum to zero.
    Source: CLIP paper, section 3.1.4.
    """
    path = cache_path(cache_folder, text_fingerprint, class_names, templates)
    if path is not None and (cached := read_class_vectors(path, len(class_names))) is not None:
        return cached
    names_of = [(names,) if isinstance(names, str) else tuple(names) for names in class_names]
    prompts = [fill_template(template, name) for names in names_of for name in names for template in templates]
    class_of_prompt = np.repeat(np.arange(len(names_of)), [len(names) * len(templates) for names in names_of])
    sums = _class_sums(encode_texts, model, prompts, class_of_prompt, len(names_of))
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    if unusable := np.flatnonzero(~(norms[:, 0] > 0)).tolist():
        raise InputError(f"{model} gives no usable embedding (NaN or zero) for the class {names_of[unusable[0]][0]!r}")
    vectors = (sums / norms).astype(np.float32)
    if path is not None:
        write_class_vectors(vectors, path)
    return vectors


def _class_sums(
    encode_texts: Callable[[Sequence[str]], np.ndarray],
    model: str,
    prompts: Sequence[str],
    class_of_prompt: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """The sum of each class's prompts, float64 (C, E); `class_of_prompt` int64 (P,) of P prompts."""
    # Prompts of similar length share a batch: an encoder computes up to the longest prompt of a batch.
    order = np.array(sorted(range(len(prompts)), key=lambda index: len(prompts[index])), np.int64)
    batches = [order[start : start + _PROMPTS_PER_BATCH] for start in range(0, len(order), _PROMPTS_PER_BATCH)]
    sums = np.zeros((num_classes, 0))
    for rows in progress_bar(batches, "prompts", len(prompts), len):
        embeddings = encode_texts([prompts[index] for index in rows.tolist()]).astype(np.float64)
        if embeddings.ndim != 2 or len(embeddings) != len(rows):
            raise ShapeError(f"{model}: {len(rows)} texts gave embeddings of shape {embeddings.shape}")
        sums = sums if sums.shape[1] else np.zeros((num_classes, embeddings.shape[1]))
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        np.add.at(sums, class_of_prompt[rows], embeddings / np.maximum(norms, 1e-12))
    return sums
