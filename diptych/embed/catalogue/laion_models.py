"""Models that LAION trained with open_clip on LAION-400M, LAION-2B and LAION-5B, and open_clip's small ones.

Left out: CoCa, which are captioning models.
"""

from diptych.embed.catalogue.architectures import ARCHITECTURES, hub_models
from diptych.embed.catalogue.catalogue_model import MIT, CatalogueModel, Family

LAION_400M = Family(name="LAION-400M", license=MIT, runs="native")
LAION_2B = Family(name="LAION-2B", license=MIT, runs="native")
LAION_CONVNEXT = Family(name="LAION ConvNeXt", license=MIT, runs="open_clip")
LAION_ROBERTA = Family(name="LAION RoBERTa", license=MIT, runs="open_clip")
LAION_MULTILINGUAL = Family(
    name="LAION multilingual", license=MIT, runs="open_clip", languages="100 and more (XLM-RoBERTa)"
)
CONCEPTUAL = Family(name="CC12M and YFCC15M", license=MIT, runs="native")

MODELS = (
    *hub_models(
        LAION_400M,
        (
            ("ViT-B-32/laion400m_e31", "timm/vit_base_patch32_clip_224.laion400m_e31", 0.6294, 0.5263),
            ("ViT-B-32/laion400m_e32", "timm/vit_base_patch32_clip_224.laion400m_e32", 0.6293, 0.5272),
            ("ViT-B-16/laion400m_e31", "timm/vit_base_patch16_clip_224.laion400m_e31", 0.6698, 0.5617),
            ("ViT-B-16/laion400m_e32", "timm/vit_base_patch16_clip_224.laion400m_e32", 0.6705, 0.5621),
            ("ViT-B-16-plus-240/laion400m_e31", "timm/vit_base_patch16_plus_clip_240.laion400m_e31", 0.6904, 0.5713),
            ("ViT-L-14/laion400m_e31", "timm/vit_large_patch14_clip_224.laion400m_e31", 0.7271, 0.5964),
            ("ViT-L-14/laion400m_e32", "timm/vit_large_patch14_clip_224.laion400m_e32", 0.7277, 0.5971),
        ),
    ),
    # open_clip's table names the repository of epoch 31 for these weights too; their own file is on its release page.
    CatalogueModel(
        name="ViT-B-16-plus-240/laion400m_e32",
        family=LAION_400M,
        architecture=ARCHITECTURES["ViT-B-16-plus-240"],
        url="https://github.com/mlfoundations/open_clip/releases/download/v0.2-weights/vit_b_16_plus_240-laion400m_e32-699c4b84.pt",
        sha256="699c4b84",
        activation="gelu",
        files=("vit_b_16_plus_240-laion400m_e32-699c4b84.pt",),
        imagenet=0.6919,
        average_38=0.5724,
    ),
    *hub_models(
        LAION_2B,
        (
            ("ViT-B-32/laion2b_e16", "timm/vit_base_patch32_clip_224.laion2b_e16", 0.6565, 0.5483),
            ("ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", 0.6656, 0.5694),
            ("ViT-B-16/laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", 0.7023, 0.5866),
            ("ViT-L-14/laion2b_s32b_b82k", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", 0.7525, 0.6205),
            ("ViT-H-14/laion2b_s32b_b79k", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 0.7796, 0.6419),
            ("ViT-g-14/laion2b_s12b_b42k", "laion/CLIP-ViT-g-14-laion2B-s12B-b42K", 0.7663, 0.6299),
            ("ViT-g-14/laion2b_s34b_b88k", "laion/CLIP-ViT-g-14-laion2B-s34B-b88K", 0.7847, 0.6427),
            ("ViT-bigG-14/laion2b_s39b_b160k", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", 0.8009, 0.6667),
        ),
    ),
    *hub_models(
        LAION_CONVNEXT,
        (
            ("convnext_base/laion400m_s13b_b51k", "laion/CLIP-convnext_base-laion400M-s13B-b51K", 0.6627, 0.5576),
            ("convnext_base_w/laion2b_s13b_b82k", "laion/CLIP-convnext_base_w-laion2B-s13B-b82K", 0.7078, 0.5761),
            (
                "convnext_base_w/laion2b_s13b_b82k_augreg",
                "laion/CLIP-convnext_base_w-laion2B-s13B-b82K-augreg",
                0.7147,
                0.5835,
            ),
            (
                "convnext_base_w/laion_aesthetic_s13b_b82k",
                "laion/CLIP-convnext_base_w-laion_aesthetic-s13B-b82K",
                0.7099,
                0.5766,
            ),
            (
                "convnext_base_w_320/laion_aesthetic_s13b_b82k",
                "laion/CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K",
                0.7167,
                0.5665,
            ),
            (
                "convnext_base_w_320/laion_aesthetic_s13b_b82k_augreg",
                "laion/CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K-augreg",
                0.7128,
                0.5869,
            ),
            (
                "convnext_large_d/laion2b_s26b_b102k_augreg",
                "laion/CLIP-convnext_large_d.laion2B-s26B-b102K-augreg",
                0.7591,
                0.6294,
            ),
            (
                "convnext_large_d_320/laion2b_s29b_b131k_ft",
                "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft",
                0.766,
                0.6345,
            ),
            (
                "convnext_large_d_320/laion2b_s29b_b131k_ft_soup",
                "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
                0.7685,
                0.6387,
            ),
            (
                "convnext_xxlarge/laion2b_s34b_b82k_augreg",
                "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg",
                0.7907,
                0.6479,
            ),
            (
                "convnext_xxlarge/laion2b_s34b_b82k_augreg_rewind",
                "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-rewind",
                0.7931,
                0.6521,
            ),
            (
                "convnext_xxlarge/laion2b_s34b_b82k_augreg_soup",
                "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup",
                0.7947,
                0.653,
            ),
        ),
    ),
    *hub_models(
        LAION_ROBERTA,
        (("roberta-ViT-B-32/laion2b_s12b_b32k", "laion/CLIP-ViT-B-32-roberta-base-laion2B-s12B-b32k", 0.6171, 0.5411),),
    ),
    *hub_models(
        LAION_MULTILINGUAL,
        (
            (
                "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k",
                "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
                0.6236,
                0.5643,
            ),
            (
                "xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k",
                "laion/CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k",
                0.7695,
                0.6515,
            ),
        ),
    ),
    *hub_models(
        CONCEPTUAL,
        (
            ("RN50/yfcc15m", "timm/resnet50_clip.yfcc15m", 0.3275, 0.2776),
            ("RN50/cc12m", "timm/resnet50_clip.cc12m", 0.3647, 0.326),
            ("RN101/yfcc15m", "timm/resnet101_clip.yfcc15m", 0.3487, 0.2993),
        ),
    ),
)
