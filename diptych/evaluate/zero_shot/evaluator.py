"""The evaluator of zero-shot classification: a labelled set's pictures against the classifiers of its prompts.

Source: CLIP paper, sections 3.1.2 and 3.1.4.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych import distributed
from diptych.embed.about import about, required_logit_scale
from diptych.embed.encoder import Encoder
from diptych.errors import ConfigError, TextError
from diptych.evalsets.benchmark import Benchmark, warn_of_codes
from diptych.evaluate.encoding import encode_benchmark
from diptych.evaluate.metrics.classification import accuracy, accuracy_top_k, mean_per_class_accuracy
from diptych.evaluate.metrics.comparison import paired_test
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.predictions import predictions_path, read_predictions, top_k_classes, write_predictions
from diptych.evaluate.provenance import run_record
from diptych.evaluate.shown_classes import note
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.evaluate.zero_shot.classifier import zero_shot_logits
from diptych.evaluate.zero_shot.prompts import check_class_names, check_templates, fill_template
from diptych.progress import progress_bar
from diptych.records import Predictions, Result

PROTOCOLS = ("single", "ensemble")
INTERVAL = "clopper-pearson 99.5%"

_PICTURES_PER_BATCH = 256


@dataclasses.dataclass(frozen=True)
class ZeroShot:
    """Evaluator: zero-shot accuracy on one labelled set; pictures are encoded once for all protocols.

    Attributes:
        benchmark: pictures, labels, class names and templates.
        top_k: classes kept per picture in the Predictions; also the k of `accuracy_top_k`, where C > k > 1.
        predictions_folder: write <model>/<dataset>-<split>-<protocol>.parquet there; None writes nothing.
        num_workers: processes that decode pictures.
        protocols: "single" uses one template alone, the set's `single` or else its first, "ensemble" all of them.
        cache_folder: where classifiers are kept, for models with a fingerprint; None keeps nothing.
    """

    benchmark: Benchmark
    top_k: int = 5
    predictions_folder: str | Path | None = None
    num_workers: int = 0
    protocols: tuple[str, ...] = PROTOCOLS
    cache_folder: str | Path | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1; got {self.top_k}")
        if not self.protocols or not set(self.protocols) <= set(PROTOCOLS):
            raise ConfigError(f"protocols must be some of {', '.join(PROTOCOLS)}; got {self.protocols}")

    def check(self, encoder: Encoder) -> None:
        """Find out before a training run whether this set's prompts can be measured after it.

        Raises:
            InputError: the set has fewer than two classes, or a template without {c}.
            TextError: a prompt is longer than the encoder's context, where its tokenizer tells.
        """
        names, used = self._texts()
        tokenizer = about(encoder).tokenizer
        if tokenizer is None:
            return
        for template in dict.fromkeys(template for templates in used.values() for template in templates):
            for prompt in (fill_template(template, name) for name in names):
                if (length := len(tokenizer.encode(prompt)) + 2) > tokenizer.context_length:
                    raise TextError(
                        f"{self.benchmark.name}: the prompt {prompt[:60]!r} has {length} tokens with start and end, "
                        f"the context of {encoder.name} is {tokenizer.context_length}; shorten the template or the "
                        "class name, or train with a longer context"
                    )

    def __call__(self, encoder: Encoder) -> list[Result]:
        """Measure an encoder: accuracy, top-k and mean per class, for each protocol.

        Raises:
            InputError: the set has fewer than two classes, or the model gives no finite embeddings.
            DataError: the set is empty, a label is out of range, or too many pictures are broken.
        """
        results = []
        for protocol, predictions in self.predict(encoder).items():
            if self.predictions_folder is not None and distributed.is_main():
                write_predictions(predictions, self.predictions_path(encoder.name, protocol))
            results += self._results(encoder, protocol, predictions)
        return results

    def predict(self, encoder: Encoder) -> dict[str, Predictions]:
        """Predictions of each protocol, in the order of the set."""
        warn_of_codes(self.benchmark)
        classifiers = self._classifiers(encoder)
        k, scale = min(self.top_k, len(self.benchmark.class_names)), required_logit_scale(encoder)
        rows: list[tuple[Any, ...]] = []
        batches = encode_benchmark(encoder, self.benchmark, _PICTURES_PER_BATCH, self.num_workers)
        shown = progress_bar(batches, f"{self.benchmark.name} (pictures)", size=lambda batch: len(batch.samples))
        for batch in shown:
            best = [
                top_k_classes(zero_shot_logits(batch.vectors, classes, scale), k) for classes in classifiers.values()
            ]
            known = batch.places.tolist(), batch.keys, batch.labels.tolist()
            rows += zip(*known, zip(*itertools.chain(*best), strict=True), strict=True)
        # Every rank has classified its share of the pictures; all count all of them.
        rows = sorted(itertools.chain(*distributed.gather_objects(rows)), key=lambda row: row[0])
        columns = [np.stack(column) for column in zip(*(found for *_, found in rows), strict=True)]
        all_keys, all_labels = tuple(row[1] for row in rows), np.array([row[2] for row in rows], dtype=np.int64)
        return {
            protocol: Predictions(all_keys, all_labels, columns[2 * place], columns[2 * place + 1])
            for place, protocol in enumerate(classifiers)
        }

    def predictions_path(self, model: str, protocol: str) -> Path:
        """Where the predictions of a model stand."""
        folder = Path(self.predictions_folder or ".")
        return predictions_path(folder, model, self.benchmark.name, self.benchmark.split, protocol)

    def prompt_gain(self, model: str) -> tuple[float, float] | None:
        """Interval of the ensemble's accuracy less the single template's, from written predictions.

        Exact, 99.5 %, of the same samples; None where one of the files is missing or is of other samples.
        """
        paths = [self.predictions_path(model, protocol) for protocol in ("ensemble", "single")]
        if not all(path.is_file() for path in paths):
            return None
        ensemble, single = map(read_predictions, paths)
        if ensemble.keys != single.keys or not np.array_equal(ensemble.labels, single.labels):
            return None
        found = paired_test(*(one.classes[:, 0] == one.labels for one in (ensemble, single)))
        return found.low, found.high

    def _texts(self) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
        """Class names, and each protocol's templates."""
        names = check_class_names(self.benchmark.class_names, unique=False)
        templates = check_templates(self.benchmark.templates)
        single = (self.benchmark.single or templates[0],)
        return names, {protocol: single if protocol == "single" else templates for protocol in self.protocols}

    def _classifiers(self, encoder: Encoder) -> Mapping[str, torch.Tensor]:
        names, used = self._texts()
        # A set with one template has the same classifier twice: it is computed once.
        made = {
            chosen: class_embeddings(encoder, names, chosen, cache_folder=self.cache_folder)
            for chosen in dict.fromkeys(used.values())
        }
        return {protocol: made[chosen] for protocol, chosen in used.items()}

    def _results(self, encoder: Encoder, protocol: str, predictions: Predictions) -> list[Result]:
        labels, classes, n = predictions.labels, predictions.classes, len(predictions.keys)
        values = {"accuracy": accuracy(labels, classes)}
        if 1 < self.top_k < len(self.benchmark.class_names):
            values[f"accuracy_top_{self.top_k}"] = accuracy_top_k(labels, classes, self.top_k)
        bounds = {metric: clopper_pearson(round(value * n), n) for metric, value in values.items()}
        values["mean_per_class_accuracy"] = mean_per_class_accuracy(labels, classes)
        run = run_record(fingerprint=self.benchmark.fingerprint, device=about(encoder).device)
        if shown := note(self.benchmark, "tested", set(labels.tolist()), n, partial=True):
            run["settings"] = shown
        return [
            Result(
                task="zero_shot",
                dataset=self.benchmark.name,
                split=self.benchmark.split,
                metric=metric,
                value=value,
                n=n,
                low=bounds[metric][0] if metric in bounds else None,
                high=bounds[metric][1] if metric in bounds else None,
                interval=INTERVAL if metric in bounds else None,
                protocol=protocol,
                model=encoder.name,
                run=run,
            )
            for metric, value in values.items()
        ]
