"""A dry run: the configuration, size and estimated time of a run, from a short measurement."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from diptych.data.library_tokenizer import AnyTokenizer, read_tokenizer
from diptych.data.tokenizer import Tokenizer
from diptych.model.device import choose_device
from diptych.model.flops import flops_per_pair
from diptych.train.config import TrainConfig
from diptych.train.initial import initial_tokenizer
from diptych.train.inputs import no_pairs, pairs_of, spread_captions
from diptych.train.length import whole_steps, with_length
from diptych.train.measure import Cost, measure

_CAPTIONS = 1000  # enough for their mean length


@dataclasses.dataclass(frozen=True)
class Plan:
    """A dry run. `str(plan)` is what `diptych train --dry-run` prints.

    Attributes:
        num_image, num_text: parameters of the towers, each with its projection.
        caption_tokens: mean length of the captions, with start and end.
        flops_per_pair: forward and backward; a multiply-add counts as two.
        cost: memory and time, measured if the machine allows it.
        world_size: processes that share the work.
    """

    config: TrainConfig
    num_image: int
    num_text: int
    caption_tokens: float
    flops_per_pair: float
    cost: Cost
    world_size: int

    @property
    def seconds(self) -> float | None:
        """Seconds of the whole run; None if nothing could be measured."""
        return None if self.cost.seconds_per_step is None else self.cost.seconds_per_step * self.config.num_steps

    @property
    def time(self) -> str:
        """Time of the whole run in words."""
        if self.seconds is None:
            return "not measured"
        return ("at most " if self.cost.at_most else "") + duration(self.seconds)

    def __str__(self) -> str:
        return "\n".join([*_tree(self.config.to_dict()), "", *_facts(self)])


def make_plan(config: TrainConfig) -> Plan:
    """Estimate the cost of the run from a few updates on synthetic images, with captions as long as the data's.

    No file is written.

    Raises:
        ConfigError, DataError, WeightsError: what training would raise before its first step.
    """
    lengths = _caption_lengths(config)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    mean = lengths.double().mean().item()
    model = config.model
    image, text = model.vision.num_parameters(model.embed_dim), model.text.num_parameters(model.embed_dim)
    flops = flops_per_pair(model, mean, config.patch_dropout.share)
    cost = measure(config, lengths, choose_device(config.device), world_size)
    if config.minutes is not None and cost.seconds_per_step is not None:
        num_steps = 60 * config.minutes / cost.seconds_per_step
        config = with_length(config, whole_steps(num_steps * config.global_batch_size, config))
    return Plan(config, image, text, mean, flops, cost, world_size)


def _caption_lengths(config: TrainConfig) -> torch.Tensor:
    """int64 (n,), tokens of some captions of the data; a single 0 for pairs of images."""
    if config.copies is not None:
        return torch.zeros(1, dtype=torch.int64)
    source = pairs_of(config)
    captions = spread_captions(source, _CAPTIONS)
    if not captions:
        raise no_pairs(config.data, source)
    return _tokenizer(config, captions)(captions, truncate=True)[1]


def _tokenizer(config: TrainConfig, captions: list[str]) -> AnyTokenizer:
    """The run's tokenizer; for "train", learned only from these captions, which makes them a little shorter."""
    text = config.model.text
    if config.tokenizer == "train":
        return Tokenizer.train(captions, vocab_size=text.vocab_size, context_length=text.context_length)
    if config.tokenizer == "openai":
        return Tokenizer.openai(context_length=text.context_length)
    if config.tokenizer == "init":
        return initial_tokenizer(config.init)
    return read_tokenizer(config.tokenizer, context_length=text.context_length)


# ---- in words


def _tree(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A tree of values as YAML shows it; each leaf is a name for `--set`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _tree(value, indent + "  ")
        else:
            yield f"{indent}{name}: {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) and value.isprintable() and ": " not in value else json.dumps(value)


def _facts(plan: Plan) -> Iterator[str]:
    config, cost = plan.config, plan.cost
    total = plan.num_image + plan.num_text
    yield f"parameters       {total:,} (image {plan.num_image:,}, text {plan.num_text:,})"
    yield f"FLOPs per pair   {_scaled(plan.flops_per_pair)} (forward and backward, {plan.caption_tokens:.1f} tokens)"
    yield f"memory           {_bytes(cost.total)} {'a process' if plan.world_size > 1 else 'in all'}"
    for name, size in cost.memory.items():
        yield f"  {name:<15}{_bytes(size)}"
    batch = f"{config.num_pairs:,} pairs, {config.global_batch_size:,} a step"
    yield f"steps            {config.num_steps:,} ({batch})"
    if plan.seconds is not None and cost.seconds_per_step is not None:
        rate = config.global_batch_size / cost.seconds_per_step
        yield f"time             {plan.time} ({cost.seconds_per_step:.3g} s a step, {rate:.4g} pairs/s)"
    for note in cost.notes:
        yield f"note             {note}"


def _scaled(number: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def _bytes(number: float) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """The duration in words, in the largest unit that gives at least 2."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
