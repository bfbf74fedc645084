"""Hyper-parameter search as in section 2.5 of the paper: grid, random and manual, on a small model, through Optuna.

    plan = Search(config, ("optimizer.learning_rate=log:1e-4..1e-2",), num_trials=20)
    found = search_hyperparameters(plan)
    found.best.settings            # ("optimizer.learning_rate=0.0021",): for --set, or apply_settings

A trial is an ordinary run in out/trials/NUMBER. Its score is measured on training pairs that no trial trains on. The
study is stored in out/study.log, a journal from which a killed search resumes.
"""

import dataclasses
import importlib
import itertools
import json
import logging
import shlex
import shutil
from collections.abc import Callable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from diptych.data.content import content_fingerprint
from diptych.errors import ConfigError, NonFiniteLossError
from diptych.objective import objectives
from diptych.recipes.settings import ALIASES, apply_settings
from diptych.recipes.space import Dimension, parse_dimension
from diptych.train import TrainConfig, fit
from diptych.train.held_out import HeldOutPairs, Part, held_out_pairs
from diptych.train.inputs import open_pairs, prepare_tokenizer

logger = logging.getLogger(__name__)

SAMPLERS = ("random", "grid", "tpe")
OBJECTIVES = {"loss": "loss_nats", "accuracy": "recall_at_1"}
_ROUNDS = 4  # evaluations in a trial
_STUDY = "study"


@dataclasses.dataclass(frozen=True)
class Search:
    """The definition of a search.

    Attributes:
        config: the run that all trials share; `config.out` is the folder of the search.
        space: "NAME=A,B,C" (choices), "NAME=LOW..HIGH" or "NAME=log:LOW..HIGH"; a grid takes five points of a range.
        first: settings to try before all others, each "NAME=VALUE NAME=VALUE": the manual part of a search.
        num_trials: in total, including earlier trials of a resumed search.
        sampler: "random", "grid", or "tpe", which learns from earlier trials.
        objective: "loss" or "accuracy" on the held-out pairs; accuracy if losses are not comparable (other objectives).
        held_out: share of the pairs that no trial trains on.
    """

    config: TrainConfig
    space: tuple[str, ...]
    first: tuple[str, ...] = ()
    num_trials: int = 20
    sampler: str = "random"
    objective: str = "loss"
    held_out: float = 0.05

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"there is no sampler {self.sampler!r}; choose one of {', '.join(SAMPLERS)}")
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"there is no objective {self.objective!r}; choose one of {', '.join(OBJECTIVES)}")
        if not self.space:
            raise ConfigError("nothing to search: give at least one range, NAME=LOW..HIGH (--search)")


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial: `state` is "complete", "pruned" (it diverged) or "failed"; values are None if not measured."""

    number: int
    settings: tuple[str, ...]
    state: str
    loss: float | None
    accuracy: float | None


@dataclasses.dataclass(frozen=True)
class Found:
    """All trials, best first; `finished` is False if a signal stopped the search."""

    trials: tuple[Trial, ...]
    finished: bool

    @property
    def best(self) -> Trial | None:
        """The best complete trial."""
        return next((trial for trial in self.trials if trial.state == "complete"), None)


def search_hyperparameters(plan: Search, *, resume: bool = False) -> Found:
    """Run the trials.

    A trial is pruned if its loss is not finite, or is twice that of chance at half the run.

    Args:
        resume: continue the search in the folder; interrupted trials are repeated.
    Raises:
        ConfigError: Optuna is not installed, the space is wrong, or the folder holds another search.
        DataError: too few pairs are held out.
    """
    optuna = _import_optuna()
    config = plan.config
    dimensions = [parse_dimension(config, text) for text in plan.space]
    source = open_pairs(config.data, config.preprocessing.image_size, config.loader.seed, config.columns)
    loss = objectives.OBJECTIVES[config.objective].held_out
    evaluator = HeldOutPairs(held_out_pairs(source, plan.held_out), loss=loss)
    training = Part(source, plan.held_out, held_out=False)
    pairs = f"{source.fingerprint} {content_fingerprint(source)}"
    study = _open_study(optuna, plan, dimensions, evaluator.chance_loss, resume, pairs)
    config = _share_tokenizer(config, training)
    stopped = False

    def objective(trial: Any) -> float:
        nonlocal stopped
        settings = [f"{dimension.name}={dimension.suggest(trial)}" for dimension in dimensions]
        trial.set_user_attr("settings", settings)
        try:
            values = _run(optuna, trial, apply_settings(config, settings), training, evaluator)
        except optuna.TrialPruned:
            raise
        except BaseException:
            study.enqueue_trial(trial.params)  # a resumed search repeats it
            raise
        if values is None:
            stopped = True
            study.enqueue_trial(trial.params)
            study.stop()
            raise _StoppedError
        trial.set_user_attr("values", values)
        return values[OBJECTIVES[plan.objective]]

    if (left := plan.num_trials - len(_counted(optuna, study))) > 0:
        study.optimize(objective, n_trials=_number_left(optuna, plan, study, left), catch=(_StoppedError,))
    return Found(_ranked(study, plan.objective), finished=not stopped)


class _StoppedError(Exception):
    """A signal ended a trial."""


def _run(optuna: Any, trial: Any, config: TrainConfig, pairs: Part, evaluator: HeldOutPairs) -> dict[str, float] | None:
    """One training run; its scores, or None if a signal stopped it."""
    folder = config.folder / "trials" / f"{trial.number:04d}"
    shutil.rmtree(folder, ignore_errors=True)
    rounds = max(1, config.num_steps // _ROUNDS)
    config = dataclasses.replace(config, out=str(folder), evaluate_steps=rounds)
    measured = 0

    def watched(encoder: Any) -> list[Any]:
        nonlocal measured
        results = evaluator(encoder)
        measured += 1
        trial.report(results[0].value, measured * rounds)
        if measured * rounds < config.num_steps and trial.should_prune():
            raise optuna.TrialPruned
        return results

    try:
        run = fit(config, [watched], pairs=pairs)
    except NonFiniteLossError as error:
        logger.info("trial %d diverged: %s", trial.number, error)
        raise optuna.TrialPruned from error
    finally:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return {result.metric: result.value for result in run.results} if run.finished else None


def _import_optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError("the search needs Optuna: pip install 'diptych[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # errors are raised anyway
    return optuna


def _open_study(
    optuna: Any, plan: Search, dimensions: list[Dimension], chance_loss: float, resume: bool, pairs: str
) -> Any:
    """The study in the folder, new or resumed; a new one gets the trials of `first` or of the grid in its queue."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    folder = plan.config.folder
    journal = folder / "study.log"
    if resume and not journal.exists():
        raise ConfigError(f"cannot resume {folder}: there is no search in it; leave out --resume to start one")
    if journal.exists() and not resume:
        raise ConfigError(f"{folder} holds a search already: continue it (--resume), or choose another folder (--out)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(journal)))
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}; choose another folder (--out)") from error
    seed, half, samplers = plan.config.seed, plan.config.num_steps // 2, optuna.samplers
    study = optuna.create_study(
        storage=storage,
        study_name=_STUDY,
        load_if_exists=True,
        direction="minimize" if plan.objective == "loss" else "maximize",
        sampler=samplers.TPESampler(seed=seed) if plan.sampler == "tpe" else samplers.RandomSampler(seed=seed),
        # Always reports the loss. Early in a run it may exceed that of chance; twice that at half the run is hopeless.
        pruner=optuna.pruners.ThresholdPruner(upper=2 * chance_loss, n_warmup_steps=half),
    )
    about = _about(plan, {**plan.config.to_dict(), "data": pairs, "out": ""})
    known = study.user_attrs.get("about")
    if known is None:
        _queue(study, plan, dimensions)
        study.set_user_attr("about", about)
    elif known not in (about, _about(plan, plan.config.to_dict())):  # the second is from an older version
        raise ConfigError(f"{folder} holds a search with other settings; choose another folder (--out)")
    for trial in study.get_trials(deepcopy=False):
        if trial.state == optuna.trial.TrialState.RUNNING:  # the process was killed during it
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)
    return study


def _about(plan: Search, config: dict[str, Any]) -> str:
    """The values that a resumed search must share with the earlier one; the pairs' location is not one of them."""
    return json.dumps([config, plan.space, plan.sampler, plan.objective, plan.held_out], sort_keys=True)


def _queue(study: Any, plan: Search, dimensions: list[Dimension]) -> None:
    by_name = {dimension.name: dimension for dimension in dimensions}
    for line in plan.first:
        params = {}
        for setting in shlex.split(line):
            name, _, text = setting.partition("=")
            name = ALIASES.get(name, name)
            if name not in by_name:
                raise ConfigError(f"--try {line!r} sets {name}, which is not searched; use --set for fixed values")
            try:
                params[name] = by_name[name].value(text)
            except ValueError:
                raise ConfigError(f"--try {line!r}: {text!r} is not a number") from None
        study.enqueue_trial(params)
    if plan.sampler == "grid":
        for values in itertools.product(*(dimension.points() for dimension in dimensions)):
            study.enqueue_trial(dict(zip(by_name, values, strict=True)))


def _share_tokenizer(config: TrainConfig, pairs: Part) -> TrainConfig:
    """Learn the vocabulary once for all trials."""
    if config.tokenizer != "train":
        return config
    folder = config.folder
    prepare_tokenizer(config, pairs, folder)
    return dataclasses.replace(config, tokenizer=str(folder / "tokenizer.json"))


def _counted(optuna: Any, study: Any) -> list[Any]:
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return study.get_trials(deepcopy=False, states=ended)


def _number_left(optuna: Any, plan: Search, study: Any, left: int) -> int:
    """A grid ends with its last point."""
    if plan.sampler != "grid":
        return left
    return min(left, len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))))


def _ranked(study: Any, objective: str) -> tuple[Trial, ...]:
    trials = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished():
            values = trial.user_attrs.get("values", {})
            state = {"PRUNED": "pruned", "FAIL": "failed"}.get(trial.state.name, "complete")
            settings = tuple(trial.user_attrs.get("settings", ()))
            trials.append(Trial(trial.number, settings, state, values.get("loss_nats"), values.get("recall_at_1")))
    rank: Callable[[Trial], tuple[bool, float, int]] = lambda trial: (  # noqa: E731
        trial.state != "complete",
        (trial.loss or 0.0) if objective == "loss" else -(trial.accuracy or 0.0),
        trial.number,
    )
    return tuple(sorted(trials, key=rank))


def trials_table(found: Found) -> Table:
    """The trials, best first: loss in nats and accuracy in percent on the held-out pairs, and the settings."""
    table = Table(title="Trials, on held-out training pairs", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("trial", "loss", "recall@1, %"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state")
    table.add_column("settings")
    for trial in found.trials:
        loss = "" if trial.loss is None else f"{trial.loss:.4f}"
        accuracy = "" if trial.accuracy is None else f"{100 * trial.accuracy:.2f}"
        table.add_row(str(trial.number), loss, accuracy, trial.state, " ".join(trial.settings))
    return table
