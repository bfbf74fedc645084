"""Zero-shot accuracy on a labeled set as it is and under shifts that are made (data/shifts.py).

Made shifts are no natural ones, and their parameters are ours: the numbers compare with each other, between models and
severities, not with those of published suites.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.shifts import SHIFTS, ShiftedSource, title, variants
from diptych.embed.encoder import Encoder
from diptych.errors import ConfigError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.card import Card
from diptych.evaluate.class_coverage import classes_shown, note, open_tested
from diptych.evaluate.encoded_set import encode_set
from diptych.evaluate.make_result import make_result
from diptych.evaluate.metrics.score import score
from diptych.evaluate.tasks.robustness import vector_scorer
from diptych.evaluate.tasks.task import Measurement, Setting, Task
from diptych.evaluate.tasks.zero_shot import words
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.records import Result, kind_of


@dataclasses.dataclass(frozen=True)
class ShiftSummary:
    """One model on one set under made shifts; values are fractions.

    Attributes:
        clean: the number on the set as it is.
        by_shift: of each shift, by severity, its Result.
    """

    model: str
    dataset: str
    clean: Result
    by_shift: Mapping[str, Mapping[int, Result]]

    def shift_mean(self, name: str) -> float:
        """The mean over a shift's severities."""
        return float(np.mean([one.value for one in self.by_shift[name].values()]))

    def mean(self, families: Sequence[str] | None = None) -> float | None:
        """The mean over shifts of their means over severities; of some FAMILIES alone, None where none is there."""
        names = [name for name in self.by_shift if families is None or SHIFTS[name].family in families]
        return float(np.mean([self.shift_mean(name) for name in names])) if names else None

    def relative_drop(self, families: Sequence[str] | None = None) -> float | None:
        """Which share of the clean number is lost on the mean."""
        mean = self.mean(families)
        return None if mean is None or not self.clean.value else 1 - mean / self.clean.value


def shifted(benchmark: Benchmark, name: str, severity: int = 1, *, seed: int = 0) -> Benchmark:
    """A set with its images changed: "cifar10" becomes "cifar10 gaussian noise 3".

    Raises:
        ConfigError: there is no such shift, or it has no such severity.
    """
    source = ShiftedSource(benchmark.source, name, severity, seed)
    content = json.dumps([benchmark.fingerprint, source.fingerprint])
    digest = hashlib.sha256(content.encode()).hexdigest()
    return dataclasses.replace(
        benchmark, name=f"{benchmark.name} {title(name, severity)}", source=source, fingerprint=digest
    )


def measure_shifts(
    encoder: Encoder,
    benchmark: Benchmark,
    names: Sequence[str] | None = None,
    severities: Sequence[int] | None = None,
    *,
    cache: Path | None = None,
    num_workers: int = 0,
    seed: int = 0,
    partial: bool = False,
) -> list[Result]:
    """Measure an encoder on a set as it is and under shifts; the classifier is made once.

    Args:
        encoder: the model.
        benchmark: images with one label each.
        names: some of SHIFTS; None for all.
        severities: of corruptions; None for 1 to 5. Renditions have one severity.
        cache: encoded images and classifiers are kept there, for each shift anew; None keeps nothing.
        num_workers: processes that decode images; it changes no number.
        seed: of the shifts' draws.
        partial: whether few of a paper's set's classes will do; see `shown_classes.py`.
    Returns:
        Results of the task "shifts", protocol "ensemble": of the set as it is, then with the condition {"shift",
        "severity"}. First the metric that the set's card names, if it is another than accuracy, then accuracy.
    Raises:
        ConfigError: a shift or severity is not there, or the set has several labels an image.
        DataError, InputError: as `encode_set` and `class_embeddings`.
    """
    chosen = variants(names, severities)
    metric = benchmark.card.metric if benchmark.card else "accuracy"
    if not benchmark.class_names or metric == "mean_average_precision_11_point":
        raise ConfigError(f"{benchmark.name}: shifts are measured on sets with one label a picture")
    used = words(benchmark, "ensemble")
    kept = cache / "classifiers" if cache else None
    scorer = vector_scorer(encoder, class_embeddings(encoder, used.names, used.ensembles[0], cache_folder=kept))
    results = []
    for variant in [None, *chosen]:
        one = benchmark if variant is None else shifted(benchmark, *variant, seed=seed)
        encoded = encode_set(encoder, one, cache=cache, num_workers=num_workers)
        broken = encoded.num_broken
        settings = note(benchmark, "tested", classes_shown(encoded), len(encoded.keys) + broken, partial)
        settings |= {"broken": broken} if broken else {}
        if variant is not None:
            settings |= {"seed": seed}
        scores = scorer(encoded.vectors)
        results += [
            make_result(
                *("shifts", benchmark.name, one.split, measured, score(measured, encoded.labels, scores)),
                protocol="ensemble",
                condition={} if variant is None else {"shift": variant[0], "severity": variant[1]},
                encoder=encoder,
                fingerprint=one.fingerprint,
                settings=settings,
            )
            for measured in dict.fromkeys((metric, "accuracy"))
        ]
    return results


def summarise_shifts(results: Iterable[Result], metric: str = "accuracy") -> list[ShiftSummary]:
    """Results of `measure_shifts`, of any number of models and sets among others, by model and set.

    A set without its number as it is, or without shifts, has no summary; of two measurements of one thing the later
    counts. The number as it is may be zero-shot's: it is the same measurement.
    """
    clean: dict[tuple[str, str], Result] = {}
    found: dict[tuple[str, str], dict[str, dict[int, Result]]] = {}
    for result in results:
        if (kind_of(result), result.protocol, result.metric) != ("zero_shot", "ensemble", metric):
            continue
        shift, severity = result.condition.get("shift"), result.condition.get("severity")
        if shift in SHIFTS and isinstance(severity, int):
            found.setdefault((result.model, result.dataset), {}).setdefault(str(shift), {})[severity] = result
        elif not result.condition:
            clean[result.model, result.dataset] = result
    return [
        ShiftSummary(
            *key, clean[key], {name: dict(sorted(by_shift[name].items())) for name in SHIFTS if name in by_shift}
        )
        for key, by_shift in found.items()
        if key in clean
    ]


def _measure(encoder: Encoder, card: Card, setting: Setting) -> Measurement:
    benchmark = open_tested(card, setting)
    options: dict[str, Any] = {"num_workers": setting.num_workers, "seed": setting.seed, "partial": setting.partial}
    # What is encoded here is never asked for again: keeping forty times the set would fill the disk.
    return Measurement(measure_shifts(encoder, benchmark, None, SEVERITIES, **options))


SEVERITIES = (1, 3, 5)
SHIFTS_TASK = Task(
    name="shifts",
    applies=lambda card: card.task == "classification" and card.num_classes > 1 and card.group != "shift",
    splits=lambda card: ("test",),
    measure=_measure,
)
"""Every made shift, corruptions at three severities."""
