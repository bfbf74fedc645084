"""An encoder that knows every answer, and copies of the paper's sets whose images encode their class as colors."""

import functools
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.data.shards import write_shards
from diptych.evalsets.card import Card
from diptych.evalsets.imagenet_classes import shift_classes
from diptych.evalsets.prompts import get_prompts
from diptych.records import Sample

WIDTH = 64
IN_IMAGENET = ("ImageNet-A", "ImageNet-R", "ObjectNet", "ImageNet-Vid", "Youtube-BB")


def shown_by(card: Card, label: int) -> int:
    """The number that an image of a class encodes: ImageNet's class for ImageNet's shifts, else the card's class."""
    return min(shift_classes(card.name)[label]) if card.name in IN_IMAGENET else label


def picture(shown: int, copy: int = 0) -> bytes:
    """An image that encodes a number in red and green; no two images of a set are equal."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (shown // 256, shown % 256, copy)).save(stream, "PNG")
    return stream.getvalue()


def in_colour(pixels: np.ndarray) -> int:
    """The number that a `picture` encodes."""
    return 256 * int(pixels[0, 0, 0]) + int(pixels[0, 0, 1])


class Oracle:
    """One direction per encoded number; a text has the direction of the number that it names.

    Args:
        card: the card whose names and templates it understands; for ImageNet's shifts also ImageNet's.
        others: further names: name -> its meaning.
        read: maps an image's pixels to one or several encoded numbers.
        understand: maps a text to its meaning; replaces the card's names and templates.
    """

    name = "oracle"
    logit_scale = 100.0

    def __init__(
        self,
        card: Card,
        others: dict[str, int] | None = None,
        read: Callable[[np.ndarray], int | tuple[int, ...]] = in_colour,
        understand: Callable[[str], int] | None = None,
    ) -> None:
        table = torch.randn(2000, WIDTH, generator=torch.Generator().manual_seed(0))
        self.table = torch.nn.functional.normalize(table, dim=1)
        self.card, self.others, self.read = card, others or {}, read
        self.understand = understand or (lambda text: self.means[text])

    @functools.cached_property
    def means(self) -> dict[str, int]:
        """The meaning of each requested text."""
        words = get_prompts(self.card.prompts)
        named = {}
        if self.card.group == "shift":
            named = {name: index for index, (name,) in reversed([*enumerate(get_prompts("ImageNet").class_names)])}
        for label, several in reversed([*enumerate(words.class_names)]):
            named |= {name: shown_by(self.card, label) for name in several if self.card.prompts != "ImageNet"}
        named = named or {several[0]: label for label, several in reversed([*enumerate(words.class_names)])}
        named |= self.others
        templates = {"{c}", *words.templates, *get_prompts("ImageNet").templates[: 80 * (self.card.group == "shift")]}
        return {template.replace("{c}", name): shown for template in templates for name, shown in named.items()}

    def encode_images(self, pictures):
        shown = [self.read(np.asarray(decode_image(one))) for one in pictures]
        sums = [self.table[list(one) if isinstance(one, tuple) else [one]].sum(dim=0) for one in shown]
        return torch.nn.functional.normalize(torch.stack(sums), dim=1)

    def encode_texts(self, texts):
        return self.table[[self.understand(text) for text in texts]]


def write_parquet(path: Path, labels: list[int], names: list[str], pictures: list[bytes]) -> None:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array([{"bytes": one, "path": None} for one in pictures], struct)
    about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = pa.table({"image": column, "label": labels})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), path)


def write_copy(
    folder: Path,
    card: Card,
    labels: dict[str, list[int]],
    names: dict[int, str],
    order: list[int],
    form: str = "wds",
    paint: Callable[[int, int], bytes] = picture,
) -> None:
    """A copy of a set with its own class list.

    Args:
        labels: for each split, the card's classes of its images.
        names: the copy's names of the card's classes that it has.
        order: these classes in the copy's order.
        form: "wds", "parquet" or "folders".
        paint: maps an encoded number and the number of the copy to an image.
    """
    folder.mkdir(parents=True)
    for split, several in labels.items():
        pictures = [paint(shown_by(card, label), copy) for copy, label in enumerate(several)]
        own = [order.index(label) for label in several]
        if form == "folders":
            for label in order:
                (folder / split / names[label]).mkdir(parents=True)
            for copy, label in enumerate(several):
                (folder / split / names[label] / f"{copy}.png").write_bytes(pictures[copy])
        elif form == "parquet":
            write_parquet(folder / f"{split}.parquet", own, [names[label] for label in order], pictures)
        else:
            samples = [
                Sample(f"s{n}", *pair) for n, pair in enumerate(zip(pictures, [()] * len(own), own, strict=True))
            ]
            write_shards(samples, folder / split, shard_size=100)
    if form == "wds":
        (folder / "classnames.txt").write_text("\n".join(names[label] for label in order), "utf-8")
        (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
