"""Training, from the configuration to the model folder, in run order."""

import contextlib
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from diptych import distributed
from diptych.data.library_tokenizer import AnyTokenizer
from diptych.data.loader import Loader
from diptych.data.source import Source
from diptych.embed.encoder import Evaluator
from diptych.embed.model import Model
from diptych.errors import ConfigError, DataError, DiptychError, LossSpikeError, WorkerError
from diptych.files import shown
from diptych.model.allocator import keep_freed_memory
from diptych.model.build import build_model
from diptych.model.device import choose_device, choose_dtype
from diptych.model.synchronised_batch_norm import average_batch_norm
from diptych.records import Batch, Result, write_results
from diptych.train.averaging import WeightAverage
from diptych.train.checkpoint import Checkpoints, mean_score
from diptych.train.config import TrainConfig
from diptych.train.folder_lock import FolderLock
from diptych.train.guard import SpikeGuard
from diptych.train.held_out import HeldOutCopies, HeldOutPairs, hold_out
from diptych.train.inputs import input_fingerprints, pairs_of, prepare_tokenizer
from diptych.train.length import resumed_length, settle_length
from diptych.train.log import TrainLog, open_log
from diptych.train.meter import Meter
from diptych.train.network import Step, build_network, build_step
from diptych.train.optimizer import build_optimizer, learning_rate_share
from diptych.train.run_folder import Resume, claim, saved_config, should_resume
from diptych.train.signals import short_switch_interval, stop_on_signal
from diptych.train.state import Training, is_sharded, whole_state
from diptych.train.stochastic_rounding import full_precision

logger = logging.getLogger(__name__)

_VALIDATIONS = 10  # of a run without evaluate_steps


@dataclasses.dataclass(frozen=True)
class Run:
    """The outcome of a training run.

    Attributes:
        folder: the run's folder; the model is in folder/model.
        model: the trained model, ready to encode.
        step: updates in total, including those before a resume.
        finished: False if SIGINT or SIGTERM stopped the run; `fit(config, resume=True)` continues it.
        seconds: training time over all calls, without evaluators.
        results: of the evaluators at the end.
        config: the run's, with its final length.
        validation: the held-out pairs, if any.
    """

    folder: Path
    model: Model
    step: int
    finished: bool
    seconds: float
    results: list[Result]
    config: TrainConfig
    validation: HeldOutPairs | HeldOutCopies | None = None


def fit(
    config: TrainConfig, evaluators: Sequence[Evaluator] = (), *, resume: Resume = False, pairs: Source | None = None
) -> Run:
    """Train a CLIP model on (image, text) pairs, in one process or in each of torchrun's.

    Args:
        config: the whole run; see diptych.recipes.
        evaluators: called with the model at the end, and every `evaluate_steps`. Their Results at the end go to
            out/results.jsonl, earlier ones to out/evaluations.jsonl. If an evaluator has a method `check`, it is
            called before the first step and refuses a model that it cannot measure.
        resume: continue from the newest checkpoint in `config.out`. Losses equal those of an uninterrupted run (same
            processor, same seed), with any number of workers. A run that ended before its first checkpoint starts from
            the beginning. A folder without a run is an error, except for "if begun". A run that torchrun restarted
            after a failure always continues.
        pairs: pairs to train on instead of those that `config.data` names, for example a part of them in a search.
    Returns:
        the Run; its model is saved in out/model.
    Raises:
        ConfigError: the run exists and `resume` is False, or none exists and it is True; it was started with another
            configuration or other data; or another process is training in its folder.
        DataError: the data cannot be read, or too large a share of it is broken.
        WorkerError: a process that decodes images died. As with a DataError, a checkpoint holds all earlier updates.
        NonFiniteLossError: the loss became NaN or infinite; names the step and the last good checkpoint.
        LossSpikeError: the loss jumped, and `config.guard` says to stop.
        CheckpointError: the disk is full; names the last good checkpoint.
    Source: CLIP paper, sections 2.3 and 2.5.
    """
    # ---- the run's folder
    began = time.monotonic()
    device = distributed.start(choose_device(_checked(config, evaluators, pairs).device))
    folder = config.folder
    checkpoints, lock = Checkpoints(folder / "checkpoints", config.checkpoint), FolderLock(folder)
    saved = checkpoints.newest() if should_resume(folder, resume) else None
    config = resumed_length(config, saved and saved_config(saved, checkpoints.folder))
    with contextlib.ExitStack() as stack:
        stack.callback(lock.release)
        distributed.on_main(lambda: claim(folder, lock, checkpoints, config, saved))

        # ---- data and network
        source = pairs or pairs_of(config)
        source, validation = hold_out(source, config)
        tokenizer = distributed.on_main(lambda: prepare_tokenizer(config, source, folder))
        prepare = functools.partial(_prepare, source, tokenizer, device, checkpoints)
        if saved is None:
            config = settle_length(config, began, folder, lambda: prepare(None, config)[::2])
        training, model, step = prepare(saved, config)
        _check(evaluators, model)

        # ---- train, save, measure
        stack.callback(training.loader.close)
        log = stack.enter_context(contextlib.closing(open_log(folder, config.num_steps, training.step)))
        evaluators = [*([] if validation is None else [validation]), *evaluators]
        _train(training, step, model, functools.partial(_due, config, evaluators, validation), checkpoints, log, config)
        results: list[Result] = []
        if finished := training.step >= config.num_steps:
            with _measured(training, model) as final:
                distributed.on_main(lambda: final.save(folder / "model"))
            results = _evaluate(training, model, evaluators, log)
            distributed.on_main(lambda: _write_anew(results, folder / "results.jsonl"))
    return Run(folder, model, training.step, finished, training.seconds, results, config, validation)


def _checked(config: Any, evaluators: Any, pairs: Any) -> TrainConfig:
    """The configuration, after checking the arguments of fit before anything is written.

    Raises:
        ConfigError: config is not a TrainConfig, evaluators is not a list of functions, or pairs is not a Source.
    """
    if not isinstance(config, TrainConfig):
        raise ConfigError(
            f"fit takes a TrainConfig, as the functions in diptych.recipes return it, not {shown(config)}"
        )
    if not isinstance(evaluators, Sequence):
        raise ConfigError(f"fit takes a list of evaluators, not {shown(evaluators)}")
    if wrong := [evaluator for evaluator in evaluators if not callable(evaluator)]:
        raise ConfigError(f"an evaluator must be callable with the model, and {shown(wrong[0])} is not")
    if pairs is not None and not isinstance(pairs, Source):
        raise ConfigError(
            f"pairs must be a Source, as diptych.open_source returns it or of a subclass of "
            f"diptych.data.source.Source, not {shown(pairs)}"
        )
    return config


def _prepare(
    source: Source,
    tokenizer: AnyTokenizer | None,
    device: torch.device,
    checkpoints: Checkpoints,
    saved: dict[str, Any] | None,
    config: TrainConfig,
) -> tuple[Training, Model, Step]:
    """Network, optimizer and loader, in their state before the first update or at the checkpoint."""
    if device.type == "cpu":
        keep_freed_memory()
    dtype = choose_dtype(config.precision, device)
    network = build_network(config, tokenizer, device, dtype, resumed=saved is not None)
    model = Model(network, tokenizer, config.preprocessing, name=config.folder.name)  # also sets the memory format
    step = build_step(network, config, dtype)
    average = None if config.average_decay is None else WeightAverage(network, config.average_decay)
    optimizer = build_optimizer(network, config.optimizer, config.seed)
    loader = Loader(
        source,
        tokenizer,
        config.preprocessing,
        config.loader,
        config.copies or config.augmentation,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        pin_memory=device.type == "cuda",
    )
    inputs = input_fingerprints(config, tokenizer)
    training = Training(network, optimizer, loader, SpikeGuard(config.guard), average, inputs)
    if saved is not None:
        with checkpoints.naming_errors():
            training.load_state_dict(saved)
        logger.info("resuming %s at step %d of %d", config.out, training.step, config.num_steps)
    return training, model, step


def _train(
    training: Training,
    step: Step,
    model: Model,
    due: Callable[[int], Sequence[Evaluator]],
    checkpoints: Checkpoints,
    log: TrainLog,
    config: TrainConfig,
) -> None:
    """All updates from `training.step` to the last, or until a signal.

    `due` returns the evaluators to call after an update.
    """
    meter = Meter(training, config, checkpoints, log)

    def save() -> None:
        meter.check_finite()
        checkpoints.write(training.step, {**training.state_dict(), "config": config.to_dict()})

    agreed = threading.Event()
    with stop_on_signal() as stopped, short_switch_interval():
        batches = iter(training.loader)
        while training.step < config.num_steps:
            try:
                batch = _next_unless_stopped(batches, stopped, agreed)
                if batch is None:
                    break
                update(training, step, batch, config, meter)
            except (DataError, LossSpikeError, WorkerError) as error:
                if meter.num_updates:
                    save()  # so that no earlier update is lost
                if isinstance(error, LossSpikeError) or not meter.num_updates:
                    raise
                raise type(error)(
                    f"{error}; the {training.step} earlier updates are saved: continue with --resume (fit(resume=True))"
                ) from error
            del batch  # otherwise two batches are in memory while the next one is loaded
            training.step += 1
            last = training.step == config.num_steps
            if training.step % config.log_steps == 0 or last:
                meter.write_row()
            # Evaluate before the checkpoint: a run resumed from it has these rows already.
            if not last and (evaluators := due(training.step)):
                meter.pause()
                results = _evaluate(training, model, evaluators, log)
                if config.checkpoint.keep_best:
                    checkpoints.measured(training.step, mean_score(results, config.checkpoint.keep_best))
                meter.go_on()
            if last or checkpoints.due(training.step):
                save()
        if training.step < config.num_steps and meter.num_updates:
            save()


def _check(evaluators: Sequence[Evaluator], model: Model) -> None:
    for evaluator in evaluators:
        getattr(evaluator, "check", lambda _: None)(model)


def _due(
    config: TrainConfig, evaluators: Sequence[Evaluator], validation: HeldOutPairs | HeldOutCopies | None, step: int
) -> Sequence[Evaluator]:
    """All evaluators every `evaluate_steps`, if set; otherwise only the validation loss, ten times in the run."""
    if config.evaluate_steps:
        return [] if step % config.evaluate_steps else evaluators
    return [] if validation is None or step % max(1, config.num_steps // _VALIDATIONS) else [validation]


def update(training: Training, step: Step, batch: Batch, config: TrainConfig, meter: Meter) -> None:
    """One update of the weights: the global batch's gradient, clipped, and the optimizer's step."""
    training.optimizer.zero_grad()
    loss = step(batch, training.step)
    if training.guard.active and training.guard.judge(loss.item(), training.step + 1) == "skip":
        meter.add_skipped()
        return
    share = learning_rate_share(training.step, config.num_steps, config.schedule)
    norm, rate = training.optimizer.step(share, config.optimizer.clip_norm)
    getattr(training.network, "clip_logit_scale", lambda: None)()
    if training.average is not None:
        training.average.update(training.step)
    meter.add(loss, norm, rate)


def _next_unless_stopped(batches: Iterator[Batch], stopped: threading.Event, agreed: threading.Event) -> Batch | None:
    """The next batch; None in all ranks after the batch during which one of them received a signal.

    That batch is still used: the loader has moved past it, and a resumed run would miss it. A signal to the whole
    process group also ends the workers; that is not an error then.

    Args:
        stopped: this process received a signal.
        agreed: all ranks know of a signal.
    Raises:
        DiptychError: in all ranks, if one of them could not read its data.
    """
    if agreed.is_set():
        return None
    batch, failure = None, None
    try:
        batch = next(batches)
    except (DiptychError, RuntimeError) as error:
        failure = error
    signals, failures = distributed.sum_over_ranks(torch.tensor([stopped.is_set(), failure is not None]).int()).tolist()
    if signals:
        agreed.set()
    elif failures:
        raise failure or DataError("another process could not read its data; its output says why")
    return None if failures else batch


@contextlib.contextmanager
def _measured(training: Training, model: Model) -> Iterator[Model]:
    """The model for measuring and saving: averaged if the run keeps an average, unsharded, in evaluation mode."""
    network = training.network
    modes = {module: module.training for module in network.modules()}
    average_batch_norm(network)
    averaged = contextlib.nullcontext() if training.average is None else training.average.applied()
    with full_precision(network), averaged:
        network.eval()
        try:
            yield model if not is_sharded(network) else _assembled(model)
        finally:
            for module, mode in modes.items():
                module.training = mode


def _assembled(model: Model) -> Model:
    """The same model with the unsharded weights."""
    network: Any = build_model(model.clip.config)
    network.load_state_dict(whole_state(model.clip))
    return Model(network.to(model.device).eval(), model.tokenizer, model.preprocessing, name=model.name)


def _evaluate(training: Training, model: Model, evaluators: Sequence[Evaluator], log: TrainLog) -> list[Result]:
    """Measure in evaluation mode; every rank does its share."""
    with log.paused(), _measured(training, model) as measured:
        results = [result for evaluator in evaluators for result in evaluator(measured)]
    log.results(training.step, results)
    return results


def _write_anew(results: list[Result], path: Path) -> None:
    path.unlink(missing_ok=True)
    write_results(results, path)
