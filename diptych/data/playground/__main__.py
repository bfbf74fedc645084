"""Draw a contact sheet: python -m diptych.data.playground --out sheet.png"""

import argparse
from itertools import islice

from diptych.data.playground import KINDS, SPLITS, Playground, contact_sheet
from diptych.files import expanded
from diptych.records import Sample


def main() -> None:
    """Parse the command line and write the sheet."""
    parser = argparse.ArgumentParser(prog="python -m diptych.data.playground", description=__doc__)
    parser.add_argument("--out", required=True, help="picture file to write, such as sheet.png")
    parser.add_argument("--number", type=int, default=48, help="how many samples (%(default)s)")
    parser.add_argument("--columns", type=int, default=8, help="pictures per row (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="side of a picture in pixels (%(default)s)")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind; may be repeated")
    words = parser.parse_args()
    kinds = tuple(words.kind) if words.kind else None
    source = Playground(words.number, words.seed, words.size, words.split, kinds=kinds)
    samples: list[Sample] = list(islice((s for i in range(len(source.shards)) for s in source.read(i)), words.number))
    contact_sheet(samples, words.columns, scale=max(1, 128 // words.size)).save(expanded(words.out))
    print(f"{len(samples)} samples -> {words.out}")


if __name__ == "__main__":
    main()
