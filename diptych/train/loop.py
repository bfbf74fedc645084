"""Training, from the configuration to the model folder, in run order."""

import contextlib
import dataclasses
import json
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from diptych.data.loader import Loader
from diptych.data.sources import Source
from diptych.data.transforms import normalise
from diptych.embed.encoder import Evaluator
from diptych.embed.folder import check_can_save
from diptych.embed.model import Model
from diptych.errors import ConfigError, DiptychError, NonFiniteLossError
from diptych.model.clip import CLIP
from diptych.model.device import choose_device
from diptych.objective import contrastive_loss
from diptych.records import Batch, Result, write_results
from diptych.train.checkpoint import Checkpoints
from diptych.train.config import TrainConfig, check_same_run
from diptych.train.initial import initialise, locked_modules
from diptych.train.inputs import open_pairs, prepare_tokenizer
from diptych.train.log import TrainLog
from diptych.train.optimizer import Optimizer, build_optimizer, learning_rate_share
from diptych.train.precision import choose_dtype

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of a training run.

    Attributes:
        folder: the run's folder; the model is in folder/model.
        model: the trained model, ready to encode.
        step: updates made in all, also before a resume.
        finished: False where SIGINT or SIGTERM stopped the run; `fit(config, resume=True)` goes on.
        seconds: training time over all calls, evaluators left out.
        results: what the evaluators measured at the end.
    """

    folder: Path
    model: Model
    step: int
    finished: bool
    seconds: float
    results: list[Result]


@dataclasses.dataclass
class _Training:
    """All that changes while a run goes; a checkpoint is exactly this."""

    clip: CLIP
    optimizer: Optimizer
    loader: Loader
    step: int = 0
    seconds: float = 0.0  # of training, over all calls of fit

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.clip.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loader": self.loader.state_dict(),
            "random": torch.get_rng_state(),
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.clip.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loader.load_state_dict(state["loader"])
        torch.set_rng_state(state["random"])
        self.step, self.seconds = state["step"], state["seconds"]


def fit(
    config: TrainConfig, evaluators: Sequence[Evaluator] = (), *, resume: bool = False, pairs: Source | None = None
) -> Run:
    """Train a CLIP model on (image, text) pairs.

    Args:
        config: the whole run; see diptych.recipes.
        evaluators: called with the model at the end, and every `evaluate_steps`; their Results at the end go to
            out/results.jsonl, those on the way to out/evaluations.jsonl. One that has a method `check` is asked
            before the first step whether it can measure this model.
        resume: go on from the newest checkpoint in `config.out`. Losses are those of a run that was never stopped
            (same processor, same seed), whatever the number of workers. Starts from the beginning where there is none.
        pairs: what to learn from, in place of what `config.data` names: a part of it, in a search.
    Returns:
        the Run; its model is saved in out/model.
    Raises:
        ConfigError: the run exists and `resume` is False, or it was made by another configuration.
        DataError: the data cannot be read, or too large a share of it is broken.
        NonFiniteLossError: the loss became NaN or infinite; names the step and the last good checkpoint.
        CheckpointError: the disk is full; names the last good checkpoint.
    Source: CLIP paper, sections 2.3 and 2.5.
    """
    # ---- where the run lives
    folder = Path(config.out)
    checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint)
    saved = checkpoints.newest() if resume else None
    check_can_save(folder / "model")
    _claim(folder, checkpoints, config, saved)

    # ---- what it learns from, and what learns
    pairs = pairs or open_pairs(config.data, config.preprocessing.image_size, config.loader.seed)
    tokenizer = prepare_tokenizer(config, pairs, folder)
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    clip = CLIP(config.model).to(device).train()
    initialise(clip, config.init, tokenizer)
    for module in locked_modules(clip, config.init):
        module.eval()
    loader = Loader(pairs, tokenizer, config.preprocessing, config.loader, config.augmentation)
    model = Model(clip, tokenizer, config.preprocessing, name=folder.name)  # also sets the memory format
    training = _Training(clip, build_optimizer(clip, config.optimizer), loader)
    if saved is not None:
        training.load_state_dict(saved)
        logger.info("resuming %s at step %d of %d", folder, training.step, config.num_steps)

    for evaluator in evaluators:
        getattr(evaluator, "check", lambda _: None)(model)

    # ---- train, save, measure
    with contextlib.ExitStack() as stack:
        stack.callback(loader.close)
        log = stack.enter_context(contextlib.closing(TrainLog(folder, config.num_steps, training.step)))
        _train(training, model, evaluators, config, checkpoints, log)
        results: list[Result] = []
        if finished := training.step >= config.num_steps:
            model.save(folder / "model")
            results = _evaluate(model, evaluators, training.step, log)
            (folder / "results.jsonl").unlink(missing_ok=True)
            write_results(results, folder / "results.jsonl")
    return Run(folder, model, training.step, finished, training.seconds, results)


def _train(
    training: _Training,
    model: Model,
    evaluators: Sequence[Evaluator],
    config: TrainConfig,
    checkpoints: Checkpoints,
    log: TrainLog,
) -> None:
    """All the updates from `training.step` to the last, or until a signal."""
    dtype = choose_dtype(config.precision, next(training.clip.parameters()).device)
    meter = _Meter(training, config, checkpoints, log)

    def save() -> None:
        meter.check_finite()
        checkpoints.write(training.step, {**training.state_dict(), "config": config.to_dict()})

    with _stop_on_signal() as stopped, _quick_switching():
        batches = iter(training.loader)
        while training.step < config.num_steps:
            batch = _next_unless_stopped(batches, stopped)
            if batch is None:
                break
            meter.add(update(training.clip, training.optimizer, batch, training.step, config, dtype))
            training.step += 1
            last = training.step == config.num_steps
            if training.step % config.log_steps == 0 or last:
                meter.write_row()
            # Measured before the checkpoint: a run resumed from it has these rows already.
            if config.evaluate_steps and training.step % config.evaluate_steps == 0 and not last:
                meter.pause()
                _evaluate(model, evaluators, training.step, log)
                meter.go_on()
            if last or checkpoints.due(training.step):
                save()
        if stopped.is_set() and meter.num_updates:
            save()


def _next_unless_stopped(batches: Iterator[Batch], stopped: threading.Event) -> Batch | None:
    """The next batch; None once a signal came. One to the whole process group ends the workers too: no error then."""
    if stopped.is_set():
        return None
    try:
        return next(batches)
    except (DiptychError, RuntimeError):
        if stopped.is_set():
            return None
        raise


def update(
    clip: CLIP, optimizer: Optimizer, batch: Batch, step: int, config: TrainConfig, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """One update of the weights: forward, loss, backward, clip, step.

    Returns:
        loss (), norm of the gradient before clipping (), and the learning rate used.
    """
    device = clip.logit_scale.device
    images = normalise(batch.images.to(device, non_blocking=True), config.preprocessing)
    images = images.contiguous(memory_format=torch.channels_last)
    tokens = batch.tokens.to(device, non_blocking=True)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        image_embeddings, text_embeddings, scale = clip(images, tokens, batch.lengths)
    loss = contrastive_loss(image_embeddings, text_embeddings, scale)
    optimizer.zero_grad()
    loss.backward()
    share = learning_rate_share(step, config.num_steps, config.schedule)
    norm, rate = optimizer.step(share, config.optimizer.clip_norm)
    clip.clip_logit_scale()
    return loss.detach(), norm, rate


class _Meter:
    """Losses, rates and waiting times of the steps since the last row; refuses losses that are not numbers."""

    def __init__(self, training: _Training, config: TrainConfig, checkpoints: Checkpoints, log: TrainLog) -> None:
        self._training, self._config, self._checkpoints, self._log = training, config, checkpoints, log
        self._losses: list[torch.Tensor] = []
        self._norms: list[torch.Tensor] = []
        self._rate = 0.0
        self.num_updates = 0
        self.go_on()

    def go_on(self) -> None:
        """Start a new window of measuring: what took time until now was not training, or has its row."""
        self._window = self._clock = time.monotonic()
        self._waited = self._training.loader.seconds_waited
        self._pairs = 0

    def pause(self) -> None:
        """Count the time until now as training."""
        now = time.monotonic()
        self._training.seconds += now - self._clock
        self._clock = now

    def add(self, outcome: tuple[torch.Tensor, torch.Tensor, float]) -> None:
        """Take in what an update returned."""
        loss, norm, self._rate = outcome
        self._losses.append(loss)
        self._norms.append(norm)
        self._pairs += self._config.global_batch_size
        self.num_updates += 1
        self.pause()
        self._log.step(self._training.step + 1)

    def check_finite(self) -> tuple[float, float]:
        """Newest loss and gradient norm; reads all since the last check at once, which stops a GPU seldom.

        A gradient that is no number has spoiled the weights already, although the loss of that step was still one.
        """
        losses, norms = (torch.stack(values).tolist() for values in (self._losses, self._norms))
        self._losses, self._norms = self._losses[-1:], self._norms[-1:]
        for index, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                step = self._training.step - len(losses) + index + 1
                what = f"the gradient's norm became {norm}" if math.isfinite(loss) else f"the loss became {loss}"
                raise NonFiniteLossError(
                    f"{what} at step {step}; {self._checkpoints.last_good()}. "
                    "Try a lower learning rate, a longer warm-up or fp32, in a new folder"
                )
        return losses[-1], norms[-1]

    def write_row(self) -> None:
        step, now = self._training.step, time.monotonic()
        loss, norm = self.check_finite()
        elapsed = max(now - self._window, 1e-9)
        waited = self._training.loader.seconds_waited - self._waited
        self._log.row(
            {
                "step": step,
                "pairs": step * self._config.global_batch_size,
                "loss": loss,
                "lr": self._rate,
                "scale": self._training.clip.logit_scale.detach().exp().item(),
                "gradient_norm": norm,
                "pairs_per_second": self._pairs / elapsed,
                "share_waiting": min(1.0, waited / elapsed),
                "seconds": self._training.seconds,
            }
        )
        self.go_on()


def _evaluate(model: Model, evaluators: Sequence[Evaluator], step: int, log: TrainLog) -> list[Result]:
    """Measure, with the model in evaluation mode, and put it back to training."""
    was_training = model.clip.training
    model.clip.eval()
    with log.paused():
        results = [result for evaluator in evaluators for result in evaluator(model)]
    model.clip.train(was_training)
    log.results(step, results)
    return results


def _claim(folder: Path, checkpoints: Checkpoints, config: TrainConfig, saved: dict[str, Any] | None) -> None:
    """Make the folder this run's, or say why it cannot be.

    A run that was ended before its first checkpoint has nothing to lose and is begun again.
    """
    if saved is not None:
        check_same_run(saved["config"], config)
        return
    if checkpoints.paths():
        raise ConfigError(f"{folder} holds a run already: go on with it (--resume), or choose another folder (--out)")
    if (folder / "model").exists():
        raise ConfigError(
            f"{folder} holds a trained model and no checkpoint to go on from: choose another folder (--out)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in ("log.jsonl", "evaluations.jsonl", "results.jsonl", "tokenizer.json"):
            (folder / leftover).unlink(missing_ok=True)
        (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}; choose another folder (--out)") from error


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into a flag, so that a run ends with a checkpoint; a second signal acts as always."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: Any) -> None:
        stopped.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quick_switching() -> Iterator[None]:
    """Let the loader's thread keep the interpreter for a fifth of a millisecond at a time, not for Python's five.

    An update launches hundreds of kernels and would wait for the interpreter before each: 15 % of the time on two
    cores.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
