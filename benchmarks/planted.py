"""A planted case: two models, one of which has seen changed copies of evaluation images, and what the analysis finds.

    python benchmarks/planted.py --out runs/planted                       # two trainings and two analyses
    python benchmarks/planted.py --out runs/planted --exact-check --json  # the same again, with the exact check

Two evaluation sets are drawn from tiny-imagenet/test and cifar10/test. Every tenth image of each is copied, changed by
the rules of the copy augmentation at everyday strength, and mixed into tiny-imagenet/train with a caption: that of a
training image of its class, or "a cat" for CIFAR-10's cats. (No template of the zero-shot classifier: a model that
reads it with copies alone learns to expect copies behind it.) One model trains with the copies, one without; all else
is equal, but for the words of the vocabulary that the captions of copies add. `diptych overlap` then analyses both, and
its verdicts are compared with the truth. Finished steps are not repeated.
"""

import dataclasses
import io
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np

from diptych.data.copies import CopyAugmentation, copy_image
from diptych.data.decoding import decode_image
from diptych.data.open_source import open_source
from diptych.data.shards import write_shards
from diptych.evaluate.provenance import commit, machine
from diptych.overlap.duplicates_file import SetNearest
from diptych.overlap.find import OverlapConfig
from diptych.overlap.overlap_analysis import OverlapRun, run_overlap
from diptych.records import Sample

SETS = {"tiny-planted": "tiny-imagenet", "cifar-planted": "cifar10"}
EVERY = 10
COPIES = CopyAugmentation(least_area=0.6, margin=0.1, least_zoom=0.8, saturation=0.5, sides=(32, 128))
"""Changes of everyday strength: weaker than those that the detector was trained on."""


def main() -> None:
    parser = common.parser(__doc__, peers=())
    parser.add_argument("--out", type=Path, required=True, help="folder for data, models and reports")
    parser.add_argument("--data", type=Path, default=common.SHARED_DATA, help="holds tiny-imagenet and cifar10")
    parser.add_argument("--images", type=int, default=5000, help="images of each evaluation set (%(default)s)")
    parser.add_argument("--pairs", type=int, default=240_000, help="pairs that each model sees (%(default)s)")
    parser.add_argument("--threshold", type=float, default=0.9, help="of the detector's cosine (%(default)s)")
    parser.add_argument("--exact-check", action="store_true", help="decide by the exact check instead, at 0.3")
    parser.add_argument("--processes", type=int, default=2, help="that embed, search and check (%(default)s)")
    arguments = parser.parse_args()
    training = arguments.data / "tiny-imagenet" / "train"
    for name, origin in SETS.items():
        captions = captions_by_class(training) if origin == "tiny-imagenet" else {}
        write_set(arguments.out, name, arguments.data / origin, arguments.images, captions)
    figures = {}
    for case in ("with", "without"):
        data = [training, *(arguments.out / "copies" / name for name in SETS if case == "with")]
        model = train(data, arguments.out / f"model-{case}", arguments.pairs)
        figures[case] = in_figures(analyse(data, model, case, arguments), planted=case == "with")
    for case, rows in figures.items():
        for row in rows:
            print(case, json.dumps(row))
    if arguments.json:
        print(json.dumps({"benchmark": "planted", "cases": figures, "machine": machine(), "commit": commit()}))


def captions_by_class(training: Path) -> dict[int, list[str]]:
    """The captions of the first training images of each class."""
    captions: dict[int, list[str]] = {}
    for item in open_source(str(training)).read(0):
        if isinstance(item, Sample) and item.metadata:
            captions.setdefault(int(str(item.metadata["label"])), []).append(item.texts[0])
    return captions


def write_set(out: Path, name: str, origin: Path, count: int, captions: Mapping[int, Sequence[str]]) -> None:
    """The first images of a test split as an evaluation set, and changed copies of every tenth as training pairs."""
    folder, copies = out / name, out / "copies" / name
    if (copies / "0.tar").exists():
        return
    images = (item for item in open_source(str(origin / "test")).read(0) if isinstance(item, Sample))
    chosen = [
        dataclasses.replace(item, key=f"{place:05d}") for place, item in enumerate(itertools.islice(images, count))
    ]
    write_shards(chosen, folder / "test")
    for file in ("classnames.txt", "zeroshot_classification_templates.txt"):
        (folder / file).write_bytes((origin / file).read_bytes())
    classes = (folder / "classnames.txt").read_text().splitlines()
    known = [captions.get(label, [f"a {class_name}"]) for label, class_name in enumerate(classes)]
    write_shards(copied(chosen[::EVERY], known, name), copies)


def copied(samples: list[Sample], captions: Sequence[Sequence[str]], name: str) -> Iterator[Sample]:
    """Changed copies, each with a caption of its class; the key says of which image."""
    for sample in samples:
        seed = [len(name), int(sample.key)]
        stream = io.BytesIO()
        copy_image(decode_image(sample.image), COPIES, np.random.default_rng(seed)).save(stream, "JPEG", quality=85)
        of_class = captions[sample.label or 0]
        caption = of_class[int(sample.key) % len(of_class)]
        yield Sample(f"{name}-{sample.key}", stream.getvalue(), (caption,))


def train(data: list[Path], out: Path, pairs: int) -> Path:
    """The recipe compact-rn on the data; a stopped training goes on."""
    if not (out / "model").is_dir():
        command = [sys.executable, "-m", "diptych", "train", *map(str, data), "--recipe", "compact-rn"]
        resume = ["--resume"] if (out / "checkpoints").is_dir() else []
        subprocess.run([*command, "--pairs", str(pairs), "--out", str(out), *resume], check=True)
    return out / "model"


def analyse(data: list[Path], model: Path, case: str, arguments: Any) -> OverlapRun:
    """The overlap analysis of a model."""
    config = OverlapConfig(
        train=tuple(map(str, data)),
        sets=tuple(str(arguments.out / name) for name in SETS),
        out=str(arguments.out / f"overlap-{case}"),
        exact_check=arguments.exact_check,
        num_processes=arguments.processes,
    )
    return run_overlap(config, str(model), threshold=0.3 if arguments.exact_check else arguments.threshold)


def in_figures(run: OverlapRun, planted: bool) -> list[dict[str, Any]]:
    """By set: verdicts against the truth, and the accuracies."""
    nearest = {searched.nearest.dataset: searched.nearest for searched in run.found.sets}
    rows = []
    for one in run.measured:
        analysis, subsets = one.analysis, one.analysis.subsets
        rows.append(
            {
                "set": one.dataset,
                **against_truth(nearest[one.dataset], run.thresholds[one.dataset].value, planted),
                "all": subsets.accuracy_all,
                "overlap": subsets.accuracy_overlap,
                "clean": subsets.accuracy_clean,
                "all - clean": subsets.difference,
                "p": analysis.p,
                "p, Bonferroni": one.corrected.bonferroni if one.corrected else None,
            }
        )
    return rows


def against_truth(nearest: SetNearest, threshold: float, planted: bool) -> Mapping[str, Any]:
    """Flagged images, and precision and recall: right is a flagged image whose nearest image is its planted copy."""
    flagged = np.flatnonzero(nearest.overlaps(threshold)).tolist()
    own = [f"{nearest.dataset}-{key.split('/')[-1]}" for key in nearest.keys]
    right = sum(nearest.nearest_keys[row].split("/")[-1] == own[row] for row in flagged)
    number = len(range(0, len(nearest), EVERY)) if planted else 0
    return {
        "threshold": threshold,
        "flagged": len(flagged),
        "planted": number,
        "precision": right / len(flagged) if flagged else None,
        "recall": right / number if number else None,
    }


if __name__ == "__main__":
    main()
