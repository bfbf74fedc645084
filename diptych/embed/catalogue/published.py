"""All models of the catalogue, one row each."""

from diptych.embed.catalogue import (
    apple_models,
    clipa_models,
    datacomp_models,
    laion_models,
    metaclip_models,
    openai_models,
    perception_models,
    siglip_models,
    tinyclip_models,
)
from diptych.embed.catalogue.catalogue_model import CatalogueModel

MODELS: tuple[CatalogueModel, ...] = (
    *openai_models.MODELS,
    *laion_models.MODELS,
    *datacomp_models.MODELS,
    *metaclip_models.MODELS,
    *apple_models.MODELS,
    *clipa_models.MODELS,
    *siglip_models.MODELS,
    *perception_models.MODELS,
    *tinyclip_models.MODELS,
)
