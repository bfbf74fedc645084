"""What a conversion changes in the accuracy: both models on the same images, with a paired interval."""

import dataclasses
from pathlib import Path

from diptych.embed.encoder import Encoder
from diptych.errors import DataError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.user_sets import open_set
from diptych.evaluate.metrics.comparison import Paired, paired_test
from diptych.evaluate.zero_shot.evaluator import ZeroShot
from diptych.records import Predictions

_PROTOCOL = "ensemble"


@dataclasses.dataclass(frozen=True)
class AccuracyChange:
    """Zero-shot accuracy before and after a conversion.

    Attributes:
        dataset: name and split of the evaluation set.
        n: number of images, the same for both.
        original, converted: accuracy, a fraction.
        paired: the comparison image by image; its difference is converted minus original.
    """

    dataset: str
    n: int
    original: float
    converted: float
    paired: Paired

    @property
    def loss(self) -> float:
        """Lost accuracy in percentage points; negative if the converted model is better."""
        return -100 * self.paired.difference

    def __str__(self) -> str:
        pair, change = self.paired, 100 * self.paired.difference
        return (
            f"accuracy on {self.dataset} ({self.n:,} images): {100 * self.original:.2f} % before, "
            f"{100 * self.converted:.2f} % after, {change:+.2f} points (99.5 % interval of the paired difference "
            f"{100 * pair.low:+.2f} to {100 * pair.high:+.2f}; {pair.only_second:,} images were right only before, "
            f"{pair.only_first:,} only after)"
        )


def open_measured_set(dataset: str | Path, split: str) -> Benchmark:
    """The evaluation set, in any layout that `diptych evaluate` takes; opened before the conversion begins.

    Raises:
        DataError: there is no such set or split.
    """
    return open_set(dataset, split)


def measure_change(original: Encoder, converted: Encoder, benchmark: Benchmark, num_workers: int = 0) -> AccuracyChange:
    """Classify the images of a set with both models, by the ensemble of its templates.

    Raises:
        InputError: a model cannot classify, or the set has fewer than two classes.
        DataError: the set is empty, or the two models read other images from it.
    """
    before, after = (
        ZeroShot(benchmark, num_workers=num_workers, protocols=(_PROTOCOL,)).predict(model)[_PROTOCOL]
        for model in (original, converted)
    )
    if before.keys != after.keys:
        raise DataError(f"{benchmark.name}/{benchmark.split} changed while it was read: convert again")
    was_right, is_right = _right(before), _right(after)
    return AccuracyChange(
        dataset=f"{benchmark.name}/{benchmark.split}",
        n=len(was_right),
        original=float(was_right.mean()),
        converted=float(is_right.mean()),
        paired=paired_test(is_right, was_right),
    )


def _right(predictions: Predictions):
    return predictions.classes[:, 0] == predictions.labels
