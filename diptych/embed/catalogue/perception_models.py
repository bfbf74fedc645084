"""Meta's Perception Encoder, the models for images and texts (PE-Core)."""

from diptych.embed.catalogue.architectures import hub_models
from diptych.embed.catalogue.catalogue_model import APACHE, Family

PE_CORE = Family(
    name="PE-Core", license=APACHE, runs="open_clip", source="the README of facebookresearch/perception_models"
)

MODELS = (
    *hub_models(
        PE_CORE,
        (
            ("PE-Core-T-16-384/meta", "timm/PE-Core-T-16-384", 0.621, None),
            ("PE-Core-S-16-384/meta", "timm/PE-Core-S-16-384", 0.727, None),
            ("PE-Core-B-16/meta", "timm/PE-Core-B-16", 0.784, None),
            ("PE-Core-L-14-336/meta", "timm/PE-Core-L-14-336", 0.835, None),
            ("PE-Core-bigG-14-448/meta", "timm/PE-Core-bigG-14-448", 0.854, None),
        ),
    ),
)
