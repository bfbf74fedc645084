"""Draw a contact sheet: python -m diptych.data.playground --out sheet.png"""

import argparse
from itertools import islice

from diptych.data.playground import KINDS, SPLITS, Playground, contact_sheet
from diptych.files import expanded
from diptych.records import Sample


def main() -> None:
    """Parse the command line and write the sheet."""
    parser = argparse.ArgumentParser(prog="python -m diptych.data.playground", description=__doc__)
    parser.add_argument("--out", required=True, help="image file to write, such as sheet.png")
    parser.add_argument("--number", type=int, default=48, help="how many samples (%(default)s)")
    parser.add_argument("--columns", type=int, default=8, help="images per row (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="side of an image in pixels (%(default)s)")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind; may be repeated")
    args = parser.parse_args()
    kinds = tuple(args.kind) if args.kind else None
    source = Playground(args.number, args.seed, args.size, args.split, kinds=kinds)
    samples: list[Sample] = list(islice((s for i in range(len(source.shards)) for s in source.read(i)), args.number))
    contact_sheet(samples, args.columns, scale=max(1, 128 // args.size)).save(expanded(args.out))
    print(f"{len(samples)} samples -> {args.out}")


if __name__ == "__main__":
    main()
