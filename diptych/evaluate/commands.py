"""What `diptych evaluate` and `diptych classify` do, as plain functions."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from diptych.data.benchmarks import Benchmark, open_benchmark
from diptych.data.cards.prompts import DEFAULT_TEMPLATES
from diptych.data.decoding import decode_image
from diptych.data.image_files import PassedOver, walk_images
from diptych.embed.encoder import Encoder
from diptych.errors import ImageError, InputError
from diptych.evaluate.predictions import top_k_classes
from diptych.evaluate.progress import progress_bar
from diptych.evaluate.zero_shot.class_embeddings import default_cache_folder
from diptych.evaluate.zero_shot.classifier import ZeroShotClassifier
from diptych.evaluate.zero_shot.evaluator import ZeroShot
from diptych.records import Result, write_results

_PICTURES_PER_BATCH = 256


def evaluate_benchmarks(
    encoder: Encoder,
    benchmarks: Sequence[str | Path | Benchmark],
    out: str | Path | None = None,
    *,
    split: str = "test",
    num_workers: int = 0,
) -> list[Result]:
    """Measure zero-shot accuracy on evaluation sets.

    Args:
        encoder: the model.
        benchmarks: the sets, or their folders (clip-benchmark/wds layout, or a folder per class).
        out: append Results to this JSON-lines file, each set's as soon as it is measured, and write Predictions into
            the folder `predictions` beside it; None writes nothing.
        split: which part of the sets that are given as folders.
        num_workers: processes that decode pictures.
    Returns:
        The Results, set by set.
    Raises:
        InputError: no set is given, two have the same name and split, or one cannot be used.
    """
    sets = [found if isinstance(found, Benchmark) else open_benchmark(found, split) for found in benchmarks]
    if not sets:
        raise InputError("name at least one evaluation set")
    names = Counter(f"{benchmark.name}/{benchmark.split}" for benchmark in sets)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"two evaluation sets are called {twice[0]}; their results could not be told apart")
    results = []
    for benchmark in sets:
        evaluator = ZeroShot(
            benchmark,
            predictions_folder=Path(out).parent / "predictions" if out is not None else None,
            num_workers=num_workers,
            cache_folder=default_cache_folder(),
        )
        measured = evaluator(encoder)
        if out is not None:
            write_results(measured, out)
        results += measured
    return results


@dataclasses.dataclass(frozen=True, slots=True)
class Classified:
    """What `classify_pictures` says about one picture.

    Attributes:
        path: the file.
        classes: its best classes with their probabilities, best first; empty for a broken picture.
        error: why it could not be read; None for a good one.
    """

    path: Path
    classes: tuple[tuple[str, float], ...] = ()
    error: str | None = None


def classify_pictures(
    encoder: Encoder,
    pictures: Sequence[str | Path],
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
    *,
    top_k: int = 5,
) -> list[Classified]:
    """Classify picture files. A broken one says so in its row and does not stop the others.

    Args:
        encoder: the model.
        pictures: files, and folders that are searched for pictures with all their folders.
        labels: C >= 2 different class names.
        templates: with {c} in the place of the class name; None for "a photo of a {c}.".
        top_k: classes per picture, at least 1; all of them where there are fewer.
    Returns:
        One row per file, in the order given, a folder's files sorted.
    Raises:
        InputError: no picture is found, or labels, templates or top_k cannot be used.
    """
    if top_k < 1:
        raise InputError(f"top_k must be at least 1; got {top_k}")
    paths = list(dict.fromkeys(path for picture in pictures for path in _files(Path(picture))))
    if not paths:
        raise InputError(f"no pictures in {', '.join(map(str, pictures)) or 'an empty list'}")
    classifier = ZeroShotClassifier(
        encoder, labels, templates or DEFAULT_TEMPLATES, cache_folder=default_cache_folder()
    )
    starts = range(0, len(paths), _PICTURES_PER_BATCH)
    rows: list[Classified] = []
    for start in progress_bar(starts, "pictures (batches)", total=len(starts)):
        opened = [_open(path) for path in paths[start : start + _PICTURES_PER_BATCH]]
        good = [picture for picture in opened if isinstance(picture, Image.Image)]
        found = iter(_classify(classifier, encoder, good, top_k))
        for path, picture in zip(paths[start:], opened, strict=False):
            row = Classified(path, next(found)) if isinstance(picture, Image.Image) else Classified(path, (), picture)
            rows.append(row)
    return rows


def print_classified(rows: Sequence[Classified], *, as_json: bool = False) -> bool:
    """Print a line per picture on stdout: its path and best classes, or why it is broken.

    Args:
        rows: of `classify_pictures`.
        as_json: one object per line: {"path", "classes": [{"label", "probability"}], "error"}.
    Returns:
        True where no picture was broken.
    """
    for row in rows:
        if as_json:
            classes = [{"label": label, "probability": probability} for label, probability in row.classes]
            print(json.dumps({"path": str(row.path), "classes": classes, "error": row.error}))
            continue
        best = ", ".join(f"{label} {probability:.1%}" for label, probability in row.classes)
        # A file may be named with control characters, or with bytes that are no text.
        line = f"{row.path}: {best if row.error is None else f'error: {row.error}'}"
        print("".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line))
    return all(row.error is None for row in rows)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    passed_over = PassedOver()
    yield from sorted(path / name for name in walk_images(path, passed_over))
    passed_over.log(path)


def _open(path: Path) -> Image.Image | str:
    """The picture, or what is wrong with it."""
    if path.exists() and not path.is_file():
        return "it is no regular file"
    try:
        return decode_image(path)
    except ImageError as error:
        return str(error).removeprefix(f"{path}: ")


def _classify(
    classifier: ZeroShotClassifier, encoder: Encoder, pictures: list[Image.Image], top_k: int
) -> list[tuple[tuple[str, float], ...]]:
    if not pictures:
        return []
    logits = classifier.scores_from_embeddings(encoder.encode_images(pictures))
    classes, scores = top_k_classes(logits, min(top_k, logits.shape[1]))
    names = classifier.classes_[classes]
    return [tuple(zip(row.tolist(), share.tolist(), strict=True)) for row, share in zip(names, scores, strict=True)]
