"""Measure the cost of an update: memory and time of one micro-batch, and of whole updates if they are fast."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from diptych.model.device import choose_dtype
from diptych.records import Batch
from diptych.train.config import InitConfig, TrainConfig
from diptych.train.initial import locked_modules, locked_parameters
from diptych.train.network import build_network, build_step
from diptych.train.optimizer import Optimizer, build_optimizer

_PROBE = 2  # pairs, and twice as many, to separate the fixed cost of an update from the cost per pair
_PATIENCE = 30.0  # seconds that one measurement may take, including repetitions
_UPDATES = 3  # the first one warms up
_USABLE = 0.8  # of the free memory


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of an update for one process.

    Attributes:
        memory: bytes of each part.
        seconds_per_step: of one update of the global batch; None if nothing could be measured.
        notes: how the figures were measured.
        at_most: whether the seconds are an upper bound, because the machine was too slow to measure more.
    """

    memory: dict[str, int]
    seconds_per_step: float | None
    notes: tuple[str, ...]
    at_most: bool = False

    @property
    def total(self) -> int:
        """Bytes of all parts together."""
        return sum(self.memory.values())


def measure(config: TrainConfig, lengths: torch.Tensor, device: torch.device, world_size: int = 1) -> Cost:
    """Measure the cost of an update with a few updates on images of noise.

    A micro-batch that would not fit the free memory, or would take long, is not tried: its time is extrapolated from
    smaller ones as a fixed part and a part per pair. The time of an update of several micro-batches is a sum.

    Args:
        lengths: int64 (n,), tokens of some captions of the data.
        world_size: processes that share a batch. Their communication is not measured.
    """
    local = -(-config.global_batch_size // world_size)
    micro = min(config.micro_batch_size or local, local)
    num_micro = -(-local // micro)
    weights = 4 * config.model.num_parameters()
    # An estimate until an update has been measured: fp32 gradients, and Adam's two moments.
    memory = {"weights": weights, "gradients": weights, "moments": 2 * weights}
    if num_micro > 1 or world_size > 1:  # both embedding matrices of the whole batch, with their gradients
        memory["embeddings"] = 4 * 4 * config.global_batch_size * config.model.embed_dim
    free = free_memory(device)
    if free is not None and sum(memory.values()) > _USABLE * free:
        return Cost(memory, None, (f"not measured: only {free / 2**30:.1f} GiB are free on {device}",))
    bench = _Bench(config, lengths, device)
    memory["gradients"], memory["moments"] = bench.first_update()
    memory["activations"] = bench.activations(micro)
    room = math.inf if free is None else _USABLE * free - (sum(memory.values()) - memory["activations"])
    timed = bench.timed(micro, room, in_two_passes=num_micro > 1)
    seconds = num_micro * timed.seconds(micro) + bench.optimizer_seconds()
    tried = timed.largest
    whole = tried == micro and _UPDATES * seconds <= _PATIENCE
    if whole:
        seconds = bench.updates(local, micro)
    what = f"{_UPDATES - 1} updates" if whole else f"micro-batches of up to {tried} pairs, scaled to {local:,}"
    bound = " (only one size: an upper bound)" if timed.is_bound and not whole and tried != micro else ""
    notes = [f"time of {what}{bound} on {device}; reading, decoding, evaluation and communication are not included"]
    if memory["activations"] > room:
        notes.append(
            f"{micro} pairs at once do not fit the {(free or 0) / 2**30:.1f} GiB of free memory: "
            f"set micro_batch_size to {bench.largest(room)}"
        )
    return Cost(memory, seconds, tuple(notes), at_most=bool(bound))


@dataclasses.dataclass(frozen=True)
class Timed:
    """The measured times of micro-batches of a few sizes.

    Attributes:
        points: (pairs, seconds of the gradient) of each micro-batch, with increasing pairs.
    """

    points: tuple[tuple[int, float], ...]

    @property
    def largest(self) -> int:
        """Pairs of the largest micro-batch that was tried."""
        return self.points[-1][0]

    def seconds(self, num_pairs: int) -> float:
        """Time of a micro-batch of `num_pairs` pairs: a fixed part, and a part per pair.

        Both come from the straight line through the two largest sizes. With one size, or if noise makes the line fall
        or start below 0, the whole time is scaled with the pairs, which overestimates it.
        """
        few, taken = self.points[-1]
        if num_pairs == few or self.is_bound:
            return taken * num_pairs / few
        return taken + (num_pairs - few) * self._slope

    @property
    def is_bound(self) -> bool:
        """Whether `seconds` is an upper bound for larger micro-batches."""
        few, taken = self.points[-1]
        return len(self.points) < 2 or not 0 < self._slope <= taken / few

    @property
    def _slope(self) -> float:
        (few, less), (many, more) = self.points[-2:]
        return (more - less) / (many - few)


class _Bench:
    """The network, its optimizer and synthetic batches."""

    def __init__(self, config: TrainConfig, lengths: torch.Tensor, device: torch.device) -> None:
        self._config, self._lengths, self._device = config, lengths, device
        self._dtype = choose_dtype(config.precision, device)
        random = torch.get_rng_state()
        # The values of the weights do not affect the time; which of them are trained does.
        self._network = build_network(dataclasses.replace(config, init=InitConfig()), None, device, self._dtype)
        torch.set_rng_state(random)
        for parameter in locked_parameters(self._network, config.init):
            parameter.requires_grad_(False)
        for module in locked_modules(self._network, config.init):
            module.eval()
        self._network.to(memory_format=torch.channels_last)
        self._optimizer: Optimizer = build_optimizer(self._network, config.optimizer)
        self._per_pair, self._fixed = 0, 0

    def first_update(self) -> tuple[int, int]:
        """Make one update; returns the bytes of the gradients and of the optimizer's state."""
        self._gradient(_PROBE, _PROBE)()
        self._optimizer.step(0.0, self._config.optimizer.clip_norm)
        gradients = [p.grad for p in self._network.parameters() if p.grad is not None]
        states = [state for part in self._optimizer.parts.values() for state in part.state.values()]
        moments = [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
        return sum(g.nbytes for g in gradients), sum(m.nbytes for m in moments)

    def activations(self, num_pairs: int) -> int:
        """Bytes that the forward pass of `num_pairs` pairs keeps for the backward pass, on a line through two sizes."""
        small, large = (self._kept(number) for number in (_PROBE, 2 * _PROBE))
        self._per_pair = max(1, (large - small) // _PROBE)
        self._fixed = max(0, small - _PROBE * self._per_pair)
        return self._fixed + num_pairs * self._per_pair

    def largest(self, memory: float) -> int:
        """Number of pairs whose activations fit: a power of two, at least 1."""
        number = 1
        while number < 2**20 and self._fixed + 2 * number * self._per_pair <= memory:
            number *= 2
        return number

    def timed(self, num_pairs: int, room: float, *, in_two_passes: bool) -> Timed:
        """The seconds of growing micro-batches, up to `num_pairs` or as far as memory and time allow."""
        number, points = min(num_pairs, _PROBE), []
        while True:
            points.append((number, self._micro_seconds(number, in_two_passes)))
            longest = _PATIENCE if len(points) == 1 else _PATIENCE / _UPDATES  # a line needs two points
            larger = min(2 * number, num_pairs)
            if larger == number or larger * self._per_pair + self._fixed > room or 2 * points[-1][1] > longest:
                return Timed(tuple(points))
            number = larger

    def optimizer_seconds(self) -> float:
        """Seconds of the optimizer's part of an update."""
        return self._seconds(lambda: self._optimizer.step(0.0, self._config.optimizer.clip_norm))

    def _micro_seconds(self, micro: int, in_two_passes: bool) -> float:
        """Seconds of one micro-batch; the mean of two, if each is computed in two passes."""
        number = 2 if in_two_passes else 1
        return self._seconds(self._gradient(number * micro, micro)) / number

    def updates(self, num_pairs: int, micro: int) -> float:
        """Mean seconds of real updates, without the first."""
        gradient = self._gradient(num_pairs, micro)
        for number in range(_UPDATES):
            if number == 1:
                began = self._now()
            self._optimizer.zero_grad()
            gradient()
            self._optimizer.step(0.0, self._config.optimizer.clip_norm)
        return (self._now() - began) / (_UPDATES - 1)

    def _gradient(self, num_pairs: int, micro: int) -> Callable[[], object]:
        """A function that does what training does with a batch of `num_pairs` pairs in micro-batches of `micro`.

        The batch is made beforehand: on a GPU's host, drawing noise takes longer than the gradient on the GPU.
        """
        config = dataclasses.replace(self._config, micro_batch_size=min(micro, num_pairs))
        step, batch = build_step(self._network, config, self._dtype), self._batch(num_pairs)
        return lambda: step(batch, 0)

    def _kept(self, num_pairs: int) -> int:
        own = {parameter.untyped_storage().data_ptr() for parameter in self._network.parameters()}
        kept: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            self._gradient(num_pairs, num_pairs)()
        return sum(kept.values())

    def _batch(self, num_pairs: int) -> Batch:
        """A batch of noise, with captions as long as the data's, or with copies."""
        size, text = self._config.preprocessing.image_size, self._config.model.text
        rng = torch.Generator().manual_seed(0)
        images = torch.randint(256, (num_pairs, 3, size, size), dtype=torch.uint8, generator=rng)
        keys = tuple(map(str, range(num_pairs)))
        if self._config.copies is not None:
            lengths = torch.zeros(num_pairs, dtype=torch.int64)
            return Batch(images, torch.zeros((num_pairs, 0), dtype=torch.int32), lengths, keys, images.flip(-1))
        lengths = self._lengths[torch.randint(len(self._lengths), (num_pairs,), generator=rng)]
        longest = int(lengths.max())
        tokens = torch.randint(text.vocab_size - 1, (num_pairs, longest), dtype=torch.int32, generator=rng)
        positions = torch.arange(longest)
        tokens[positions == lengths[:, None] - 1] = text.vocab_size - 1  # the end of text is the largest id
        tokens[positions >= lengths[:, None]] = 0
        return Batch(images, tokens, lengths, keys)

    def _seconds(self, function: Callable[[], object]) -> float:
        """Time of the faster of two calls, since other programs only slow a call down; of one call if it is slow."""
        fastest = math.inf
        for _ in range(2):
            began = self._now()
            function()
            fastest = min(fastest, self._now() - began)
            if fastest > _PATIENCE / 6:
                break
        return fastest

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def free_memory(device: torch.device) -> int | None:
    """Free bytes on the device; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None
