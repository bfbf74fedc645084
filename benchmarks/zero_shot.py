"""Zero-shot evaluation on the CPU: classifiers out of prompts, and pictures through them, ours against open_clip's.

    python benchmarks/zero_shot.py --part prompts --json      # ImageNet's 80 templates, 100 of its classes
    python benchmarks/zero_shot.py --part pictures --json     # CIFAR-10's 10,000 test pictures

Both sides have the same random ViT-B/32 (QuickGELU). The peer runs as its documentation says: with
`build_zero_shot_classifier` and `open_clip_train.zero_shot.run`, context 77, autocast bf16 where the processor has it,
its own preprocessing in a DataLoader with as many workers as ours. Ours is what `diptych evaluate --precision auto`
does: weights cast once, prompts computed to their length. Decoding is included on both sides; they work in turn, on one
slice of the pictures after the other.

--part prompts also compares the two classifiers in fp32 (the least cosine of --compare classes).
"""

import argparse
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import common
import torch
from PIL import Image

from diptych.data.source import Source
from diptych.embed import Model, load
from diptych.evalsets import get_prompts
from diptych.evalsets.benchmark import Benchmark, open_benchmark
from diptych.evaluate.encoded_set import encode_set
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.zero_shot import measure_zero_shot
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.model.device import has_fast_bf16
from diptych.records import Sample

MODEL = "ViT-B-32-quickgelu"
BATCH = 64


def main() -> None:
    """Measure one part."""
    parser = common.parser(__doc__, peers=["open_clip"], repeats=5, alone=True)
    parser.add_argument("--part", choices=("prompts", "pictures"), default="pictures")
    parser.add_argument("--classes", type=int, default=100, help="of ImageNet's, evenly spread (%(default)s)")
    parser.add_argument("--compare", type=int, default=5, help="classes compared in fp32, which is slow (%(default)s)")
    parser.add_argument("--pictures", type=int, default=10_000, help="of CIFAR-10's test split (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode, on both sides (%(default)s)")
    arguments = parser.parse_args()
    peer, preprocess, tokenizer, folder = build_peer()
    (prompts if arguments.part == "prompts" else pictures)(arguments, peer, preprocess, tokenizer, folder)


def build_peer() -> tuple[Any, Any, Any, Path]:
    """open_clip's model with random weights, its preprocessing and tokenizer, and the weights in a file."""
    import sys

    sys.path.insert(0, str(common.ROOT / "tests"))
    import peers  # noqa: F401  (before open_clip)

    import open_clip  # isort: skip

    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(MODEL)
    path = Path(tempfile.mkdtemp()) / "peer.pt"
    torch.save(model.state_dict(), path)
    return model.eval(), preprocess, open_clip.get_tokenizer(MODEL), path


def autocast() -> Any:
    """The peer's precision: amp_bf16 where the processor computes in it, fp32 elsewhere."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16(torch.device("cpu")))


def prompts(arguments: argparse.Namespace, peer: Any, _: Any, tokenizer: Any, path: Path) -> None:
    """Classifiers of ImageNet's names and 80 templates."""
    import open_clip

    words = get_prompts("ImageNet")
    step = max(1, len(words.class_names) // arguments.classes)
    names = [several[0] for several in words.class_names][::step][: arguments.classes]
    functions = [lambda name, t=template: t.replace("{c}", name) for template in words.templates]
    ours = {precision: load(path, "cpu", precision) for precision in ("auto", "fp32")}

    def theirs(names: list[str]) -> torch.Tensor:
        return open_clip.build_zero_shot_classifier(peer, tokenizer, names, functions, 10).T

    few = names[:: max(1, len(names) // arguments.compare)][: arguments.compare]
    cosines = (class_embeddings(ours["fp32"], few, words.templates) * torch.nn.functional.normalize(theirs(few))).sum(1)

    def run_theirs() -> None:
        with autocast():
            theirs(names)

    seconds, peer_seconds = common.time_alternately(
        lambda: class_embeddings(ours["auto"], names, words.templates),
        None if arguments.peer == "none" else run_theirs,
        arguments.repeats,
    )
    count = len(names) * len(words.templates)
    common.report(
        arguments,
        benchmark="zero_shot prompts",
        unit="prompts/s",
        ours=count / seconds,
        peer=peer_seconds and count / peer_seconds,
        prompts=count,
        least_cosine_fp32=cosines.min().item(),
        classes_compared=len(few),
    )


class Slice(Source):
    """Encoded pictures in memory, as a source of ours."""

    shards, fingerprint = ("memory",), "memory"

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples

    def read(self, index: int) -> Iterator[Sample]:
        yield from self.samples


class PeerSlice(torch.utils.data.Dataset):
    """The same pictures, as the peer's DataLoader takes them."""

    def __init__(self, samples: list[Sample], preprocess: Any) -> None:
        self.samples, self.preprocess = samples, preprocess

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        sample = self.samples[index]
        return self.preprocess(Image.open(io.BytesIO(sample.image))), sample.label  # type: ignore[arg-type, return-value]


def top_k(output: torch.Tensor, target: torch.Tensor, topk: tuple[int, ...] = (1,)) -> list[float]:
    """How many targets are among the k best, for each k."""
    best = output.topk(max(topk), dim=1).indices == target[:, None]
    return [best[:, :k].sum().item() for k in topk]


def pictures(arguments: argparse.Namespace, peer: Any, preprocess: Any, tokenizer: Any, path: Path) -> None:
    """CIFAR-10's test pictures through a classifier of its 18 templates, which each side makes anew for each slice."""
    import open_clip
    from open_clip_train import zero_shot

    found = open_benchmark(common.SHARED_DATA / "cifar10")
    samples = [sample for sample in found.source.read(0) if isinstance(sample, Sample)][: arguments.pictures]
    size = -(-len(samples) // arguments.repeats)
    slices = [samples[start : start + size] for start in range(0, len(samples), size)]
    ours: Model = load(path, "cpu", "auto")
    functions = [lambda name, t=template: t.replace("{c}", name) for template in found.templates]
    zero_shot.accuracy = top_k  # its own makes a float of an array of one number, which numpy 2.4 refuses
    options = SimpleNamespace(
        device="cpu", precision="amp_bf16" if has_fast_bf16(torch.device("cpu")) else "fp32", batch_size=BATCH
    )
    turn = {"ours": iter(slices), "theirs": iter(slices)}
    accuracy: dict[str, list[float]] = {"ours": [], "theirs": []}

    def run_ours() -> None:
        part = Benchmark("cifar10", "test", found.class_names, found.templates, Slice(next(turn["ours"])), "memory")
        encoded = encode_set(ours, part, num_workers=arguments.workers)
        accuracy["ours"].append(measure_zero_shot(ours, part, encoded, Setting(Path()), ("ensemble",)).results[0].value)

    def run_theirs() -> None:
        data = PeerSlice(next(turn["theirs"]), preprocess)
        loader = torch.utils.data.DataLoader(data, BATCH, num_workers=arguments.workers)
        with autocast():
            classifier = open_clip.build_zero_shot_classifier(peer, tokenizer, found.class_names, functions, 10)
        accuracy["theirs"].append(zero_shot.run(peer, classifier, loader, options)[0])

    seconds, peer_seconds = common.time_alternately(
        run_ours, None if arguments.peer == "none" else run_theirs, len(slices)
    )
    common.report(
        arguments,
        benchmark="zero_shot pictures",
        unit="pictures/s",
        ours=size / seconds,
        peer=peer_seconds and size / peer_seconds,
        pictures=len(samples),
        accuracy=sum(accuracy["ours"]) / len(slices),
        peer_accuracy=sum(accuracy["theirs"]) / len(slices) if accuracy["theirs"] else None,
    )


if __name__ == "__main__":
    main()
