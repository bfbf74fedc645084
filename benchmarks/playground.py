"""How many captioned pictures per second one core generates, against a straightforward Pillow generator.

    python benchmarks/playground.py --peer pillow --json

The peer draws the same kinds of scene with ImageDraw at four times the size, reduces them, and writes one caption each.
Both sides make pictures and captions, single-threaded; Diptych's masks are warm, the time to warm them is reported too.
"""

import math
import random
import time

import common
from PIL import Image, ImageDraw, ImageFont

from diptych.data.playground import Playground, make_sample
from diptych.data.playground.masks import digit_indices, digits
from diptych.data.playground.scene_vocabulary import (
    BACKGROUNDS,
    COLOURS,
    KIND_WEIGHTS,
    KINDS,
    NUMBERS,
    PATTERNS,
    SEEN_PAIRS,
    TEXTURES,
    WORDS,
)

SCALE = 4
FONTS = {size: ImageFont.load_default(size=size * SCALE) for size in (18, 20, 22)}


def pillow_sample(rng: random.Random, size: int) -> tuple[Image.Image, str]:
    """Draw one scene with Pillow alone, supersampled, and caption it."""
    side = size * SCALE
    hue, _, ground = rng.choice(BACKGROUNDS)
    picture = draw_ground(rng, ground, side)
    kind = rng.choices(KINDS, KIND_WEIGHTS)[0]
    (colour, shape), (colour2, shape2) = rng.choice(SEEN_PAIRS), rng.choice(SEEN_PAIRS)
    caption = f"a {colour} {shape} on a {hue} background"
    if kind == "single":
        radius = rng.uniform(0.11, 0.28) * side
        draw_shape(rng, picture, colour, shape, rng.uniform(0.3, 0.7) * side, rng.uniform(0.3, 0.7) * side, radius)
    elif kind == "count":
        cells = rng.sample(range(9), rng.randint(1, 5))
        for cell in cells:
            x, y = (cell % 3 + 0.5) / 3 * side, (cell // 3 + 0.5) / 3 * side
            draw_shape(rng, picture, colour, shape, x, y, 0.12 * side)
        caption = f"{NUMBERS[len(cells)]} {colour} {shape}s"
    elif kind == "relation":
        draw_shape(rng, picture, colour, shape, 0.25 * side, rng.uniform(0.3, 0.7) * side, 0.16 * side)
        draw_shape(rng, picture, colour2, shape2, 0.75 * side, rng.uniform(0.3, 0.7) * side, 0.16 * side)
        caption = f"a {colour} {shape} left of a {colour2} {shape2}"
    elif kind == "word":
        word = rng.choice(WORDS)
        place = (side / 2, rng.uniform(0.25, 0.75) * side)
        ImageDraw.Draw(picture).text(place, word, COLOURS[colour], FONTS[rng.choice((18, 20, 22))], anchor="mm")
        caption = f"the word {word}"
    else:
        index = rng.choice(digit_indices("train"))
        extent = rng.choice((36, 42, 48)) * SCALE
        ink = Image.fromarray((digits()[0][index] * 15.9).astype("uint8")).resize(
            (extent, extent), Image.Resampling.BICUBIC
        )
        picture.paste(COLOURS[colour], (rng.randint(0, side - extent), rng.randint(0, side - extent)), ink)
        caption = f"a handwritten {NUMBERS[digits()[1][index]]}"
    return picture.reduce(SCALE), caption


def draw_ground(rng: random.Random, ground: tuple[int, int, int], side: int) -> Image.Image:
    """A plain, shaded, noisy or ruled background."""
    pattern = rng.choice(("plain", *PATTERNS))
    picture = Image.new("RGB", (side, side), ground)
    lighter = tuple(min(value + 25, 255) for value in ground)
    if pattern == "gradient":
        picture.paste(lighter, (0, 0), Image.linear_gradient("L").resize((side, side)))
    elif pattern == "noise":
        picture.paste(lighter, (0, 0), Image.effect_noise((side, side), 60))
    elif pattern == "grid":
        draw = ImageDraw.Draw(picture)
        for at in range(0, side, side // 8):
            draw.line((at, 0, at, side), lighter, SCALE)
            draw.line((0, at, side, at), lighter, SCALE)
    return picture


def draw_shape(rng: random.Random, picture: Image.Image, colour: str, shape: str, x: float, y: float, r: float) -> None:
    """One shape, with a texture half of the time."""
    mask = Image.new("L", (int(2 * r) + 4, int(2 * r) + 4))
    draw, c, turn = ImageDraw.Draw(mask), r + 2, rng.uniform(-0.2, 0.2)
    if shape in ("circle", "ring", "moon"):
        draw.ellipse((c - r, c - r, c + r, c + r), fill=255)
        if shape != "circle":
            shift = 0.5 * r if shape == "moon" else 0
            draw.ellipse((c - 0.56 * r + shift, c - 0.56 * r, c + 0.56 * r + shift, c + 0.56 * r), fill=0)
    else:
        corners = {"square": 4, "triangle": 3, "star": 10, "cross": 12, "heart": 40}[shape]
        radii = [r * (0.45 if shape in ("star", "cross") and k % 2 else 1) for k in range(corners)]
        angles = [turn + 2 * math.pi * k / corners for k in range(corners)]
        draw.polygon([(c + q * math.sin(a), c - q * math.cos(a)) for q, a in zip(radii, angles, strict=True)], fill=255)
    box = (int(x - c), int(y - c))
    picture.paste(COLOURS[colour], box, mask)
    if rng.choice(TEXTURES) != "solid":
        stripes = Image.new("L", mask.size)
        pen = ImageDraw.Draw(stripes)
        for at in range(0, 2 * mask.width, 5 * SCALE):
            pen.line((at, 0, at - mask.width, mask.width), 255, 2 * SCALE)
        picture.paste((255, 255, 255), box, Image.composite(stripes, Image.new("L", mask.size), mask))


def main() -> None:
    """Measure both sides in turn and report."""
    parser = common.parser(__doc__, peers=["pillow"])
    parser.add_argument("--number", type=int, default=4000, help="pictures per measurement (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures in pixels (%(default)s)")
    arguments = parser.parse_args()
    number, size = arguments.number, arguments.size
    digits()  # both sides read them from scikit-learn
    start = time.process_time()
    ours_once(20_000, size)
    cold_cpu_seconds = time.process_time() - start
    seconds, peer_seconds = common.time_alternately(
        lambda: ours_once(number, size), lambda: pillow_once(number // 4, size), repeats=arguments.repeats
    )
    common.report(
        arguments,
        benchmark="playground",
        unit="pictures/s",
        ours=number / seconds,
        peer=(number // 4) / peer_seconds,
        size=size,
        captions_per_picture=sum(len(make_sample(0, "train", index).texts) for index in range(1000)) / 1000,
        first_20000_cpu_seconds=cold_cpu_seconds,
    )


def ours_once(number: int, size: int) -> None:
    """Generate so many pictures with their captions."""
    for _ in Playground(number, seed=1, size=size, shard_size=number).read(0):
        pass


def pillow_once(number: int, size: int) -> None:
    """Generate so many pictures with their captions through Pillow."""
    rng = random.Random(1)
    for _ in range(number):
        pillow_sample(rng, size)


if __name__ == "__main__":
    main()
