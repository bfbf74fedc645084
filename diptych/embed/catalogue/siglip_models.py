"""Google's SigLIP and SigLIP 2, of fixed resolution: NaFlex models take images of any shape and are not supported."""

from diptych.embed.catalogue.architectures import hub_models
from diptych.embed.catalogue.catalogue_model import APACHE, Family

_WEBLI = "109 (WebLI)"
SIGLIP = Family(name="SigLIP", license=APACHE, runs="native")
SIGLIP_I18N = Family(name="SigLIP i18n", license=APACHE, runs="native", languages=_WEBLI)
SIGLIP_2 = Family(
    name="SigLIP 2",
    license=APACHE,
    runs="native",
    languages=_WEBLI,
    source="README_siglip2.md of google-research/big_vision",
)

MODELS = (
    *hub_models(
        SIGLIP,
        (
            ("ViT-B-16-SigLIP/webli", "timm/ViT-B-16-SigLIP", 0.7604, 0.6232),
            ("ViT-B-16-SigLIP-256/webli", "timm/ViT-B-16-SigLIP-256", 0.7653, 0.6226),
            ("ViT-B-16-SigLIP-384/webli", "timm/ViT-B-16-SigLIP-384", 0.7849, 0.6379),
            ("ViT-B-16-SigLIP-512/webli", "timm/ViT-B-16-SigLIP-512", 0.7914, 0.6459),
            ("ViT-L-16-SigLIP-256/webli", "timm/ViT-L-16-SigLIP-256", 0.8045, 0.6557),
            ("ViT-L-16-SigLIP-384/webli", "timm/ViT-L-16-SigLIP-384", 0.8207, 0.6683),
            ("ViT-SO400M-14-SigLIP/webli", "timm/ViT-SO400M-14-SigLIP", 0.8203, 0.6808),
            ("ViT-SO400M-14-SigLIP-384/webli", "timm/ViT-SO400M-14-SigLIP-384", 0.8308, 0.6921),
        ),
    ),
    *hub_models(
        SIGLIP_I18N,
        (
            ("ViT-B-16-SigLIP-i18n-256/webli", "timm/ViT-B-16-SigLIP-i18n-256", 0.7513, 0.6068),
            ("ViT-SO400M-16-SigLIP-i18n-256/webli", "timm/ViT-SO400M-16-SigLIP-i18n-256", None, None),
        ),
    ),
    *hub_models(
        SIGLIP_2,
        (
            ("ViT-B-32-SigLIP2-256/webli", "timm/ViT-B-32-SigLIP2-256", 0.74, None),
            ("ViT-B-16-SigLIP2/webli", "timm/ViT-B-16-SigLIP2", 0.782, None),
            ("ViT-B-16-SigLIP2-256/webli", "timm/ViT-B-16-SigLIP2-256", 0.791, None),
            ("ViT-B-16-SigLIP2-384/webli", "timm/ViT-B-16-SigLIP2-384", 0.806, None),
            ("ViT-B-16-SigLIP2-512/webli", "timm/ViT-B-16-SigLIP2-512", 0.812, None),
            ("ViT-L-16-SigLIP2-256/webli", "timm/ViT-L-16-SigLIP2-256", 0.825, None),
            ("ViT-L-16-SigLIP2-384/webli", "timm/ViT-L-16-SigLIP2-384", 0.831, None),
            ("ViT-L-16-SigLIP2-512/webli", "timm/ViT-L-16-SigLIP2-512", 0.835, None),
            ("ViT-SO400M-14-SigLIP2/webli", "timm/ViT-SO400M-14-SigLIP2", 0.832, None),
            ("ViT-SO400M-14-SigLIP2-378/webli", "timm/ViT-SO400M-14-SigLIP2-378", 0.841, None),
            ("ViT-SO400M-16-SigLIP2-256/webli", "timm/ViT-SO400M-16-SigLIP2-256", 0.834, None),
            ("ViT-SO400M-16-SigLIP2-384/webli", "timm/ViT-SO400M-16-SigLIP2-384", 0.841, None),
            ("ViT-SO400M-16-SigLIP2-512/webli", "timm/ViT-SO400M-16-SigLIP2-512", 0.843, None),
            ("ViT-gopt-16-SigLIP2-256/webli", "timm/ViT-gopt-16-SigLIP2-256", 0.845, None),
            ("ViT-gopt-16-SigLIP2-384/webli", "timm/ViT-gopt-16-SigLIP2-384", 0.85, None),
        ),
    ),
)
