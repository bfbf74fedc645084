"""CLIPA: trained with fewer tokens, by UC Santa Cruz."""

from diptych.embed.catalogue.architectures import hub_models
from diptych.embed.catalogue.catalogue_model import APACHE, Family

CLIPA = Family(name="CLIPA", license=APACHE, runs="native")

MODELS = (
    *hub_models(
        CLIPA,
        (
            ("ViT-L-14-CLIPA/datacomp1b", "UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B", 0.7957, 0.6536),
            ("ViT-L-14-CLIPA-336/datacomp1b", "UCSC-VLAA/ViT-L-14-CLIPA-336-datacomp1B", 0.8026, 0.657),
            ("ViT-H-14-CLIPA/datacomp1b", "UCSC-VLAA/ViT-H-14-CLIPA-datacomp1B", 0.8152, 0.6653),
            ("ViT-H-14-CLIPA-336/laion2b", "UCSC-VLAA/ViT-H-14-CLIPA-336-laion2B", 0.791, 0.6439),
            ("ViT-H-14-CLIPA-336/datacomp1b", "UCSC-VLAA/ViT-H-14-CLIPA-336-datacomp1B", 0.818, 0.6677),
            ("ViT-bigG-14-CLIPA/datacomp1b", "UCSC-VLAA/ViT-bigG-14-CLIPA-datacomp1B", 0.827, 0.6822),
            ("ViT-bigG-14-CLIPA-336/datacomp1b", "UCSC-VLAA/ViT-bigG-14-CLIPA-336-datacomp1B", 0.8309, 0.6842),
        ),
    ),
)
