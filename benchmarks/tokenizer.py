"""Captions per second of the tokenizer against open_clip's Python tokenizer, in batches, with OpenAI's vocabulary.

    python benchmarks/tokenizer.py [--peer open_clip] [--json] [--shards FOLDER] [--batch-size 1024]

Both sides return zero-padded (N, 77) ids, which are compared first. Three measurements on the captions of tar shards:
natural   the captions as they come, after one pass over them: all words are in both sides' caches;
distinct  captions that neither side has seen, each once, after a pass over as many others: the headline;
cold      all captions that differ, each once, by tokenizers just made, whose caches are empty.
Without shards, captions are made of words and phrases.
"""

import importlib.util
import itertools
import random
import statistics
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import common
import torch

from diptych.data.tokenizer import Tokenizer

Encode = Callable[[list[str]], torch.Tensor]
Batches = list[list[str]]


def shard_captions(folder: Path) -> Iterator[str]:
    """The .txt members of tar shards, shard by shard."""
    for path in sorted(folder.glob("*.tar*")):
        with tarfile.open(path) as shard:
            for member in shard:
                if member.name.endswith(".txt") and (file := shard.extractfile(member)):
                    yield file.read().decode()


def made_captions() -> Iterator[str]:
    """Captions of phrases in random order, for machines without the shards."""
    phrases = [
        ["a photo of a", "the", "one", "a close-up of the", "a painting of a", "my", "this is a", "an image of a"],
        ["small", "large", "red", "old", "blurry", "bright", "wooden", "striped", "young", "plastic", "rusty", "wet"],
        ["cat", "dog", "house", "bridge", "volcano", "teapot", "bicycle", "lighthouse", "mushroom", "violin", "sandal"],
        ["on a beach", "in the kitchen", "at night", "beside a river", "under a tree", "in the snow", "on a table", ""],
    ]
    captions = [" ".join(parts) for parts in itertools.product(*phrases)]
    random.Random(0).shuffle(captions)
    yield from captions


def open_clip_module() -> Any:
    """The module of open_clip's tokenizer, without torchvision and timm, which the package would import."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise SystemExit("the peer is not installed: pip install --no-deps open_clip_torch, and regex")
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", Path(package.origin).with_name("tokenizer.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seconds_per_pass(
    makers: Sequence[Callable[[], Encode]], warm: Batches, timed: Batches, repeats: int
) -> list[float]:
    """Median seconds in which each side, newly made and warmed, encodes the timed batches; the sides take turns."""
    seconds: list[list[float]] = [[] for _ in makers]
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 else (1, 0):
            encode = makers[side]()
            for batch in warm:
                encode(batch)
            seconds[side].append(common.time_once(lambda encode=encode: [encode(batch) for batch in timed]))
    return [statistics.median(times) for times in seconds]


def main() -> None:
    parser = common.parser(__doc__, peers=["open_clip"])
    parser.add_argument("--shards", type=Path, default=common.SHARED_DATA / "tiny-imagenet" / "train")
    parser.add_argument("--captions", type=int, default=20_000, help="captions read (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=1024)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    peer = open_clip_module().SimpleTokenizer

    def ours() -> Encode:
        tokenizer = Tokenizer.openai()
        return lambda batch: tokenizer(batch, truncate=True, pad_to=77)[0]

    def batches(captions: list[str]) -> Batches:
        return [captions[i : i + arguments.batch_size] for i in range(0, len(captions), arguments.batch_size)]

    has_shards = any(arguments.shards.glob("*.tar*"))
    natural = list(
        itertools.islice(shard_captions(arguments.shards) if has_shards else made_captions(), arguments.captions)
    )
    distinct = list(dict.fromkeys(natural))
    half = len(distinct) // 2
    assert torch.equal(ours()(distinct).long(), peer()(distinct)), "the ids differ"
    plan = {"natural": (natural, natural), "distinct": (distinct[:half], distinct[half:]), "cold": ([], distinct)}
    figures = {}
    for name, (warm, timed) in plan.items():
        seconds = seconds_per_pass((ours, peer), batches(warm), batches(timed), arguments.repeats)
        rates = [len(timed) / spent for spent in seconds]
        figures[name] = {"captions": len(timed), "ours": rates[0], "peer": rates[1], "ratio": rates[0] / rates[1]}
        print(f"{name:9}{len(timed):7,} captions: {rates[0]:9,.0f}/s, {arguments.peer} {rates[1]:7,.0f}/s")
    common.report(
        arguments,
        benchmark="tokenizer",
        unit="captions/s",
        ours=figures["distinct"]["ours"],
        peer=figures["distinct"]["peer"],
        batch_size=arguments.batch_size,
        source="shards" if has_shards else "made captions",
        **figures,
    )


if __name__ == "__main__":
    main()
