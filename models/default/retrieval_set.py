"""Write a small set for retrieval out of Tiny ImageNet's test pictures: one of each class, with five captions.

    python models/default/retrieval_set.py ../shared/data/tiny-imagenet --out runs/sets/tiny-imagenet-captions

The picture is the first of its class; the captions are the first five different ones that captions.py writes for the
class. They describe the class, not the picture: one picture a class keeps them apart.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from captions import all_captions

from diptych.data.shards import write_shards
from diptych.evalsets.benchmark import open_benchmark
from diptych.records import Sample

CAPTIONS = 5


def pairs(folder: Path) -> Iterator[Sample]:
    """The first test picture of each class, in the order of the set, with five captions and no label."""
    classes = (folder / "wnids.txt").read_text(encoding="utf-8").split()
    captions, seen = all_captions(folder), set()
    source = open_benchmark(folder, "test").source
    for shard in range(len(source.shards)):
        for sample in source.read(shard):
            if isinstance(sample, Sample) and sample.label not in seen and sample.label is not None:
                seen.add(sample.label)
                different = tuple(dict.fromkeys(captions[classes[sample.label]]))
                yield Sample(f"{sample.label:03d}", sample.image, different[:CAPTIONS])


def main() -> None:
    """Write the shards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="tiny-imagenet: synsets.jsonl, wnids.txt and test/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the set")
    arguments = parser.parse_args()
    write_shards(pairs(arguments.folder), arguments.out / "test")
    print(f"the set: {arguments.out}")


if __name__ == "__main__":
    main()
