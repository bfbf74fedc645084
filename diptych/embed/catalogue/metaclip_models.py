"""Meta's MetaCLIP (English) and MetaCLIP 2 (worldwide): no commercial use."""

from diptych.embed.catalogue.architectures import hub_models
from diptych.embed.catalogue.catalogue_model import CC_BY_NC, Family

METACLIP = Family(name="MetaCLIP", license=CC_BY_NC, runs="native")
METACLIP_2 = Family(name="MetaCLIP 2", license=CC_BY_NC, runs="open_clip", languages="300 and more")

MODELS = (
    *hub_models(
        METACLIP,
        (
            ("ViT-B-32/metaclip_400m", "timm/vit_base_patch32_clip_224.metaclip_400m", 0.6558, 0.5387),
            ("ViT-B-32/metaclip_fullcc", "timm/vit_base_patch32_clip_224.metaclip_2pt5b", 0.6766, 0.5577),
            ("ViT-B-16/metaclip_400m", "timm/vit_base_patch16_clip_224.metaclip_400m", 0.708, 0.5785),
            ("ViT-B-16/metaclip_fullcc", "timm/vit_base_patch16_clip_224.metaclip_2pt5b", 0.7212, 0.6041),
            ("ViT-L-14/metaclip_400m", "timm/vit_large_patch14_clip_224.metaclip_400m", 0.762, 0.6252),
            ("ViT-L-14/metaclip_fullcc", "timm/vit_large_patch14_clip_224.metaclip_2pt5b", 0.7917, 0.6592),
            ("ViT-H-14/metaclip_fullcc", "timm/vit_huge_patch14_clip_224.metaclip_2pt5b", 0.8051, 0.6671),
            ("ViT-H-14/metaclip_altogether", "timm/vit_huge_patch14_clip_224.metaclip_altogether", None, None),
            ("ViT-bigG-14/metaclip_fullcc", "timm/vit_gigantic_patch14_clip_224.metaclip_2pt5b", None, None),
        ),
    ),
    *hub_models(
        METACLIP_2,
        (
            (
                "ViT-H-14-worldwide/metaclip2_worldwide",
                "timm/vit_huge_patch14_clip_224.metaclip2_worldwide",
                None,
                None,
            ),
            (
                "ViT-H-14-worldwide-378/metaclip2_worldwide",
                "timm/vit_huge_patch14_clip_378.metaclip2_worldwide",
                None,
                None,
            ),
            (
                "ViT-bigG-14-worldwide/metaclip2_worldwide",
                "timm/vit_gigantic_patch14_clip_224.metaclip2_worldwide",
                None,
                None,
            ),
            (
                "ViT-bigG-14-worldwide-378/metaclip2_worldwide",
                "timm/vit_gigantic_patch14_clip_378.metaclip2_worldwide",
                None,
                None,
            ),
        ),
    ),
)
