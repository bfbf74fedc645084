"""The fastest back end on this machine that passed its self-test: measured once, then remembered."""

import dataclasses
import logging
import time
from collections.abc import Callable

import numpy as np
import torch

from diptych.embed.backends.compile_model import SelfTestError, compile_model
from diptych.embed.backends.runtimes import PRECISIONS, is_installed
from diptych.embed.model import Model
from diptych.errors import ConfigError
from diptych.model.device import has_fast_bf16
from diptych.model.graphs import has_image_graph

logger = logging.getLogger(__name__)

_IMAGES, _ROUNDS = 32, 2
_LONGEST_SECONDS = 4.0  # per candidate; the batch shrinks to fit


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A back end with a precision, and its rate where it was measured.

    Attributes:
        images_per_second: decoded images to vectors; None if it was not measured.
        problem: why it cannot be used, in words; None if it can.
    """

    backend: str
    precision: str
    images_per_second: float | None = None
    problem: str | None = None

    def __str__(self) -> str:
        rate = self.problem or f"{self.images_per_second:.3g} images/s"
        return f"{self.backend} {self.precision} {rate}"


def candidates(precision: str) -> list[Candidate]:
    """What can compute a precision on this machine's CPU; "auto" means fp32, and bf16 where the processor has it.

    int8 is taken only if it is asked for: what it costs in accuracy depends on the weights.
    """
    wanted = (
        ("fp32", *(("bf16",) if has_fast_bf16(torch.device("cpu")) else ())) if precision == "auto" else (precision,)
    )
    return [
        Candidate(backend, able)
        for able in wanted
        for backend, precisions in PRECISIONS.items()
        if able in precisions and is_installed(backend)
    ]


def measure_backends(model: Model, precision: str, on_torch: Callable[[str], Model]) -> list[Candidate]:
    """Compile and time each candidate; the fastest that passed is first, those that failed are last.

    Args:
        model: in fp32 on the CPU.
        precision: "fp32", "bf16", "int8" or "auto".
        on_torch: precision -> the model on torch in that precision.
    """
    measured = []
    for candidate in candidates(precision):
        try:
            if candidate.backend == "torch":
                run = _on_torch(on_torch(candidate.precision))
            elif not has_image_graph(model.clip):
                continue
            else:
                run = compile_model(model, candidate.backend, candidate.precision).embed_pixels
            rate = _rate(run, model.preprocessing.image_size)
            measured.append(dataclasses.replace(candidate, images_per_second=rate))
        except (SelfTestError, ConfigError) as error:
            logger.warning("%s", error)
            measured.append(dataclasses.replace(candidate, problem=str(error)))
    return sorted(measured, key=lambda candidate: -(candidate.images_per_second or 0))


def _on_torch(model: Model) -> Callable[[np.ndarray], object]:
    return lambda pixels: model.encode_pixels(torch.from_numpy(pixels))


def _rate(run: Callable[[np.ndarray], object], size: int) -> float:
    """Images per second of the faster of two rounds, after one image to warm up."""
    pixels = np.random.default_rng(0).integers(0, 256, (_IMAGES, 3, size, size), np.uint8)
    run(pixels[:2])
    start = time.perf_counter()
    run(pixels[:2])
    number = int(min(_IMAGES, max(1, 2 * _LONGEST_SECONDS / _ROUNDS / (time.perf_counter() - start))))
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        run(pixels[:number])
        seconds.append(time.perf_counter() - start)
    return number / min(seconds)
