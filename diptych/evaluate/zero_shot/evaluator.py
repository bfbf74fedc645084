"""The zero-shot evaluator for one open split, used by training and `diptych evaluate`.

Source: CLIP paper, sections 3.1.2 and 3.1.4.
"""

import dataclasses
from pathlib import Path

import numpy as np

from diptych import distributed
from diptych.embed.about import required_logit_scale
from diptych.embed.encoder import Encoder
from diptych.errors import ConfigError
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate.encoded_set import Encoded, encode_set
from diptych.evaluate.metrics.comparison import paired_test
from diptych.evaluate.predictions import predictions_path, read_predictions
from diptych.evaluate.tasks.task import Measurement, Setting, check_prompts, check_texts
from diptych.evaluate.tasks.zero_shot import measure_zero_shot, predictions_of, protocol_scores
from diptych.files import expanded
from diptych.records import Predictions, Result

PROTOCOLS = ("single", "ensemble")


@dataclasses.dataclass(frozen=True)
class ZeroShot:
    """Evaluator: zero-shot accuracy on one labeled split; images are encoded once for all protocols.

    It gives the numbers of the task "zero_shot" for two protocols only, because training evaluates often.

    Attributes:
        benchmark: images, labels, class names and templates.
        predictions_folder: write <model>/<dataset>-<split>-<protocol>.parquet there; None writes nothing.
        num_workers: processes that decode images.
        protocols: "single" uses one template (the set's `single`, or else its first), "ensemble" all templates.
        cache_folder: where classifiers are cached, for models with a fingerprint; None caches nothing.
    """

    benchmark: Benchmark
    predictions_folder: str | Path | None = None
    num_workers: int = 0
    protocols: tuple[str, ...] = PROTOCOLS
    cache_folder: str | Path | None = None

    def __post_init__(self) -> None:
        if not self.protocols or not set(self.protocols) <= set(PROTOCOLS):
            raise ConfigError(f"protocols must be some of {', '.join(PROTOCOLS)}; got {self.protocols}")

    def check(self, encoder: Encoder) -> None:
        """Check before a training run that this set's prompts can be encoded.

        Raises:
            InputError: the set has fewer than two classes, a template lacks {c}, or the encoder encodes no texts.
            TextError: a prompt is longer than the encoder's context, if its tokenizer is known.
        """
        check_texts(encoder, "zero-shot classification")
        single = (self.benchmark.single or self.benchmark.templates[0],) if self.protocols == ("single",) else None
        check_prompts(encoder, self.benchmark, single)

    def __call__(self, encoder: Encoder) -> list[Result]:
        """Measure accuracy, top-5 accuracy and mean per class accuracy with each protocol.

        Raises:
            InputError: the set has fewer than two classes, or the model gives no finite embeddings.
            DataError: the set is empty, a label is out of range, or too many images are broken.
        """
        return self.measure(encoder).results

    def measure(self, encoder: Encoder) -> Measurement:
        """Measure, and return Results and the files of Predictions; only the main rank writes files."""
        folder = self.predictions_folder if distributed.is_main() else None
        setting = Setting(predictions=None if folder is None else Path(folder), partial=True)
        return measure_zero_shot(
            encoder, self.benchmark, self._encoded(encoder), setting, self.protocols, self._classifiers
        )

    def predict(self, encoder: Encoder) -> dict[str, Predictions]:
        """Predictions of each protocol, in the order of the set.

        Raises:
            InputError: the encoder states no logit scale, which probabilities need.
        """
        required_logit_scale(encoder)
        encoded = self._encoded(encoder)
        scores = protocol_scores(encoder, self.benchmark, encoded, self.protocols, self._classifiers)
        return {protocol: predictions_of(encoded, class_scores, protocol) for protocol, class_scores in scores}

    def predictions_path(self, model: str, protocol: str) -> Path:
        """The file of a model's predictions."""
        folder = Path(self.predictions_folder or ".")
        return predictions_path(folder, model, self.benchmark.name, self.benchmark.split, protocol)

    def prompt_gain(self, model: str) -> tuple[float, float] | None:
        """Interval of the ensemble's accuracy minus the single template's, from written predictions.

        An exact 99.5 % interval on the same samples; None if a file is missing or the files differ in samples.
        """
        paths = [self.predictions_path(model, protocol) for protocol in ("ensemble", "single")]
        if not all(path.is_file() for path in paths):
            return None
        ensemble, single = map(read_predictions, paths)
        if ensemble.keys != single.keys or not np.array_equal(ensemble.labels, single.labels):
            return None
        comparison = paired_test(
            *(predictions.classes[:, 0] == predictions.labels for predictions in (ensemble, single))
        )
        return comparison.low, comparison.high

    @property
    def _classifiers(self) -> Path | None:
        return None if self.cache_folder is None else expanded(self.cache_folder)

    def _encoded(self, encoder: Encoder) -> Encoded:
        check_prompts(encoder, self.benchmark)
        return encode_set(encoder, self.benchmark, num_workers=self.num_workers)
