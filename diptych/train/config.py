"""The configuration of a training run: a frozen tree of the components' configs."""

import dataclasses
import math
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

from diptych.data.columns import ColumnNames
from diptych.data.copies import CopyAugmentation
from diptych.data.loader import LoaderConfig
from diptych.data.transforms import Augmentation, Preprocessing
from diptych.errors import ConfigError
from diptych.files import expanded, shown
from diptych.model.clip_config import CLIPConfig
from diptych.model.towers import tower_of
from diptych.objective.objectives import OBJECTIVES
from diptych.train.optimizer import OptimizerConfig, ScheduleConfig


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When to write checkpoints (whichever condition comes first), and which to keep.

    Attributes:
        keep: number of newest checkpoints to keep.
        keep_every_steps: also keep checkpoints at multiples of this number of steps; None for none.
        keep_best: name of a metric of the evaluators, e.g. "accuracy"; the checkpoint with the highest mean is kept,
            too. A new best score makes a checkpoint due.
        sharded: every rank writes its own shard into one folder; otherwise rank 0 gathers all into one file. Any number
            of ranks can read either.
    """

    every_steps: int = 1000
    every_minutes: float = 10.0
    keep: int = 2
    keep_every_steps: int | None = None
    keep_best: str | None = None
    sharded: bool = False

    def __post_init__(self) -> None:
        if self.every_steps < 1 or self.keep < 1:
            raise ConfigError(
                f"checkpoint.every_steps is {self.every_steps} and checkpoint.keep {self.keep}; both must be at least 1"
            )
        if not self.every_minutes > 0:
            raise ConfigError(f"checkpoint.every_minutes is {self.every_minutes}; it must be above 0")
        if self.keep_every_steps is not None and self.keep_every_steps < 1:
            raise ConfigError(
                f"checkpoint.keep_every_steps is {self.keep_every_steps}; it must be at least 1, or None for none"
            )
        if self.keep_best == "":
            raise ConfigError('checkpoint.keep_best is empty; name a metric, e.g. "accuracy", or None for none')


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """What to do about loss spikes.

    Attributes:
        spike: "off", "skip" (the update is skipped) or "stop" (the run ends with a checkpoint before it).
        factor: a loss is a spike if it exceeds the running mean by this many standard deviations. In mode "skip", NaN
            and infinity are always spikes.
        window_steps: of that running mean; until the window is full nothing counts as a spike.
        max_skipped: consecutive skipped updates after which the run stops anyway.
    """

    spike: str = "off"
    factor: float = 6.0
    window_steps: int = 100
    max_skipped: int = 10

    def __post_init__(self) -> None:
        if self.spike not in ("off", "skip", "stop"):
            raise ConfigError(f"guard.spike is {self.spike!r}; choose off, skip or stop")
        if not 0 < self.factor < math.inf:
            raise ConfigError(f"guard.factor is {self.factor}; it must be above 0 and finite")
        if self.window_steps < 2:
            raise ConfigError(f"guard.window_steps is {self.window_steps}; a deviation needs at least 2 losses")
        if self.max_skipped < 1:
            raise ConfigError(f"guard.max_skipped is {self.max_skipped}; it must be at least 1")


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """How torchrun's processes share the work. It does not matter for one process.

    Attributes:
        weights: "replicated" (DistributedDataParallel) or "sharded" (FSDP2 shards weights, gradients and moments).
        batch_norm: "synchronised" (statistics over all ranks) or "local" (each rank its own, averaged when saved).
    """

    weights: str = "replicated"
    batch_norm: str = "synchronised"

    def __post_init__(self) -> None:
        if self.weights not in ("replicated", "sharded"):
            raise ConfigError(f"parallel.weights is {self.weights!r}; choose replicated or sharded")
        if self.batch_norm not in ("synchronised", "local"):
            raise ConfigError(f"parallel.batch_norm is {self.batch_norm!r}; choose synchronised or local")


@dataclasses.dataclass(frozen=True)
class InitConfig:
    """The initial weights.

    Attributes:
        weights: a model as `diptych.load` takes it; None for random ones. Another image size resamples the positions.
        lock_image, lock_text: do not train that tower (locked-image tuning trains only the text tower).
        activation, heads: of a weight file that does not state them; as `diptych.load` takes them.
    """

    weights: str | None = None
    lock_image: bool = False
    lock_text: bool = False
    activation: str | None = None
    heads: tuple[int, int] | None = None

    @classmethod
    def of(cls, init: "InitConfig | str | None") -> "InitConfig":
        """An InitConfig from itself, from a model's name, or from None."""
        return init if isinstance(init, InitConfig) else cls(weights=init)


@dataclasses.dataclass(frozen=True)
class PatchDropout:
    """Leave out a share of the patches of every image while training a ViT (FLIP, arXiv 2212.00794).

    Attributes:
        share: of the patches that are left out; 0 for none.
        unmasked_share: share of the run's updates, at its end, that use all patches.
    """

    share: float = 0.0
    unmasked_share: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.share < 1 and 0 <= self.unmasked_share <= 1):
            raise ConfigError(
                f"patch_dropout.share is {self.share} and unmasked_share {self.unmasked_share}; "
                "the first must be at least 0 and below 1, the second from 0 to 1"
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run. Recipes (diptych.recipes) return complete ones.

    Attributes:
        model: the architecture.
        data: paths of (image, text) pairs, as `open_source` takes them, or "playground:NUM".
        out: folder of the run: config.json, log.jsonl, checkpoints/, tensorboard/, model/.
        num_pairs: pairs to train on in the whole run, counted with repetition.
        tokenizer: "train" (a BPE of model.text.vocab_size learned from the captions), "openai", "init" (that of the
            initial weights), or a tokenizer.json.
        columns: names of a table's image and caption columns; None for the usual ones.
        objective: a name of diptych.objective.objectives: "contrastive", "sigmoid" (SigLIP), "prediction" (the
            paper's predictive baselines, figure 2), or "copies" (the copy detector, appendix C).
        copies: how copies are made for the objective "copies"; None for all others.
        micro_batch_size: pairs that a process computes at once; None for all of its share. It changes memory and time,
            not the gradient, except that BatchNorm normalizes within micro-batches.
        activation_checkpointing: drop activations and recompute them in the backward pass.
        compile: "off", "auto" (if a compiler exists and compiling pays) or "on".
        average_decay: of the moving average of the weights, which is then measured and saved; None for no average.
        precision: "auto" (bf16 if the processor supports it), "bf16" or "fp32".
        device: "auto", "cpu", "cuda", ...
        log_steps: steps between two rows of log.jsonl.
        evaluate_steps: steps between two rounds of the evaluators; None to evaluate only at the end of the run.
        minutes: of the whole run, from the call of `fit` to its last update. A rate measured at the start determines
            the number of pairs, at most `num_pairs`, which is then written to config.json (diptych.train.length).
        least_pairs: minimum number of pairs of a run with `minutes`, however long a slow machine takes for them.
        held_out: share of the pairs, chosen by their keys, that is not trained on. Up to 1,000 of them give the
            validation loss, ten times in a run or every `evaluate_steps`. None for none.
        seed: of the initial weights; the data's order has its own seed in `loader`.
    """

    model: CLIPConfig
    data: tuple[str, ...]
    out: str
    num_pairs: int
    preprocessing: Preprocessing
    tokenizer: str = "train"
    columns: ColumnNames = ColumnNames()  # noqa: RUF009  (frozen)
    loader: LoaderConfig = dataclasses.field(default_factory=LoaderConfig)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    guard: GuardConfig = dataclasses.field(default_factory=GuardConfig)
    parallel: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)
    init: InitConfig = dataclasses.field(default_factory=InitConfig)
    patch_dropout: PatchDropout = dataclasses.field(default_factory=PatchDropout)
    objective: str = "contrastive"
    copies: CopyAugmentation | None = None
    micro_batch_size: int | None = None
    activation_checkpointing: bool = False
    compile: str = "off"
    average_decay: float | None = None
    precision: str = "auto"
    device: str = "auto"
    log_steps: int = 10
    evaluate_steps: int | None = None
    minutes: float | None = None
    least_pairs: int = 0
    held_out: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check_types(self)
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ConfigError(f"precision is {self.precision!r}; choose auto, bf16 or fp32")
        if self.num_pairs < self.global_batch_size:
            raise ConfigError(
                f"num_pairs is {self.num_pairs}, less than one batch of {self.global_batch_size}: "
                "train on more pairs (--pairs) or with a smaller batch (--batch-size)"
            )
        if self.preprocessing.image_size != self.model.vision.image_size:
            raise ConfigError(
                f"preprocessing makes images of {self.preprocessing.image_size} pixels, "
                f"but the image encoder takes {self.model.vision.image_size}"
            )
        if self.log_steps < 1:
            raise ConfigError(f"log_steps is {self.log_steps}; it must be at least 1")
        if self.evaluate_steps is not None and self.evaluate_steps < 1:
            raise ConfigError(f"evaluate_steps is {self.evaluate_steps}; it must be at least 1, or None")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ConfigError(f"minutes is {self.minutes}; it must be a number above 0, or None")
        if self.held_out is not None and not 0 <= self.held_out <= 0.5:
            raise ConfigError(f"held_out is {self.held_out}; it must be a share from 0 to 0.5, or None")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise ConfigError(f"micro_batch_size is {self.micro_batch_size}; it must be at least 1, or None")
        if self.average_decay is not None and not 0 < self.average_decay < 1:
            raise ConfigError(f"average_decay is {self.average_decay}; it must lie between 0 and 1, or be None")
        if self.compile not in ("off", "auto", "on"):
            raise ConfigError(f"compile is {self.compile!r}; choose off, auto or on")
        self._check_together()

    @property
    def folder(self) -> Path:
        """The run's folder: `out`, with a leading ~ expanded."""
        return expanded(self.out)

    def _check_together(self) -> None:
        """Refuse parts that do not fit together."""
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"objective is {self.objective!r}; choose one of {', '.join(OBJECTIVES)}")
        objective = OBJECTIVES[self.objective]
        objective.check_model(self.model)
        if objective.copies != isinstance(self.copies, CopyAugmentation):
            raise ConfigError(
                f"objective is {self.objective} and copies is {shown(self.copies)}: only the objective copies trains "
                "on copies of images, and it needs a CopyAugmentation; see the recipe copy-detector"
            )
        if not objective.sharded and self.parallel.weights == "sharded":
            raise ConfigError(
                f"objective {self.objective} trains replicated weights only: use parallel.weights=replicated"
            )
        if self.patch_dropout.share and not tower_of(self.model.vision).masks_patches:
            raise ConfigError("patch_dropout leaves out patches of a Vision Transformer; a ResNet has none")
        if self.optimizer.stochastic_rounding and self.parallel.weights == "sharded":
            raise ConfigError(
                "optimizer.stochastic_rounding keeps some weights in bf16, and FSDP2 shards weights of one type only: "
                "use parallel.weights=replicated"
            )

    @property
    def global_batch_size(self) -> int:
        return self.loader.global_batch_size

    @property
    def num_steps(self) -> int:
        return self.num_pairs // self.global_batch_size

    def to_dict(self) -> dict[str, Any]:
        """The run as plain data, for config.json and for the checkpoint."""
        return {**dataclasses.asdict(self), "model": self.model.to_dict()}


def _check_types(config: TrainConfig) -> None:
    """Refuse parts and numbers of the wrong type, which would fail in a comparison later."""
    for field in dataclasses.fields(config):
        kind: Any = field.type
        value = getattr(config, field.name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and not isinstance(value, kind):
            raise ConfigError(f"{field.name} must be a {kind.__name__}, not {shown(value)}")
        number = kind in (int, float) or (kind in (int | None, float | None) and value is not None)
        if number and not isinstance(value, Real):
            raise ConfigError(f"{field.name} must be a number, not {shown(value)}")


# Fields that may differ between the run that wrote a checkpoint and the one that resumes it. The first row does not
# change the numbers; splitting the work differently changes rounding, and the guard concerns future losses.
MAY_CHANGE = (
    *("out", "checkpoint", "log_steps", "evaluate_steps", "loader.num_workers", "loader.max_broken"),
    *("micro_batch_size", "activation_checkpointing", "compile", "parallel.weights", "guard"),
)


TOKENIZERS = ("train", "openai", "init")
"""Values of `tokenizer` that are not files."""


def check_same_run(saved: dict[str, Any], config: TrainConfig, *, compare_paths: bool = True) -> None:
    """Refuse to resume a run with a configuration that would give other numbers.

    Args:
        compare_paths: also compare the paths of the data, a tokenizer file and initial weights; if their content is
            compared, their location does not matter.
    Raises:
        ConfigError: names each field that differs, with both values.
    """
    before, now = dict(_leaves(saved)), dict(_leaves(config.to_dict()))
    if not compare_paths:
        for leaves in (before, now):
            leaves.pop("data", None)
            leaves["tokenizer"] = leaves.get("tokenizer") if leaves.get("tokenizer") in TOKENIZERS else "a file"
            leaves["init.weights"] = leaves.get("init.weights") and "a model"
    differing = [
        f"{name} was {before.get(name)!r} and is now {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and not name.startswith(MAY_CHANGE)
    ]
    if differing:
        raise ConfigError(f"cannot resume {config.out}: {'; '.join(differing)}. Start a new run in another folder.")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a tree with their dotted names; tuples become lists, as in JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, list(value) if isinstance(value, tuple) else value
