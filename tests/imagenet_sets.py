"""Sets with ImageNet's classes and known answers, and the encoder that knows these answers."""

import dataclasses
import functools
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diptych.data.shards import write_shards
from diptych.evalsets.card import Card
from diptych.evalsets.cards import CARDS
from diptych.evalsets.prompts import get_prompts
from diptych.evaluate.zero_shot.class_prompts import fill_template
from diptych.records import Sample, protocol_in_words

DIM = 16
NAMES = get_prompts("ImageNet").class_names
FILLS = [functools.partial(fill_template, template) for template in get_prompts("ImageNet").templates]
IMAGENET = {fill(names[0]): row for row, names in enumerate(NAMES) for fill in FILLS}


class Known:
    """An encoder with one direction per ImageNet class; an image's red and green encode its class.

    Blue moves the image's vector toward the next class: above 128 the zero-shot answer is that class.
    """

    name = fingerprint = "known"
    logit_scale = 100.0

    def __init__(self, extra=()):
        table = torch.randn(1000 + len(extra), DIM, generator=torch.Generator().manual_seed(0))
        self.table = torch.nn.functional.normalize(table, dim=1)
        own = {fill(name): 1000 + place for place, (name, _) in enumerate(extra) for fill in FILLS}
        self.index = IMAGENET | own
        for row, (_, shown) in enumerate(extra, start=1000):  # such a name means exactly these ImageNet classes
            self.table[row] = torch.nn.functional.normalize(self.table[list(shown)].sum(0), dim=0)

    def encode_texts(self, texts):
        return self.table[[self.index[text] for text in texts]]

    def encode_images(self, pictures):
        colours = np.array([np.asarray(picture.convert("RGB"))[0, 0] for picture in pictures]).astype(int)
        index, lean = 256 * colours[:, 0] + colours[:, 1], torch.from_numpy(colours[:, 2] / 255).float()[:, None]
        mixed = (1 - lean) * self.table[index] + lean * self.table[(index + 1) % 1000]
        return torch.nn.functional.normalize(mixed, dim=1)


def shows(index: int, lean: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (index // 256, index % 256, lean)).save(stream, "PNG")
    return stream.getvalue()


def card(name: str, num_classes: int, task: str = "classification") -> Card:
    """A set's card without class names; the copy has its own."""
    return dataclasses.replace(
        CARDS[name], num_classes=num_classes, task=task, splits={}, metric="accuracy", prompts=None, folders=()
    )


def write_set(root: Path, name: str, samples: list[Sample], class_names) -> None:
    write_shards(samples, root / name / "test", shard_size=1000)
    (root / name / "classnames.txt").write_text("\n".join(class_names) + "\n")
    (root / name / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")


def measured(results):
    return {(one.dataset, protocol_in_words(one), one.metric): (one.value, one.n) for one in results}
