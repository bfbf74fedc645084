"""Microsoft's TinyCLIP, small ViTs distilled from larger models, in transformers' layout.

open_clip does not list them. Their accuracies and operations are compared with the model zoo of their README, their
names were not checked on the hub.
"""

from diptych.embed.catalogue.architectures import hub_models
from diptych.embed.catalogue.catalogue_model import MIT, Family

TINYCLIP = Family(name="TinyCLIP", license=MIT, runs="native", source="the README of TinyCLIP in microsoft/Cream")

MODELS = hub_models(
    TINYCLIP,
    (
        ("TinyCLIP-ViT-8M-16-Text-3M/yfcc15m", "wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M", 0.411, None),
        ("TinyCLIP-ViT-39M-16-Text-19M/yfcc15m", "wkcn/TinyCLIP-ViT-39M-16-Text-19M-YFCC15M", 0.635, None),
        ("TinyCLIP-ViT-40M-32-Text-19M/laion400m", "wkcn/TinyCLIP-ViT-40M-32-Text-19M-LAION400M", 0.598, None),
        ("TinyCLIP-ViT-61M-32-Text-29M/laion400m", "wkcn/TinyCLIP-ViT-61M-32-Text-29M-LAION400M", 0.624, None),
    ),
)
