"""From image files to rows, a batch at a time."""

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.embed.resolver import as_encoder
from diptych.errors import ImageError
from diptych.evaluate.classify.label_file import LabelFile
from diptych.evaluate.classify.question import Question, digest, find_images
from diptych.evaluate.classify.rows import Classified, print_classified
from diptych.evaluate.predictions import top_k_classes
from diptych.evaluate.zero_shot.class_embeddings import default_cache_folder
from diptych.evaluate.zero_shot.classifier import ZeroShotClassifier
from diptych.progress import progress_bar

logger = logging.getLogger(__name__)

_FIRST_BATCH, _PICTURES_PER_BATCH = 16, 64  # the first results show early
_MAX_NAMED = 50


def classify_pictures(
    encoder: Encoder,
    pictures: Sequence[str | Path],
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
    *,
    top_k: int = 5,
) -> list[Classified]:
    """Classify image files. A broken one says so in its row and does not stop the others.

    Args:
        encoder: the model.
        pictures: files, and folders that are searched for images with all their folders.
        labels: C >= 2 different class names.
        templates: with {c} in the place of the class name; None for "a photo of a {c}.".
        top_k: classes per image, at least 1; all of them where there are fewer.
    Returns:
        One row per file, in the order given, a folder's files sorted.
    Raises:
        InputError: no image is found, or labels, templates or top_k cannot be used.
    """
    question = Question(tuple(labels), tuple(templates or ()), top_k)
    return list(itertools.chain.from_iterable(classify_batches(encoder, find_images(pictures), question)))


def classify_batches(encoder: Encoder, paths: Sequence[str], question: Question) -> Iterator[list[Classified]]:
    """The rows of image files, a batch at a time, in their order; one batch of them is in memory."""
    encoder = as_encoder(encoder)
    classifier = ZeroShotClassifier(encoder, question.labels, question.templates, cache_folder=default_cache_folder())
    for batch in _in_batches(paths):
        yield _classify(encoder, classifier, batch, question.num_kept)


def _in_batches(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    ends = [0, *range(min(_FIRST_BATCH, _PICTURES_PER_BATCH), len(paths), _PICTURES_PER_BATCH), len(paths)]
    return (paths[start:end] for start, end in itertools.pairwise(ends))


def classify_to_stdout(
    encoder: Encoder, paths: Sequence[str], question: Question, *, as_json: bool = False
) -> Iterator[list[Classified]]:
    """Print each batch's rows as soon as they are there, and yield them."""
    batches = classify_batches(encoder, paths, question)
    for rows in progress_bar(batches, "pictures", len(paths), len, beside_rows=True):
        print_classified(rows, as_json=as_json)
        yield rows


def classify_to_file(encoder: Encoder, paths: Sequence[str], file: LabelFile) -> Iterator[list[Classified]]:
    """Append the rows of the images that the file does not have yet, and yield them; the log names broken ones.

    An image that has changed since its row was made has none any more, and so has one that was broken and can be read.

    Raises:
        DataError: the file is of another model, or cannot be written.
    """
    named = 0
    with file.writing(model_identity(encoder), paths) as missing:
        if len(missing) < len(paths):
            logger.info("%s has %d of %d pictures already", file.path, len(paths) - len(missing), len(paths))
        if not missing:
            return
        # What a file holds is asked before it is read: if it changes in between, the next run sees that.
        origins = map(file.origins, _in_batches(missing))
        batches = zip(origins, classify_batches(encoder, missing, file.question), strict=True)
        for whose, rows in progress_bar(batches, "pictures", len(missing), lambda batch: len(batch[1])):
            file.append(rows, whose)
            yield rows
            for row in rows:
                if row.error is not None and (named := named + 1) <= _MAX_NAMED:
                    logger.warning("broken: %s: %s", row.path, row.error)


def model_identity(encoder: Any) -> str:
    """Changes with the content of a model that has fingerprints, and with the name of one that has none."""
    known = about(encoder)
    halves = [known.image_fingerprint, known.text_fingerprint]
    return digest([*halves, known.logit_scale] if all(halves) else encoder.name)


def _classify(encoder: Any, classifier: ZeroShotClassifier, paths: Sequence[str], top_k: int) -> list[Classified]:
    errors: dict[int, str] = {}

    def report(place: int, error: ImageError) -> None:
        errors[place] = str(error).removeprefix(f"{paths[place]}: ")

    embeddings = encoder.encode_images(paths, on_error=report)
    sound = [place for place in range(len(paths)) if place not in errors]
    rows = {place: Classified(Path(paths[place]), (), reason) for place, reason in errors.items()}
    if sound:
        classes, scores = top_k_classes(classifier.scores_from_embeddings(embeddings[sound]), top_k)
        for place, names, shares in zip(sound, classifier.classes_[classes], scores, strict=True):
            best = tuple(zip(names.tolist(), shares.tolist(), strict=True))
            rows[place] = Classified(Path(paths[place]), best)
    return [rows[place] for place in range(len(paths))]
