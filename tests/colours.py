"""A small real encoder that recognizes colors, and labeled sets of colored images for it."""

import dataclasses
import hashlib
import io
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.data.transforms import Preprocessing

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 200, 40),
    "blue": (40, 40, 220),
    "yellow": (220, 220, 40),
    "black": (10, 10, 10),
    "white": (245, 245, 245),
    "purple": (160, 40, 180),
}
NAMES = tuple(COLOURS)
TEMPLATES = ("a {c} picture", "something {c}", "{c}", "{c} paint on a wall")


def _unit(rows: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(np.asarray(rows, dtype=np.float32)), dim=1)


def _describe(rgb: np.ndarray) -> np.ndarray:
    """Mean colors (N, 3) in 0..255 to (N, 7): signed distance from gray, its square, and a constant."""
    centred = rgb / 127.5 - 1
    return np.concatenate([centred, centred**2, np.full((len(rgb), 1), 0.5)], axis=1)


class ColourEncoder:
    """Encodes an image as its mean color, and a text as the color that it names, with a small offset per text."""

    name = "colours/7"
    logit_scale = 20.0

    def __init__(self) -> None:
        self.texts_seen = 0
        self.pictures_seen = 0

    def encode_images(self, pictures: Sequence) -> torch.Tensor:
        self.pictures_seen += len(pictures)
        means = [np.asarray(decode_image(picture)).reshape(-1, 3).mean(axis=0) for picture in pictures]
        return _unit(_describe(np.array(means)))

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        self.texts_seen += len(texts)
        rows = []
        for text in texts:
            named = [_describe(np.array([COLOURS[word]]))[0] for word in re.findall(r"\w+", text) if word in COLOURS]
            digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:7], dtype=np.uint8)
            rows.append(sum(named, np.zeros(7)) + (digest / 127.5 - 1) * 0.6)
        return _unit(np.array(rows))


class PixelColourEncoder(ColourEncoder):
    """A ColourEncoder that also takes pixels that are already cropped and resized."""

    preprocessing = Preprocessing(image_size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def encode_pixels(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8 and images.shape[1:] == (3, 8, 8)
        self.pictures_seen += len(images)
        return _unit(_describe(images.float().mean(dim=(2, 3)).numpy()))


@dataclasses.dataclass
class FingerprintedEncoder(ColourEncoder):
    """A ColourEncoder with a fingerprint, so its classifiers may be cached on disk."""

    fingerprint: str = "colours-1"

    def __post_init__(self) -> None:
        super().__init__()


def picture(colour: str, seed: int, size: int = 24) -> Image.Image:
    """A noisy image of one color; some are hard to recognize."""
    rng = np.random.default_rng(seed)
    pixels = np.array(COLOURS[colour]) + rng.normal(0, 60, 3) + rng.normal(0, 30, (size, size, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_set(
    folder: Path,
    labels: Sequence[int],
    *,
    class_names: Sequence[str] = NAMES,
    templates: Sequence[str] = TEMPLATES,
    shard_size: int = 20,
    broken: Sequence[int] = (),
) -> Path:
    """Write a set in the clip-benchmark/wds layout, split test; the images at `broken` are truncated."""
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("\n".join(class_names) + "\n", encoding="utf-8")
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(templates) + "\n", encoding="utf-8")
    starts = range(0, len(labels), shard_size)
    (folder / "test" / "nshards.txt").write_text(str(len(starts)))
    for shard, start in enumerate(starts):
        with tarfile.open(folder / "test" / f"{shard}.tar", "w") as tar:
            for index in range(start, min(start + shard_size, len(labels))):
                image = encoded(picture(NAMES[labels[index] % len(NAMES)], seed=index))
                files = {
                    "png": image[: len(image) // 2] if index in broken else image,
                    "cls": str(labels[index]).encode(),
                }
                for extension, content in files.items():
                    member = tarfile.TarInfo(f"s{index:05d}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder
