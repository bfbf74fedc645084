"""How deep each parameter lies in its tower, for learning rates that fall from layer to layer."""

import re

from diptych.model.config import CLIPConfig, CompactResNetConfig, ViTConfig

_BLOCK = re.compile(r"(?:visual\.)?transformer\.resblocks\.(\d+)\.")
_STAGE = re.compile(r"visual\.(?:layer|stages\.)(\d+)\.")
_ABOVE = re.compile(r"visual\.(?:ln_post|proj|attnpool)\b|ln_final\b|text_projection$|logit_")
_BELOW = re.compile(r"visual\.(?:conv|bn)[123]\.|visual\.(?:class_|positional_)embedding$|visual\.ln_pre\.")
_BELOW_TEXT = ("token_embedding.weight", "positional_embedding")


def layer_depth(name: str, config: CLIPConfig) -> int:
    """Layers above a parameter of a CLIP in its tower; its learning rate is the peak times layer_decay to this power.

    ============================================================  ==========================================
    what                                                          depth
    ============================================================  ==========================================
    projections, last LayerNorms, attention pooling, temperature  0
    Transformer block i of L (from 0), of either tower            L - i
    stage i of S (from 0) of a ResNet or a compact ResNet         S - i
    what comes before: first convolutions, class token,           number of blocks or stages, plus 1
    embeddings of tokens and positions, `ln_pre`
    ============================================================  ==========================================

    A name that a CLIP does not have lies on top, as a head that was put there.
    Source: BEiT (Bao et al. 2021, arXiv 2106.08254), after Clark et al. 2020 (ELECTRA).
    """
    vision = config.vision
    vision_layers = vision.layers if isinstance(vision, ViTConfig) else len(vision.layers)
    layers = vision_layers if name.startswith("visual.") else getattr(config.text, "layers", 0)
    if _ABOVE.match(name):
        return 0
    if block := _BLOCK.match(name):
        return layers - int(block[1])
    if stage := _STAGE.match(name):
        first = 0 if isinstance(vision, CompactResNetConfig) else 1  # ModifiedResNet counts layer1 to layer4
        return layers - (int(stage[1]) - first)
    if _BELOW.match(name) or name in _BELOW_TEXT:
        return layers + 1
    return 0
