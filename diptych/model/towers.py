"""The tables of towers: a new kind is one file (diptych.model.tower describes it) and one row here."""

from diptych.model.antialiased_resnet_config import ANTIALIASED_RESNET
from diptych.model.compact_resnet_config import COMPACT_RESNET
from diptych.model.modified_resnet_config import RESNET
from diptych.model.siglip_vit_config import SIGLIP_VIT
from diptych.model.text_config import BAG_OF_WORDS, CAPTION_DECODER, IMAGES_ONLY, TRANSFORMER, WORD_PREDICTION
from diptych.model.tower import TextSide, Tower
from diptych.model.vision_transformer_config import VIT

TOWERS: dict[str, Tower] = {row.kind: row for row in (VIT, RESNET, COMPACT_RESNET, ANTIALIASED_RESNET, SIGLIP_VIT)}
"""Image towers, by their names in config.json."""

TEXT_SIDES: dict[str, TextSide] = {
    row.kind: row for row in (TRANSFORMER, BAG_OF_WORDS, WORD_PREDICTION, CAPTION_DECODER, IMAGES_ONLY)
}
"""Text sides, by their names in config.json; the Transformer's name is omitted there."""


def tower_of(config: object) -> Tower:
    """The row of an image tower's config.

    Raises:
        LookupError: it is not one.
    """
    for row in TOWERS.values():
        if isinstance(config, row.config):
            return row
    raise LookupError(f"{config!r} is not an image tower's config")


def text_side_of(config: object) -> TextSide:
    """The row of a text side's config.

    Raises:
        LookupError: it is not one.
    """
    for row in TEXT_SIDES.values():
        if isinstance(config, row.config):
            return row
    raise LookupError(f"{config!r} is not a text side's config")
