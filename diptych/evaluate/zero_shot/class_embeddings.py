"""Class embeddings from texts: one unit vector per class, cached on disk."""

from collections.abc import Sequence
from pathlib import Path

import torch

from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.evaluate.zero_shot.class_vectors import class_vectors


def class_embeddings(
    encoder: Encoder,
    class_names: Sequence[str | Sequence[str]],
    templates: Sequence[str],
    *,
    cache_folder: str | Path | None = None,
) -> torch.Tensor:
    """`class_vectors` of an encoder: (C, E) float32, unit L2 norm, on the CPU.

    Args:
        encoder: encodes the prompts; the result is cached only if the encoder states a text fingerprint.
        class_names: C classes, each with one name or several names of equal weight.
        templates: T templates with {c}.
        cache_folder: where to cache the result; None caches nothing.
    Raises:
        InputError: the embedding of a prompt is not finite, or the embeddings of a class sum to zero.
    """
    vectors = class_vectors(
        lambda texts: torch.as_tensor(encoder.encode_texts(texts)).float().cpu().numpy(),
        encoder.name,
        about(encoder).text_fingerprint,
        class_names,
        templates,
        cache_folder,
    )
    return torch.from_numpy(vectors)
