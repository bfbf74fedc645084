"""Between two models: weights on the straight line from a zero-shot model to its fine-tuned self."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from diptych.embed.model import Model
from diptych.errors import ConfigError, WeightsError


def interpolate(zero_shot: Model, fine_tuned: Model, share: float) -> Model:
    """The model with the weights (1 - share) · zero_shot + share · fine_tuned.

    Fine-tuning gains on its own data and loses elsewhere; models between often keep most of both. Every tensor is
    mixed, running statistics of BatchNorm and the temperature too. Shares of 0 and 1 give the two models back exactly.

    Args:
        zero_shot: the model before; its device and number formats are the result's.
        fine_tuned: the same after fine-tuning.
        share: of the second, from 0 to 1.
    Raises:
        ConfigError: the share lies outside.
        WeightsError: architecture, tokenizer or preprocessing differ; each difference is named.
    Source: Wortsman et al. 2021 (WiSE-FT), arXiv 2109.01903.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the share of the fine-tuned model is {share}; it must lie from 0 to 1")
    if differing := list(_differences(zero_shot, fine_tuned)):
        raise WeightsError(
            f"{zero_shot.name} and {fine_tuned.name} cannot be mixed: {'; '.join(differing)}. "
            "Take a model and what was fine-tuned from it"
        )
    clip = copy.deepcopy(zero_shot.clip)
    others = fine_tuned.clip.state_dict()
    with torch.no_grad():
        for name, tensor in clip.state_dict().items():
            other = others[name].to(tensor)
            # Counts cannot be mixed; nothing is computed from them.
            tensor.copy_(torch.lerp(tensor, other, share) if tensor.is_floating_point() else other)
    name = f"{zero_shot.name}-{fine_tuned.name}-{share:g}"
    return Model(clip.eval(), zero_shot.tokenizer, zero_shot.preprocessing, name)


def _differences(one: Model, other: Model) -> Iterator[str]:
    """What keeps two models from being mixed, in words."""
    pairs = (
        ("", one.clip.config.to_dict(), other.clip.config.to_dict()),
        ("preprocessing.", one.preprocessing.to_dict(), other.preprocessing.to_dict()),
    )
    for prefix, first, second in pairs:
        ours, theirs = dict(_leaves(first, prefix)), dict(_leaves(second, prefix))
        for name in (*ours, *(theirs.keys() - ours.keys())):
            if ours.get(name) != theirs.get(name):
                yield f"{name} is {ours.get(name)!r} and {theirs.get(name)!r}"
    fingerprints = [model.tokenizer.fingerprint if model.tokenizer else None for model in (one, other)]
    if fingerprints[0] != fingerprints[1]:
        yield "only one has a tokenizer" if None in fingerprints else "tokenizers differ"


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """The values of a tree with their dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
