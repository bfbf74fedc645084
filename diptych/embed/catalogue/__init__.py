"""The catalogue of published CLIP models. It needs neither torch nor a network."""

from diptych.embed.catalogue.catalogue_model import CatalogueModel, Family, License
from diptych.embed.catalogue.choosing import Advice, advise, choose, parse_size
from diptych.embed.catalogue.lookup import HUB, Reference, find, is_repository, nearest
from diptych.embed.catalogue.published import MODELS

__all__ = [
    "HUB",
    "MODELS",
    "Advice",
    "CatalogueModel",
    "Family",
    "License",
    "Reference",
    "advise",
    "choose",
    "find",
    "is_repository",
    "nearest",
    "parse_size",
]
