"""Compare a converted model, as its own library loads it, with the original, stage by stage."""

import dataclasses
from pathlib import Path

from diptych.convert.targets import Target
from diptych.embed.check.adapters import stages_of
from diptych.embed.check.check_images import check_images
from diptych.embed.check.check_texts import check_texts
from diptych.embed.check.known_differences import effective
from diptych.embed.check.live_check import LiveCheck
from diptych.embed.check.run_check import Check
from diptych.embed.check.tolerances import limits
from diptych.embed.encoder import Encoder
from diptych.embed.model import Model

_TRANSFORMERS = "shortest_floor"
_ROUNDINGS = {"shortest": "to the even side", _TRANSFORMERS: "down"}
_EFFECT = (
    "so an image whose long side is an odd number of pixels longer, after resizing, may be cropped one pixel beside"
)


def as_prepared_by(model: Model, target: Target) -> tuple[Model, str | None]:
    """The model with the rounding of the crop that the target's library has, and what changes by that; else None.

    Graphs take prepared images, so the model stays; but their README prepares images by transformers.
    """
    images = model.preprocessing
    crop = target.crop or _TRANSFORMERS
    if images.resize in ("squash", crop):
        return model, None
    library = target.title if target.crop is not None else "transformers, which the README prepares images by,"
    note = (
        f"{library} rounds half a pixel of the center crop {_ROUNDINGS[crop]}, {model.name} "
        f"{_ROUNDINGS[images.resize]}, {_EFFECT}"
    )
    if target.crop is None:
        return model, note
    return Model(model.clip, model.tokenizer, dataclasses.replace(images, resize=crop), model.name), note


def check_conversion(
    converted: Encoder, original: Model, target: Target, folder: Path, precision: str, notes: tuple[str, ...]
) -> Check:
    """Run 32 images and 64 texts through both.

    Args:
        converted: as the target's library loaded it.
        original: prepares images as the target does, see `as_prepared_by`.
        precision: of the stored weights; it sets the tolerance.
    """
    mine, theirs = stages_of(converted), stages_of(original)
    live = LiveCheck(mine, theirs, check_images(), check_texts(), limits(precision))
    traits = [trait for row in (*live.rows, *live.whole_path) for trait in row.explained]
    return Check(
        model=f"{folder.name} ({target.title}, {mine.made_by}, {precision})",
        reference=f"{original.name} ({theirs.made_by}, fp32)",
        precision=precision,
        rows=tuple(live.rows),
        whole_path=tuple(live.whole_path),
        known=effective({**mine.known, **theirs.known}, traits),
        notes=notes,
    )
