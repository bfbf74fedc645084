"""Evaluation sets that need no download: scikit-learn's handwritten digits, and the playground's tasks.

They are small and easy. Every task of the suite can be tried on them; they include training splits.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from diptych.data.playground.source import Playground
from diptych.data.shards import write_shards
from diptych.evalsets.benchmark import CLASS_NAMES_FILE, TEMPLATES_FILE, WHOLE_FILE, Benchmark
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.evalsets.prompts import get_prompts
from diptych.files import expanded, new_folder, writing
from diptych.records import Sample

logger = logging.getLogger(__name__)

Track = Callable[[Iterator[Sample], str], Iterator[Sample]]

_TEST_DIGITS = 500
_WHOLE = "The splits are complete even if they do not show every class: they are generated, not collected."


def _untracked(samples: Iterator[Sample], description: str) -> Iterator[Sample]:
    return samples


def write_embedded(
    root: str | Path, *, seed: int = 0, num_train: int = 2000, num_test: int = 1000, track: Track = _untracked
) -> list[Path]:
    """Write root/digits and root/playground-TASK, in the clip-benchmark/wds layout, and root/playground-captions.

    playground-captions holds pairs for retrieval. A set that exists already is kept. The digits are scikit-learn's
    1,797 optical digits of 8 x 8 pixels, 500 of them for test. The playground's training images come from its
    validation stream, so their scenes and handwritten digits differ from those of the test split.

    Args:
        root: the folder of evaluation sets.
        seed: of the split of the digits, and of the generated images.
        num_train, num_test: number of images of each playground task.
        track: passes samples through and shows progress, as progress_bar does.
    Returns:
        The folders.
    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    root = expanded(root)
    templates = [template.replace("number", "digit") for template in get_prompts("MNIST").templates]
    sets: dict[str, tuple[Sequence[str], Sequence[str], dict[str, Iterator[Sample]], bool]] = {
        "digits": ([str(digit) for digit in range(10)], templates, _digits(seed), False)
    }
    train = {task.name: task for task in playground_tasks(seed, num_samples=num_train, split="validation")}
    for test in playground_tasks(seed, num_samples=num_test):
        parts = {"train": _all(train[test.name]), "test": _all(test)}
        sets[f"playground-{test.name}"] = (test.class_names, test.templates, parts, test.whole)
    sets["playground-captions"] = ((), (), {"test": _captioned(seed, num_test // 2)}, False)
    return [_write(root / name, *content, track) for name, content in sets.items()]


def _captioned(seed: int, count: int) -> Iterator[Sample]:
    """Scenes of the playground's test split with unique captions."""
    seen: set[str] = set()
    source = Playground(10 * count, seed, split="test")
    for index in range(len(source.shards)):
        for sample in source.read(index):
            if len(seen) < count and isinstance(sample, Sample) and sample.texts[0] not in seen:
                seen.add(sample.texts[0])
                yield sample


def _digits(seed: int) -> dict[str, Iterator[Sample]]:
    from sklearn.datasets import load_digits  # imported here: it takes a second to load

    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    pixels = np.clip(digits.images * (255 / 16), 0, 255).astype(np.uint8)

    def samples(rows: np.ndarray) -> Iterator[Sample]:
        for row in rows.tolist():
            yield Sample(f"{row:04d}", np.repeat(pixels[row][:, :, None], 3, axis=2), (), int(digits.target[row]))

    return {"train": samples(np.sort(order[_TEST_DIGITS:])), "test": samples(np.sort(order[:_TEST_DIGITS]))}


def _all(benchmark: Benchmark) -> Iterator[Sample]:
    for index in range(len(benchmark.source.shards)):
        yield from (item for item in benchmark.source.read(index) if isinstance(item, Sample))


def _write(
    folder: Path,
    names: Sequence[str],
    templates: Sequence[str],
    parts: dict[str, Iterator[Sample]],
    whole: bool,
    track: Track,
) -> Path:
    if folder.exists():
        return folder
    logger.info("writing %s", folder)
    with writing(folder), new_folder(folder) as unfinished:
        for split, samples in parts.items():
            write_shards(track(samples, f"{folder.name}/{split} (images)"), unfinished / split)
        whole_lines = [_WHOLE] if whole else []
        for name, lines in ((CLASS_NAMES_FILE, names), (TEMPLATES_FILE, templates), (WHOLE_FILE, whole_lines)):
            if lines:
                (unfinished / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
