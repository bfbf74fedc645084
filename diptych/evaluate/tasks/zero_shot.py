"""Zero-shot classification of a set, with every protocol that makes a classifier from class names and templates."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from diptych.embed.about import about, ranking_scale, required_logit_scale
from diptych.embed.encoder import Encoder
from diptych.evalsets.benchmark import Benchmark, warn_of_codes
from diptych.evalsets.card import Card
from diptych.evalsets.cards import is_paper_set
from diptych.evaluate.class_coverage import note_tested, open_tested
from diptych.evaluate.encoded_set import Encoded, encode_set
from diptych.evaluate.metrics.score import relevance, score
from diptych.evaluate.predictions import (
    TOP_K,
    has_probabilities,
    predictions_path,
    top_predictions,
    write_predictions,
)
from diptych.evaluate.scored_results import make_result
from diptych.evaluate.tasks.task import Measurement, Setting, Task
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.evaluate.zero_shot.classifier import zero_shot_logits
from diptych.records import Predictions, Result

PROTOCOLS = ("ensemble", "single", "names", "probability")
"""All templates averaged as embeddings; one template; class names only; all templates averaged as probabilities."""

_ROWS_PER_BLOCK = 8192
_log = logging.getLogger(__name__)
_SIDE_METRICS = ("accuracy", "accuracy_top_5", "mean_per_class_accuracy")


@dataclasses.dataclass(frozen=True)
class Words:
    """The class names and templates that one protocol uses.

    Attributes:
        names: one or several names of each class.
        ensembles: lists of templates; each list gives a classifier, and their probabilities are averaged.
    """

    names: tuple[tuple[str, ...], ...]
    ensembles: tuple[tuple[str, ...], ...]


def words(benchmark: Benchmark, protocol: str) -> Words:
    """The class names and templates of a protocol.

    "names" is the baseline of section 3.1.4: the prompt is only the first name of the class.
    """
    names = benchmark.names or tuple((name,) for name in benchmark.class_names)
    if protocol == "names":
        return Words(tuple((class_names[0],) for class_names in names), (("{c}",),))
    if protocol == "single":
        return Words(names, ((benchmark.single or benchmark.templates[0],),))
    if protocol == "probability":
        return Words(names, tuple((template,) for template in benchmark.templates))
    return Words(names, (tuple(benchmark.templates),))


def class_scores(
    encoder: Encoder, vectors: np.ndarray, chosen: Words, *, cache_folder: Path | None = None
) -> np.ndarray:
    """Class scores, float32 (N, C): logits, or mean probabilities if there are several ensembles.

    Args:
        vectors: (N, E) embeddings of unit norm; may be memory-mapped.
        chosen: class names and templates.
        cache_folder: folder of cached classifiers.
    """
    scale = ranking_scale(encoder) if len(chosen.ensembles) == 1 else required_logit_scale(encoder)
    classifiers = [
        class_embeddings(encoder, chosen.names, templates, cache_folder=cache_folder) for templates in chosen.ensembles
    ]
    parts = []
    for block in map(torch.from_numpy, _blocks(vectors)):
        logits = (zero_shot_logits(block, classes, scale) for classes in classifiers)  # lazily: ImageNet has 80
        single = len(classifiers) == 1
        parts.append(next(logits) if single else sum(part.softmax(dim=1) for part in logits) / len(classifiers))
    return torch.cat([torch.as_tensor(part) for part in parts]).numpy()


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _ROWS_PER_BLOCK):
        yield np.array(rows[start : start + _ROWS_PER_BLOCK])


def measure_zero_shot(
    encoder: Encoder,
    benchmark: Benchmark,
    encoded: Encoded,
    setting: Setting,
    protocols: Sequence[str] = PROTOCOLS,
    classifiers: Path | None = None,
) -> Measurement:
    """Measure encoded images with each protocol: the card's metric first, then accuracy, top-5 and mean per class.

    The suite, `diptych evaluate` and evaluation during training all take their zero-shot numbers from here.

    Args:
        encoder: the encoder that made the embeddings; it encodes the prompts.
        benchmark: the split that was encoded.
        encoded: its embeddings.
        setting: states where to write Predictions.
        protocols: some of PROTOCOLS.
        classifiers: folder of cached classifiers; by default that of the setting.
    """
    metric = benchmark.card.metric if benchmark.card else "accuracy"
    relevant = counted = None
    if "precision" in metric:
        relevant, counted = relevance(encoded.metadata, len(benchmark.class_names))
    settings = note_tested(benchmark, encoded, setting)
    if encoded.num_broken:
        settings["broken"] = encoded.num_broken
    if not is_paper_set(benchmark.name):  # for those, the paper states it
        settings["num_classes"] = len(benchmark.class_names)
    results: list[Result] = []
    paths: list[Path] = []
    writes = setting.predictions is not None and has_probabilities(encoder)
    for protocol, scores in protocol_scores(encoder, benchmark, encoded, protocols, classifiers or setting.classifiers):
        metrics = dict.fromkeys((metric, *([] if relevant is not None else _SIDE_METRICS)))
        for name in metrics:
            if name == "accuracy_top_5" and scores.shape[1] <= TOP_K:
                continue
            value = score(name, encoded.labels, scores, relevant=relevant, counted=counted, seed=setting.seed)
            results.append(
                make_result(
                    "zero_shot",
                    benchmark.name,
                    benchmark.split,
                    name,
                    value,
                    protocol=protocol,
                    encoder=encoder,
                    fingerprint=benchmark.fingerprint,
                    settings=settings,
                )
            )
        if setting.predictions is not None and writes:
            path = predictions_path(setting.predictions, encoder.name, benchmark.name, benchmark.split, protocol)
            write_predictions(predictions_of(encoded, scores, protocol), path)
            paths.append(path)
    return Measurement(results, tuple(paths))


def protocol_scores(
    encoder: Encoder, benchmark: Benchmark, encoded: Encoded, protocols: Sequence[str], cache_folder: Path | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each protocol with its class scores, float32 (N, C).

    "probability" is left out for a single template, where it equals "ensemble", and for encoders without a logit scale.
    """
    warn_of_codes(benchmark)
    made: dict[Words, np.ndarray] = {}  # the last scores: with one template, two protocols share them
    for protocol in protocols:
        chosen = words(benchmark, protocol)
        if protocol == "probability" and len(chosen.ensembles) == 1:
            continue
        if protocol == "probability" and about(encoder).logit_scale is None:
            _log.warning("%s states no logit_scale: probabilities of several prompts are not averaged", encoder.name)
            continue
        if chosen not in made:
            made = {chosen: class_scores(encoder, encoded.vectors, chosen, cache_folder=cache_folder)}
        yield protocol, made[chosen]


def predictions_of(encoded: Encoded, scores: np.ndarray, protocol: str) -> Predictions:
    """The best classes of each image according to the scores of one protocol."""
    # The logarithm of mean probabilities: its softmax gives them back.
    blocks = (np.log(block.clip(1e-38)) if protocol == "probability" else block for block in _blocks(scores))
    return top_predictions(encoded.keys, encoded.labels, blocks)


def _measure(encoder: Encoder, card: Card, setting: Setting) -> Measurement:
    benchmark = open_tested(card, setting)
    encoded = encode_set(encoder, benchmark, cache=setting.cache, num_workers=setting.num_workers)
    return measure_zero_shot(encoder, benchmark, encoded, setting)


def _applies(card: Card) -> bool:
    # Videos with frames may show several classes (`robustness` measures them); other metrics are about clips.
    one_class = not card.has_frames and not card.metric.startswith("mean_weighted")
    return card.num_classes > 0 and card.task in ("classification", "multi_label", "video") and one_class


ZERO_SHOT = Task(
    name="zero_shot",
    applies=_applies,
    splits=lambda card: ("test",),
    measure=_measure,
)
"""Source: CLIP paper, sections 3.1.2 to 3.1.4. Of a video, the middle frame is classified, as in table 11."""
