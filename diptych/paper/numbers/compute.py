"""Compute of the models that the paper compares: forward GFLOPs (multiply-adds) of the image tower for one image.

The paper prints the numbers of its five ResNets (figures 4 and 9). For other models it only draws points; the numbers
here are multiply-adds too, from the sources that SOURCES names.
"""

import re
from collections.abc import Sequence

from diptych.records import Result
from diptych.report.paper_numbers import published

# From open_clip's docs/model_profile.csv at 89fb801, column image_gflops. It counts a multiply-add as two: halved.
_CLIP_VIT = {
    "CLIP ViT-B/32": 8.82 / 2,
    "CLIP ViT-B/16": 35.13 / 2,
    "CLIP ViT-L/14": 162.03 / 2,
    "CLIP ViT-L/14@336px": 381.92 / 2,
}
# From torchvision 0.28, meta["_ops"] of its IMAGENET1K_V1 weights, each at its own resolution.
_RESNET = {"ResNet-50": 4.089, "ResNet-101": 7.801, "ResNet-152": 11.514}
_EFFICIENTNET = {
    f"B{size}": value for size, value in enumerate((0.386, 0.687, 1.088, 1.827, 4.394, 10.266, 19.068, 37.746))
}

SOURCES = (
    "GFLOPs are multiply-adds of one picture through the image tower: of CLIP's ResNets as figure 4 prints them, of "
    "its Vision Transformers half of open_clip's model profile, of ResNets and EfficientNets those of torchvision's "
    "weights."
)

_TWINS = (
    *((rf"rn-?{size}(?![\dx])", f"CLIP RN{size}") for size in ("50x64", "50x16", "50x4", "101", "50")),
    (r"vit-?(?:l|large)-?(?:patch)?14.*336", "CLIP ViT-L/14@336px"),
    (r"vit-?(?:l|large)-?(?:patch)?14(?!\d)", "CLIP ViT-L/14"),
    (r"vit-?(?:b|base)-?(?:patch)?32(?!\d)", "CLIP ViT-B/32"),
    (r"vit-?(?:b|base)-?(?:patch)?16(?!\d)", "CLIP ViT-B/16"),
)
# Towers with these names have another architecture or another image size.
_OTHERS = r"siglip|clipa|coca|eva|plus|alt|\b(?:240|256|280|320|378|384|512)\b"


def paper_gflops() -> dict[str, float]:
    """GFLOPs of models of table 10, by row name; models without a source are missing."""
    resnets = {name: cells["GFLOPs"] for name, cells in published("figure 4").items()}
    plain = {f"EfficientNet {size}": value for size, value in _EFFICIENTNET.items()}
    noisy = {f"EfficientNet Noisy Student {size}": value for size, value in _EFFICIENTNET.items()}
    return {**resnets, **_CLIP_VIT, **plain, **noisy, **_RESNET}


def twin(model: str) -> str | None:
    """The paper's CLIP model with the architecture that a model's name shows ("ViT-B-32/openai"), or None."""
    normalized = re.sub(r"[^a-z0-9]+", "-", model.lower())
    if re.search(_OTHERS, normalized):
        return None
    return next((name for pattern, name in _TWINS if re.search(rf"(?:^|-){pattern}", normalized)), None)


def measured_gflops(results: Sequence[Result]) -> dict[str, float]:
    """GFLOPs of measured models: run["settings"]["gflops"] of their Results, otherwise the value of their `twin`."""
    paper, gflops_by_model = paper_gflops(), {}
    for result in results:
        gflops = result.setting("gflops", float)
        if gflops is None and result.model not in gflops_by_model and (twin_name := twin(result.model)) is not None:
            gflops = paper[twin_name]
        if gflops is not None:
            gflops_by_model[result.model] = float(gflops)
    return gflops_by_model
