"""Interpolate linearly between the weights of a zero-shot model and its fine-tuned version."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from diptych.embed.model import Model
from diptych.errors import ConfigError, WeightsError


def interpolate(zero_shot: Model, fine_tuned: Model, share: float) -> Model:
    """The model with the weights (1 - share) · zero_shot + share · fine_tuned.

    Fine-tuning gains accuracy on its own data and loses it elsewhere. Interpolated models often keep most of both.
    Every tensor is mixed, including BatchNorm's running statistics and the temperature. Shares of 0 and 1 return the
    two models exactly.

    Args:
        zero_shot: the model before fine-tuning. The result has its device and number formats.
        fine_tuned: the model after fine-tuning.
        share: weight of the fine-tuned model, from 0 to 1.
    Raises:
        ConfigError: the share is outside [0, 1].
        WeightsError: architecture, tokenizer or preprocessing differ; the message names each difference.
    Source: Wortsman et al. 2021 (WiSE-FT), arXiv 2109.01903.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the share of the fine-tuned model is {share}; it must lie from 0 to 1")
    if differing := list(_differences(zero_shot, fine_tuned)):
        raise WeightsError(
            f"{zero_shot.name} and {fine_tuned.name} cannot be mixed: {'; '.join(differing)}. "
            "Give a model and a model that was fine-tuned from it"
        )
    clip = copy.deepcopy(zero_shot.clip)
    fine_tuned_tensors = fine_tuned.clip.state_dict()
    with torch.no_grad():
        for name, tensor in clip.state_dict().items():
            other = fine_tuned_tensors[name].to(tensor)
            # Integer tensors are counters, which cannot be mixed; no result depends on them.
            tensor.copy_(torch.lerp(tensor, other, share) if tensor.is_floating_point() else other)
    name = f"{zero_shot.name}-{fine_tuned.name}-{share:g}"
    return Model(clip.eval(), zero_shot.tokenizer, zero_shot.preprocessing, name)


def _differences(first: Model, second: Model) -> Iterator[str]:
    """Descriptions of the differences that prevent mixing two models."""
    pairs = (
        ("", first.clip.config.to_dict(), second.clip.config.to_dict()),
        ("preprocessing.", first.preprocessing.to_dict(), second.preprocessing.to_dict()),
    )
    for prefix, first_tree, second_tree in pairs:
        left, right = dict(_leaves(first_tree, prefix)), dict(_leaves(second_tree, prefix))
        for name in (*left, *(right.keys() - left.keys())):
            if left.get(name) != right.get(name):
                yield f"{name} is {left.get(name)!r} and {right.get(name)!r}"
    fingerprints = [model.tokenizer.fingerprint if model.tokenizer else None for model in (first, second)]
    if fingerprints[0] != fingerprints[1]:
        yield "only one has a tokenizer" if None in fingerprints else "tokenizers differ"


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of the leaves of a nested mapping."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
