"""Apple's DFN, MobileCLIP and MobileCLIP 2. Their licences restrict the use of the weights."""

from diptych.embed.catalogue.architectures import hub_models
from diptych.embed.catalogue.catalogue_model import APPLE_RESEARCH, APPLE_SAMPLE_CODE, Family

DFN = Family(name="DFN", license=APPLE_SAMPLE_CODE, runs="native")
MOBILECLIP = Family(
    name="MobileCLIP", license=APPLE_RESEARCH, runs="open_clip", source="the README of apple/ml-mobileclip"
)
MOBILECLIP_2 = Family(name="MobileCLIP 2", license=APPLE_RESEARCH, runs="open_clip", source="the MobileCLIP 2 paper")

MODELS = (
    *hub_models(
        DFN,
        (
            ("ViT-B-16/dfn2b", "apple/DFN2B-CLIP-ViT-B-16", 0.7624, 0.6092),
            ("ViT-L-14/dfn2b", "apple/DFN2B-CLIP-ViT-L-14", 0.8141, 0.6687),
            # The numbers of its model card.
            ("ViT-L-14/dfn2b_s39b", "apple/DFN2B-CLIP-ViT-L-14-39B", 0.8219, 0.6804),
            ("ViT-H-14/dfn5b", "apple/DFN5B-CLIP-ViT-H-14", 0.8344, 0.6961),
            ("ViT-H-14-378/dfn5b", "apple/DFN5B-CLIP-ViT-H-14-378", 0.8437, 0.7079),
        ),
    ),
    *hub_models(
        MOBILECLIP,
        (
            ("MobileCLIP-S1/datacompdr", "apple/MobileCLIP-S1-OpenCLIP", 0.726, 0.613),
            ("MobileCLIP-S2/datacompdr", "apple/MobileCLIP-S2-OpenCLIP", 0.744, 0.637),
            ("MobileCLIP-B/datacompdr", "apple/MobileCLIP-B-OpenCLIP", 0.768, 0.652),
            ("MobileCLIP-B/datacompdr_lt", "apple/MobileCLIP-B-LT-OpenCLIP", 0.772, 0.658),
        ),
    ),
    *hub_models(
        MOBILECLIP_2,
        (
            ("MobileCLIP2-B/dfndr2b", "timm/MobileCLIP2-B-OpenCLIP", 0.794, None),
            ("MobileCLIP2-S0/dfndr2b", "timm/MobileCLIP2-S0-OpenCLIP", None, None),
            ("MobileCLIP2-S2/dfndr2b", "timm/MobileCLIP2-S2-OpenCLIP", None, None),
            ("MobileCLIP2-S3/dfndr2b", "timm/MobileCLIP2-S3-OpenCLIP", None, None),
            ("MobileCLIP2-S4/dfndr2b", "timm/MobileCLIP2-S4-OpenCLIP", None, None),
            ("MobileCLIP2-L-14/dfndr2b", "timm/MobileCLIP2-L-14-OpenCLIP", None, None),
        ),
    ),
)
