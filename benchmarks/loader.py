"""Pairs per second out of the loader, against open_clip's webdataset pipeline on the same shards with as many workers.

    python benchmarks/loader.py --peer open_clip --json

Two sets: tiny-imagenet at 64 pixels (WebP, gzipped shards) and photographs of 500 x 375 pixels at 224 (JPEG; one small
shard, repeated). Both sides crop at random 0.9 to 1 of the area and resize, tokenise, batch, and end with normalised
floats: ours normalises in the consuming process, as in training. Each measurement starts a pipeline anew, takes batches
until the buffers have settled, and then times the next ones. Both shuffle in a buffer of 1,000 samples.
"""

import argparse
import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
import torch

sys.path.insert(0, str(common.ROOT / "tests"))
import peers  # noqa: F401  (before open_clip)

from diptych.data.loader import Loader, LoaderConfig
from diptych.data.shards import TarSource
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Augmentation, Preprocessing, normalise

SETS: dict[str, dict[str, Any]] = {
    "tiny-imagenet": {"shards": "tiny-imagenet/train/*.tar.gz", "repeated": 1, "image_size": 64, "pairs": 20_000},
    "photos": {"shards": "photos/*.tar.gz", "repeated": 64, "image_size": 224, "pairs": 1_536},
}
BATCH, WARM_UP = 128, 10
SHUFFLE_BUFFER = 1_000
RESCALE = (0.9, 1.0)


def our_batches(shards: list[Path], image_size: int, num_workers: int) -> Iterator[torch.Tensor]:
    """Normalised images of the batches of diptych's loader, endless."""
    preprocessing = Preprocessing(image_size)
    config = LoaderConfig(global_batch_size=BATCH, shuffle_buffer=SHUFFLE_BUFFER, num_workers=num_workers)
    source = TarSource(tuple(shards))
    loader = Loader(source, Tokenizer.openai(), preprocessing, config, Augmentation(rescale=RESCALE))
    with contextlib.closing(loader):
        for batch in loader:
            yield normalise(batch.images, preprocessing)


def peer_batches(shards: list[Path], image_size: int, num_workers: int) -> Iterator[torch.Tensor]:
    """Images of the batches of open_clip's training pipeline, for as long as it goes."""
    import open_clip
    from open_clip_train import data

    data._SAMPLE_SHUFFLE_SIZE = data._SAMPLE_SHUFFLE_INITIAL = SHUFFLE_BUFFER
    arguments = argparse.Namespace(
        train_data="::".join(str(path) for path in shards),
        train_num_samples=10_000_000,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=0,
        batch_size=BATCH,
        workers=num_workers,
        world_size=1,
    )
    preprocess = open_clip.image_transform(image_size, is_train=True)
    info = data.get_wds_dataset(arguments, preprocess, is_train=True, tokenizer=open_clip.get_tokenizer("ViT-B-32"))
    for images, _ in info.dataloader:
        yield images


def rate(make: Callable[..., Iterator[torch.Tensor]], shards: list[Path], entry: dict[str, Any], workers: int) -> float:
    """Pairs per second, once warm."""
    with contextlib.closing(make(shards, entry["image_size"], workers)) as batches:  # type: ignore[type-var]
        for images in itertools.islice(batches, WARM_UP):
            assert images.shape == (BATCH, 3, entry["image_size"], entry["image_size"])
        count = entry["pairs"] // BATCH
        seconds = common.time_once(lambda: [None for _ in itertools.islice(batches, count)])
    time.sleep(0.5)  # let its processes end before the other side starts
    return count * BATCH / seconds


def measure(name: str, workers: int, repeats: int) -> dict[str, float]:
    """Medians of both sides on one set, measured in turn."""
    entry = SETS[name]
    shards = sorted(common.SHARED_DATA.glob(entry["shards"])) * entry["repeated"]
    if not shards:
        sys.exit(f"no shards at {common.SHARED_DATA / entry['shards']}")
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    sides = [("ours", our_batches), ("peer", peer_batches)]
    for repeat in range(repeats):
        for side, make in sides if repeat % 2 == 0 else reversed(sides):
            rates[side].append(rate(make, shards, entry, workers))
            print(f"{name}, {side}: {rates[side][-1]:,.0f} pairs/s", flush=True)
    ours, peer = statistics.median(rates["ours"]), statistics.median(rates["peer"])
    return {"ours": ours, "peer": peer, "ratio": ours / peer}


def main() -> None:
    """Measure both sets; tiny-imagenet is the headline."""
    parser = common.parser(__doc__, peers=["open_clip"], repeats=3)
    parser.add_argument("--workers", type=int, default=1, help="processes that decode, on each side (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    photos = measure("photos", arguments.workers, arguments.repeats)
    tiny = measure("tiny-imagenet", arguments.workers, arguments.repeats)
    print(
        "photos at 224 pixels: diptych: {ours:,.0f} pairs/s, open_clip: {peer:,.0f}, ratio {ratio:.2f}".format(**photos)
    )
    common.report(
        arguments,
        benchmark="loader",
        unit="pairs/s",
        ours=tiny["ours"],
        peer=tiny["peer"],
        set="tiny-imagenet at 64 pixels",
        photos_at_224=photos,
        workers=arguments.workers,
    )


if __name__ == "__main__":
    main()
