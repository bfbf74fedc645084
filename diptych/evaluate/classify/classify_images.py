"""Classify image files, a batch at a time."""

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import ImageError
from diptych.evaluate.classify.classified import Classified, print_classified
from diptych.evaluate.classify.open_scorer import scorer_of
from diptych.evaluate.classify.question import Question, find_images
from diptych.evaluate.classify.scorer import Scorer, best_classes
from diptych.progress import progress_bar

if TYPE_CHECKING:
    from diptych.evaluate.classify.label_file import LabelFile

logger = logging.getLogger(__name__)

_FIRST_BATCH, _PICTURES_PER_BATCH = 16, 64  # a small first batch, so results appear early
_MAX_NAMED = 50


def classify_pictures(
    encoder: Any,
    pictures: Sequence[str | Path],
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
    *,
    top_k: int = 5,
) -> list[Classified]:
    """Classify image files. For a broken file the row holds the error; the other files are still classified.

    Args:
        encoder: the model, an Encoder.
        pictures: image files, and folders, which are searched for images recursively.
        labels: C >= 2 different class names.
        templates: texts with {c} for the class name; None for "a photo of a {c}.".
        top_k: classes per image, at least 1; all classes if there are fewer.
    Returns:
        One row per file, in the given order; the files of a folder are sorted.
    Raises:
        InputError: no image is found, or labels, templates or top_k cannot be used.
    """
    question = Question(tuple(labels), tuple(templates or ()), top_k)
    return list(
        itertools.chain.from_iterable(classify_batches(scorer_of(encoder, question), find_images(pictures), question))
    )


def classify_batches(scorer: Scorer, paths: Sequence[str], question: Question) -> Iterator[list[Classified]]:
    """Yield the rows of image files in order, a batch at a time; only one batch is in memory."""
    for batch in _in_batches(paths):
        yield _classify(scorer, batch, question)


def _in_batches(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    ends = [0, *range(min(_FIRST_BATCH, _PICTURES_PER_BATCH), len(paths), _PICTURES_PER_BATCH), len(paths)]
    return (paths[start:end] for start, end in itertools.pairwise(ends))


def classify_to_stdout(
    scorer: Scorer, paths: Sequence[str], question: Question, *, as_json: bool = False
) -> Iterator[list[Classified]]:
    """Print the rows of each batch as soon as they are ready, and yield them."""
    batches = classify_batches(scorer, paths, question)
    for rows in progress_bar(batches, "images", len(paths), len, beside_rows=True):
        print_classified(rows, as_json=as_json)
        yield rows


def classify_to_file(scorer: Scorer, paths: Sequence[str], file: "LabelFile") -> Iterator[list[Classified]]:
    """Append rows for the images that the file lacks, and yield them; broken images are logged.

    A row is made again if its image has changed since, or was broken and can be read now.

    Raises:
        DataError: another model wrote the file, or it cannot be written.
    """
    num_named = 0
    with file.writing(scorer.identity, paths) as missing:
        if len(missing) < len(paths):
            logger.info("%s has %d of %d images already", file.path, len(paths) - len(missing), len(paths))
        if not missing:
            return
        # Record the content marks before classifying: if an image changes in between, the next run notices.
        origin_batches = map(file.origins, _in_batches(missing))
        batches = zip(origin_batches, classify_batches(scorer, missing, file.question), strict=True)
        for batch_origins, rows in progress_bar(batches, "images", len(missing), lambda batch: len(batch[1])):
            file.append(rows, batch_origins)
            yield rows
            for row in rows:
                if row.error is not None and (num_named := num_named + 1) <= _MAX_NAMED:
                    logger.warning("broken: %s: %s", row.path, row.error)


def _classify(scorer: Scorer, paths: Sequence[str], question: Question) -> list[Classified]:
    errors: dict[int, str] = {}

    def report(place: int, error: ImageError) -> None:
        errors[place] = str(error).removeprefix(f"{paths[place]}: ")

    embeddings = scorer.encode(paths, report)
    usable = [place for place in range(len(paths)) if place not in errors]
    rows = {place: Classified(Path(paths[place]), (), reason) for place, reason in errors.items()}
    if usable:
        cosines = scorer.cosines(embeddings[usable])
        probabilities = scorer.probabilities(cosines)
        for place, best, shares in zip(usable, best_classes(cosines, question.num_kept), probabilities, strict=True):
            classes = tuple((question.labels[index], float(shares[index])) for index in best)
            rows[place] = Classified(Path(paths[place]), classes)
    return [rows[place] for place in range(len(paths))]
