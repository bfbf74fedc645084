"""Class embeddings from texts: one unit vector per class, cached on disk."""

from collections.abc import Sequence
from pathlib import Path

import torch

from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.errors import InputError, ShapeError
from diptych.evaluate.zero_shot.class_prompts import fill_template
from diptych.evaluate.zero_shot.class_vector_cache import cache_path, read_class_vectors, write_class_vectors
from diptych.progress import progress_bar

_PROMPTS_PER_BATCH = 1024


def class_embeddings(
    encoder: Encoder,
    class_names: Sequence[str | Sequence[str]],
    templates: Sequence[str],
    *,
    cache_folder: str | Path | None = None,
) -> torch.Tensor:
    """One vector per class: the mean of its prompts' unit embeddings, scaled to unit norm.

    Args:
        encoder: encodes the prompts; the result is cached only if the encoder states a text fingerprint.
        class_names: C classes, each with one name or several names of equal weight.
        templates: T templates with {c}.
        cache_folder: where to cache the result; None caches nothing.
    Returns:
        (C, E) float32, unit L2 norm, on the CPU.
    Raises:
        InputError: the embedding of a prompt is not finite, or the embeddings of a class sum to zero.
    Source: CLIP paper, section 3.1.4.
    """
    path = cache_path(cache_folder, about(encoder).text_fingerprint, class_names, templates)
    if path is not None and (cached := read_class_vectors(path, len(class_names))) is not None:
        return torch.from_numpy(cached)
    names_of = [(names,) if isinstance(names, str) else tuple(names) for names in class_names]
    prompts = [fill_template(template, name) for names in names_of for name in names for template in templates]
    class_of_prompt = [index for index, names in enumerate(names_of) for _ in range(len(names) * len(templates))]
    embeddings = _class_means(encoder, prompts, torch.tensor(class_of_prompt), [names[0] for names in names_of])
    if path is not None:
        write_class_vectors(embeddings.numpy(), path)
    return embeddings


def _class_means(
    encoder: Encoder, prompts: Sequence[str], class_of_prompt: torch.Tensor, class_names: Sequence[str]
) -> torch.Tensor:
    """The normalized mean of each class's prompts, float32 (C, E); `class_of_prompt` int64 (P,) of P prompts."""
    # Prompts of similar length share a batch: an encoder computes up to the longest prompt of a batch.
    order = torch.tensor(sorted(range(len(prompts)), key=lambda index: len(prompts[index])))
    sums = torch.zeros(())
    for rows in progress_bar(order.split(_PROMPTS_PER_BATCH), "prompts", len(prompts), len):
        embeddings = encoder.encode_texts([prompts[index] for index in rows.tolist()]).double().cpu()
        if embeddings.ndim != 2 or len(embeddings) != len(rows):
            raise ShapeError(f"{encoder.name}: {len(rows)} texts gave embeddings of shape {tuple(embeddings.shape)}")
        sums = sums if sums.ndim else torch.zeros(len(class_names), embeddings.shape[1], dtype=torch.float64)
        sums.index_add_(0, class_of_prompt[rows], torch.nn.functional.normalize(embeddings, dim=1))
    norms = sums.norm(dim=1, keepdim=True)
    if unusable := [class_names[index] for index in (~(norms > 0)).nonzero()[:, 0].tolist()]:
        raise InputError(f"{encoder.name} gives no usable embedding (NaN or zero) for the class {unusable[0]!r}")
    return (sums / norms).float()
