"""Zero-shot classification with models that predict captions: the score of a class is the likelihood of its texts.

Source: CLIP paper, section 2.3 and figure 2, which do not say how class scores are formed; see PredictiveZeroShot for
the definition used here.
"""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import torch

from diptych import distributed
from diptych.data.transforms import Preprocessing, normalise
from diptych.embed.model import Model, evaluating
from diptych.errors import ConfigError
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate.encode_benchmark import encode_benchmark
from diptych.evaluate.metrics.score import score
from diptych.evaluate.scored_results import make_result
from diptych.evaluate.tasks.task import check_prompts
from diptych.evaluate.zero_shot.class_prompts import check_class_names, check_templates, fill_template
from diptych.evaluate.zero_shot.evaluator import PROTOCOLS
from diptych.model.build import is_predictive
from diptych.model.towers import text_side_of
from diptych.progress import progress_bar
from diptych.records import Result

_PICTURES_PER_BATCH = 256


@dataclasses.dataclass(frozen=True)
class PredictiveZeroShot:
    """Evaluator: zero-shot accuracy of a model that predicts captions (objective "prediction"), on one labeled set.

    With the caption decoder, the score of a class is the log-likelihood of its prompts: the log-mean-exp over the
    templates. With bag-of-words prediction, it is the mean log-probability of the distinct words of the class name;
    templates are not used.

    Attributes:
        benchmark: images, labels, class names and templates.
        num_workers: processes that decode images.
        protocols: "single" uses one template, "ensemble" all T of them at T times the cost.
    """

    benchmark: Benchmark
    num_workers: int = 0
    protocols: tuple[str, ...] = ("single",)

    def __post_init__(self) -> None:
        if not self.protocols or not set(self.protocols) <= set(PROTOCOLS):
            raise ConfigError(f"protocols must be some of {', '.join(PROTOCOLS)}; got {self.protocols}")

    def check(self, model: Model) -> None:
        """Check before a training run that this set's prompts can be scored.

        Raises:
            ConfigError: the model does not predict captions.
            InputError, TextError: see ZeroShot.check.
        """
        if not is_predictive(model.clip.config):
            raise ConfigError(f"{model.name} does not predict captions; measure it with ZeroShot")
        check_prompts(model, self.benchmark, self._templates(model))

    def __call__(self, model: Model) -> list[Result]:
        """Accuracy and mean accuracy per class, for each protocol.

        Raises:
            DataError: the set is empty, a label is out of range, or too many images are broken.
        """
        labels, best = self.predict(model)
        by_protocol = [self._results(model, protocol, labels, classes) for protocol, classes in best.items()]
        return [result for results in by_protocol for result in results]

    @torch.inference_mode()
    def predict(self, model: Model) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Labels int64 (N,), and the most likely classes int64 (N,) for each protocol, in the order of the set."""
        self.check(model)
        names, templates = check_class_names(self.benchmark.class_names, unique=False), self._templates(model)
        single = (self.benchmark.single,) if self.benchmark.single in templates else templates[:1]
        templates_of = {protocol: single if protocol == "single" else templates for protocol in self.protocols}
        rows: list[tuple[int, int, tuple[int, ...]]] = []
        with evaluating(model.clip):
            encoder: Any = _Points(model)
            batches = encode_benchmark(encoder, self.benchmark, _PICTURES_PER_BATCH, self.num_workers, gather=False)
            with_progress = progress_bar(
                batches, f"{self.benchmark.name} (images)", size=lambda batch: len(batch.samples)
            )
            for batch in with_progress:
                points, places_and_labels = batch.vectors, (batch.places.tolist(), batch.labels.tolist())
                best = [
                    class_scores(model, points, names, protocol_templates).argmax(dim=1).tolist()
                    for protocol_templates in templates_of.values()
                ]
                rows += zip(*places_and_labels, zip(*best, strict=True), strict=True)
        # Every rank has classified its share of the images; each rank counts all of them.
        rows = sorted(itertools.chain(*distributed.gather_objects(rows)))
        classes = np.array([best_classes for _, _, best_classes in rows], dtype=np.int64).T
        all_labels = np.array([label for _, label, _ in rows], dtype=np.int64)
        return all_labels, dict(zip(templates_of, classes, strict=True))

    def _templates(self, model: Model) -> tuple[str, ...]:
        if not text_side_of(model.clip.config.text).reads_templates:
            return ("{c}",)
        return check_templates(self.benchmark.templates)

    def _results(self, model: Model, protocol: str, labels: np.ndarray, classes: np.ndarray) -> list[Result]:
        chosen = np.eye(len(self.benchmark.class_names), dtype=np.float32)[classes]
        where = ("zero_shot", self.benchmark.name, self.benchmark.split)
        return [
            make_result(
                *(*where, metric, score(metric, labels, chosen)),
                protocol=protocol,
                encoder=model,
                fingerprint=self.benchmark.fingerprint,
            )
            for metric in ("accuracy", "mean_per_class_accuracy")
        ]


def class_scores(
    model: Model, points: torch.Tensor, class_names: tuple[str, ...], templates: tuple[str, ...]
) -> torch.Tensor:
    """The log-likelihood of each class: the log-mean-exp of the `text_scores` of its prompts.

    Args:
        points: (N, E), outputs of the network's encode_image.
        class_names: C names.
        templates: T templates with {c}.
    Returns:
        float32 (N, C), nats.
    """
    assert model.tokenizer is not None
    prompts = [fill_template(template, name) for template in templates for name in class_names]
    tokens, lengths = model.tokenizer(prompts)
    network: Any = model.clip
    scores = network.text_scores(points.to(model.device), tokens.to(model.device), lengths)
    return scores.unflatten(1, (len(templates), -1)).logsumexp(dim=1) - math.log(len(templates))


@dataclasses.dataclass(frozen=True)
class _Points:
    """An encoder that returns unnormalized outputs: a predictive model does not compare cosines."""

    model: Model

    @property
    def preprocessing(self) -> Preprocessing:
        return self.model.preprocessing

    def encode_pixels(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, R, R) -> (N, E)."""
        clip = self.model.clip
        pixels = normalise(images.to(clip.device), self.model.preprocessing, clip.dtype)
        return clip.encode_image(pixels.contiguous(memory_format=torch.channels_last))
