"""Zero-shot accuracy on an unchanged labeled set and under synthetic shifts (data/shifts.py).

Synthetic shifts are not natural shifts, and their parameters are our own: compare the numbers with each other, between
models and severities, not with those of published suites.
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
from diptych.evaluate.metrics.score import score
from diptych.evaluate.scored_results import make_result
from diptych.evaluate.tasks.robustness import vector_scorer
from diptych.evaluate.tasks.task import Measurement, Setting, Task
from diptych.evaluate.tasks.zero_shot import words
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.records import Result, kind_of


@dataclasses.dataclass(frozen=True)
class ShiftSummary:
    """One model on one set under synthetic shifts; values are fractions.

    Attributes:
        clean: the Result on the unchanged set.
        by_shift: the Result for each shift and severity.
    """

    model: str
    dataset: str
    clean: Result
    by_shift: Mapping[str, Mapping[int, Result]]

    def shift_mean(self, name: str) -> float:
        """The mean over the severities of a shift."""
        return float(np.mean([result.value for result in self.by_shift[name].values()]))

    def mean(self, families: Sequence[str] | None = None) -> float | None:
        """The mean over shifts of `shift_mean`; with `families`, only over those, and None if there are none."""
        names = [name for name in self.by_shift if families is None or SHIFTS[name].family in families]
        return float(np.mean([self.shift_mean(name) for name in names])) if names else None

    def relative_drop(self, families: Sequence[str] | None = None) -> float | None:
        """The share of the clean value that is lost on average."""
        mean = self.mean(families)
        return None if mean is None or not self.clean.value else 1 - mean / self.clean.value


def shifted(benchmark: Benchmark, name: str, severity: int = 1, *, seed: int = 0) -> Benchmark:
    """The set with shifted images: "cifar10" becomes "cifar10 gaussian noise 3".

    Raises:
        ConfigError: the shift does not exist, or does not have this severity.
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
    """Measure an encoder on the unchanged set and under shifts; the classifier is made once.

    Args:
        encoder: the model.
        benchmark: images with one label each.
        names: some of SHIFTS; None for all.
        severities: severities of corruptions; None for 1 to 5. Renditions have a single severity.
        cache: folder to cache classifiers and the encoded images of every shift; None caches nothing.
        num_workers: processes that decode images; the numbers do not depend on it.
        seed: seed of the shifts' draws.
        partial: whether a set of the paper may lack many of its classes; see `shown_classes.py`.
    Returns:
        Results of the task "shifts", protocol "ensemble": of the unchanged set, then with the condition {"shift",
        "severity"}. The metric of the set's card comes first, unless it is accuracy, then accuracy.
    Raises:
        ConfigError: a shift or severity does not exist, or images have several labels.
        DataError, InputError: as `encode_set` and `class_embeddings`.
    """
    chosen = variants(names, severities)
    metric = benchmark.card.metric if benchmark.card else "accuracy"
    if not benchmark.class_names or metric == "mean_average_precision_11_point":
        raise ConfigError(f"{benchmark.name}: shifts are measured on sets with one label per image")
    prompts = words(benchmark, "ensemble")
    classifiers = cache / "classifiers" if cache else None
    scorer = vector_scorer(
        encoder, class_embeddings(encoder, prompts.names, prompts.ensembles[0], cache_folder=classifiers)
    )
    results = []
    for variant in [None, *chosen]:
        variant_set = benchmark if variant is None else shifted(benchmark, *variant, seed=seed)
        encoded = encode_set(encoder, variant_set, cache=cache, num_workers=num_workers)
        broken = encoded.num_broken
        settings = note(benchmark, "tested", classes_shown(encoded), len(encoded.keys) + broken, partial)
        settings |= {"broken": broken} if broken else {}
        if variant is not None:
            settings |= {"seed": seed}
        scores = scorer(encoded.vectors)
        results += [
            make_result(
                *("shifts", benchmark.name, variant_set.split, measured, score(measured, encoded.labels, scores)),
                protocol="ensemble",
                condition={} if variant is None else {"shift": variant[0], "severity": variant[1]},
                encoder=encoder,
                fingerprint=variant_set.fingerprint,
                settings=settings,
            )
            for measured in dict.fromkeys((metric, "accuracy"))
        ]
    return results


def summarise_shifts(results: Iterable[Result], metric: str = "accuracy") -> list[ShiftSummary]:
    """Summarize the Results of `measure_shifts` by model and set; other Results are ignored.

    A set needs a Result without shift and at least one with a shift. If something was measured twice, the later Result
    counts. The Result without shift may be one of the task "zero_shot", which is the same measurement.
    """
    clean: dict[tuple[str, str], Result] = {}
    shifted_results: dict[tuple[str, str], dict[str, dict[int, Result]]] = {}
    for result in results:
        if (kind_of(result), result.protocol, result.metric) != ("zero_shot", "ensemble", metric):
            continue
        shift, severity = result.condition.get("shift"), result.condition.get("severity")
        if shift in SHIFTS and isinstance(severity, int):
            shifted_results.setdefault((result.model, result.dataset), {}).setdefault(str(shift), {})[severity] = result
        elif not result.condition:
            clean[result.model, result.dataset] = result
    return [
        ShiftSummary(
            *key, clean[key], {name: dict(sorted(by_shift[name].items())) for name in SHIFTS if name in by_shift}
        )
        for key, by_shift in shifted_results.items()
        if key in clean
    ]


def _measure(encoder: Encoder, card: Card, setting: Setting) -> Measurement:
    benchmark = open_tested(card, setting)
    options: dict[str, Any] = {"num_workers": setting.num_workers, "seed": setting.seed, "partial": setting.partial}
    # No cache: shifted images are not encoded again, and forty times the set would fill the disk.
    return Measurement(measure_shifts(encoder, benchmark, None, SEVERITIES, **options))


SEVERITIES = (1, 3, 5)
SHIFTS_TASK = Task(
    name="shifts",
    applies=lambda card: card.task == "classification" and card.num_classes > 1 and card.group != "shift",
    splits=lambda card: ("test",),
    measure=_measure,
)
"""All synthetic shifts, corruptions at three severities."""
