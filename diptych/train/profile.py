"""Profile a training step: the time of its parts, and its share of the machine's peak rate.

profile = profile_training(get_recipe("compact-rn")(("playground:2000",), "out", 10**6), repeats=10)
profile.parts                      # [("data", 0.01), ("image tower", 0.2), ...], seconds
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from diptych import distributed
from diptych.data.loader import Loader
from diptych.data.transforms import normalise
from diptych.errors import ConfigError
from diptych.model.build import build_model
from diptych.model.clip import DualEncoder
from diptych.model.device import choose_device, choose_dtype
from diptych.model.flops import flops_per_pair
from diptych.model.products import affine
from diptych.model.towers import text_side_of
from diptych.objective.objectives import OBJECTIVES, PairLoss
from diptych.records import Batch
from diptych.train.config import TrainConfig
from diptych.train.inputs import open_pairs, prepare_tokenizer
from diptych.train.optimizer import Optimizer, build_optimizer
from diptych.train.parallel import Towers
from diptych.train.stochastic_rounding import prepare_weights

PARTS = ("data", "image tower", "text tower", "loss", "optimizer", "communication")
_BUCKET = 25 * 2**20 // 4  # fp32 numbers in one bucket of DistributedDataParallel


@dataclasses.dataclass(frozen=True)
class TrainingProfile:
    """The cost of a step for one process.

    Attributes:
        parts: (name, median seconds) for each of PARTS, forward and backward together. "data" is the wait for the
            loader, the transfer and the normalization; "communication" is the exchange between processes, not
            overlapped with other parts.
        num_pairs: pairs of this step.
        caption_tokens: mean tokens per caption.
        flops_per_pair: operations, forward and backward; see diptych.model.flops.
        machine_rate: operations per second of a large matrix product in the run's number format.
    """

    parts: list[tuple[str, float]]
    num_pairs: int
    caption_tokens: float
    flops_per_pair: float
    machine_rate: float

    @property
    def pairs_per_second(self) -> float:
        """Pairs per second of this process, if nothing overlaps except the loader."""
        return self.num_pairs / sum(seconds for _, seconds in self.parts)

    @property
    def share_of_rate(self) -> float:
        """The step's share of the machine's matrix-product rate."""
        return self.pairs_per_second * self.flops_per_pair / self.machine_rate

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        derived = {"pairs_per_second": self.pairs_per_second, "share_of_rate": self.share_of_rate}
        return {**dataclasses.asdict(self), "parts": dict(self.parts), **derived}


def profile_table(profile: TrainingProfile) -> Table:
    """The profile as a table: a row for each part, and the whole."""
    whole = sum(seconds for _, seconds in profile.parts)
    rate, reached = profile.machine_rate / 1e9, profile.share_of_rate
    table = Table(
        title=f"a step of {profile.num_pairs} pairs, captions of {profile.caption_tokens:.1f} tokens",
        caption=f"{profile.pairs_per_second:,.1f} pairs/s, {profile.flops_per_pair / 1e9:,.2f} GFLOPs a pair: "
        f"{reached:.0%} of the {rate:,.0f} GFLOP/s of a large matrix product",
    )
    table.add_column("part")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    for name, seconds in [*profile.parts, ("whole", whole)]:
        table.add_row(name, f"{1000 * seconds:,.1f}", f"{seconds / whole:.1%}")
    return table


def profile_training(config: TrainConfig, repeats: int = 10, rate: float | None = None) -> TrainingProfile:
    """Time the parts of a step with the run's own model, loader and optimizer; nothing is left on disk.

    The step is that of `fit` with its parts run one after the other. With micro_batch_size, it is a step on one
    micro-batch. Two warm-up steps come before the measured ones. Under torchrun each rank measures itself.

    Args:
        config: the run; data "playground:NUM" needs no files. Compilation and activation checkpointing are ignored.
        repeats: measured steps.
        rate: of the machine, if measured before.
    Raises:
        ConfigError: repeats is below 1.
        DataError: the data cannot be read.
    """
    if repeats < 1:
        raise ConfigError(f"repeats is {repeats}; at least one step must be measured")
    loss = _pair_loss(config)
    device = distributed.start(choose_device(config.device))
    dtype = choose_dtype(config.precision, device)
    num_pairs = min(config.loader.global_batch_size, config.micro_batch_size or config.loader.global_batch_size)
    torch.manual_seed(config.seed)
    clip: Any = build_model(config.model)
    clip = clip.to(device).to(memory_format=torch.channels_last).train()
    prepare_weights(clip, config.optimizer.stochastic_rounding, dtype)
    optimizer = build_optimizer(clip, config.optimizer, config.seed)
    towers = Towers(clip, dataclasses.replace(config.parallel, weights="replicated"), dtype)
    source = open_pairs(config.data, config.preprocessing.image_size, config.loader.seed, config.columns)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = prepare_tokenizer(config, source, Path(folder))
    settings = dataclasses.replace(config.loader, global_batch_size=num_pairs)
    loader = Loader(source, tokenizer, config.preprocessing, settings, config.copies or config.augmentation)
    measured: dict[str, list[float]] = {name: [] for name in PARTS}
    tokens: list[float] = []
    try:
        batches = iter(loader)
        for repeat in range(repeats + 2):
            clock = _Clock(device)
            with towers.accumulating():  # the exchange is a separate part
                tokens.append(_step(towers, loss, optimizer, batches, config, clock))
            if repeat >= 2:
                for name in PARTS:
                    measured[name].append(clock.seconds.get(name, 0.0))
    finally:
        loader.close()
    mean_tokens = statistics.mean(tokens[2:])
    return TrainingProfile(
        parts=[(name, statistics.median(measured[name])) for name in PARTS],
        num_pairs=num_pairs,
        caption_tokens=mean_tokens,
        flops_per_pair=flops_per_pair(config.model, mean_tokens, config.patch_dropout.share),
        machine_rate=rate or machine_rate(dtype, device),
    )


def machine_rate(dtype: torch.dtype, device: torch.device, seconds: float = 1.0) -> float:
    """Operations per second of products of large square matrices, the best of those that fit into `seconds`.

    A multiplication and an addition are two operations. This is the rate that a step could reach, not the data sheet's.
    """
    size = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, end = 0.0, time.perf_counter() + seconds
    affine(a, b, None)
    while not best or time.perf_counter() < end:
        _synchronise(device)
        began = time.perf_counter()
        affine(a, b, None)
        _synchronise(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


class _Clock:
    """Adds the seconds since the last mark to a part."""

    def __init__(self, device: torch.device) -> None:
        self._device, self.seconds = device, dict.fromkeys(PARTS, 0.0)
        _synchronise(device)
        self._last = time.perf_counter()

    def mark(self, part: str) -> None:
        _synchronise(self._device)
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now


def _pair_loss(config: TrainConfig) -> PairLoss:
    """The loss of the run's objective, for a model whose parts can be timed and counted separately."""
    loss, text = OBJECTIVES[config.objective].loss, config.model.text
    if loss is None or text_side_of(text).flops is None:
        raise ConfigError(f"a CLIP needs a TextConfig as its text, not {text}: build_model builds all")
    return loss


def _step(
    towers: Towers,
    loss: PairLoss,
    optimizer: Optimizer,
    batches: Iterator[Batch],
    config: TrainConfig,
    clock: _Clock,
) -> float:
    """One update, with a mark after each part; returns the mean number of tokens."""
    clip, device = towers.clip, towers.clip.logit_scale.device
    batch = next(batches)
    images = normalise(batch.images.to(device, non_blocking=True), config.preprocessing)
    images = images.contiguous(memory_format=torch.channels_last)
    tokens, copies = batch.tokens.to(device, non_blocking=True), None
    if batch.copies is not None:
        copies = normalise(batch.copies.to(device, non_blocking=True), config.preprocessing)
        copies = copies.contiguous(memory_format=torch.channels_last)
    clock.mark("data")
    towers.refresh()
    clock.mark("optimizer")
    # Run each tower separately: the loss gets detached embeddings, and its gradients are passed back.
    runs: dict[str, Callable[[], torch.Tensor]] = {
        "image tower": lambda: towers.images(images),
        "text tower": lambda: towers.texts(tokens, batch.lengths) if copies is None else towers.images(copies),
    }
    embeddings = {}
    for part, run in runs.items():
        embeddings[part] = run()
        clock.mark(part)
    image_leaf, text_leaf = leaves = [embedding.detach().requires_grad_() for embedding in embeddings.values()]
    optimizer.zero_grad()
    clock.mark("optimizer")
    loss(image_leaf, text_leaf, clip).backward()
    clock.mark("loss")
    for (part, embedding), leaf in zip(embeddings.items(), leaves, strict=True):
        embedding.backward(leaf.grad)
        clock.mark(part)
    _exchange(clip, leaves)
    clock.mark("communication")
    optimizer.step(1e-6, config.optimizer.clip_norm)  # so small that the model hardly changes
    getattr(clip, "clip_logit_scale", lambda: None)()
    clock.mark("optimizer")
    return batch.lengths.float().mean().item()


@torch.no_grad()
def _exchange(clip: DualEncoder, embeddings: list[torch.Tensor]) -> None:
    """The communication of a step: the embeddings of all pairs, and the mean of the gradients."""
    if distributed.world_size() == 1:
        return
    counts = distributed.gather_counts(len(embeddings[0]))
    for matrix in embeddings:
        distributed.gather_rows(matrix, counts)
    gradients = torch.cat([p.grad.flatten().float() for p in clip.parameters() if p.grad is not None])
    for bucket in gradients.split(_BUCKET):
        distributed.sum_over_ranks(bucket)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
