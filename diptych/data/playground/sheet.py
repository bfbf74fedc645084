"""A contact sheet: a grid of images with their captions below."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diptych.errors import InputError
from diptych.records import Sample

MARGIN = 12
LINE = 15
FONT_SIZE = 12
MAX_LINES = 4
PAPER, INK = (250, 250, 248), (52, 54, 60)


def contact_sheet(samples: Iterable[Sample], columns: int = 6, scale: int = 2) -> Image.Image:
    """Draw samples as a grid of images, enlarged `scale` times, with the first caption below each.

    Args:
        samples: at least one sample; the images are pixels, uint8 (height, width, 3), all of one size.
        columns: images per row.
        scale: integer enlargement factor.
    Raises:
        InputError: there are no samples, or one has an encoded image.
    """
    samples = list(samples)
    pixels = [sample.image for sample in samples if isinstance(sample.image, np.ndarray)]
    if not samples or len(pixels) != len(samples):
        raise InputError("contact_sheet: give at least one sample, each with pixels, not an encoded file, as its image")
    height, width = (side * scale for side in pixels[0].shape[:2])
    cell_width, cell_height = width + MARGIN, height + MAX_LINES * LINE + MARGIN
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * cell_width + MARGIN, rows * cell_height + MARGIN), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=FONT_SIZE)
    for number, (sample, image) in enumerate(zip(samples, pixels, strict=True)):
        x, y = MARGIN + number % columns * cell_width, MARGIN + number // columns * cell_height
        sheet.paste(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST), (x, y))
        caption = sample.texts[0] if sample.texts else ""
        for line, words in enumerate(_wrap(caption, font, width)):
            draw.text((x, y + height + 3 + line * LINE), words, fill=INK, font=font)
    return sheet


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines[:MAX_LINES]
