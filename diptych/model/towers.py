"""The tables of towers: a new kind is one file (diptych.model.tower says of what) and one row here."""

from diptych.model.compact_resnet_config import COMPACT_RESNET
from diptych.model.modified_resnet_config import RESNET
from diptych.model.text_config import BAG_OF_WORDS, CAPTION_DECODER, TRANSFORMER, WORD_PREDICTION
from diptych.model.tower import TextSide, Tower
from diptych.model.vision_transformer_config import VIT

TOWERS: dict[str, Tower] = {row.kind: row for row in (VIT, RESNET, COMPACT_RESNET)}
"""Image towers, by their names in config.json."""

TEXT_SIDES: dict[str, TextSide] = {
    row.kind: row for row in (TRANSFORMER, BAG_OF_WORDS, WORD_PREDICTION, CAPTION_DECODER)
}
"""Text sides, by their names in config.json, where the Transformer's is left out."""


def tower_of(config: object) -> Tower:
    """The row of an image tower's config.

    Raises:
        LookupError: it is none.
    """
    for row in TOWERS.values():
        if isinstance(config, row.config):
            return row
    raise LookupError(f"{config!r} is no image tower's config")


def text_side_of(config: object) -> TextSide:
    """The row of a text side's config.

    Raises:
        LookupError: it is none.
    """
    for row in TEXT_SIDES.values():
        if isinstance(config, row.config):
            return row
    raise LookupError(f"{config!r} is no text side's config")
