"""The depth of each parameter in its tower, for layer-wise learning rate decay."""

from diptych.model.clip_config import CLIPConfig
from diptych.model.towers import text_side_of, tower_of


def layer_depth(name: str, config: CLIPConfig) -> int:
    """Layers above a parameter of a CLIP in its tower; its learning rate is the peak times layer_decay to this power.

    ============================================================  ==========================================
    what                                                          depth
    ============================================================  ==========================================
    projections, last LayerNorms, attention pooling, temperature  0
    Transformer block i of L (from 0), of either tower            L - i
    stage i of S (from 0) of a ResNet or a compact ResNet         S - i
    below these: first convolutions, class token,           number of blocks or stages, plus 1
    embeddings of tokens and positions, `ln_pre`
    ============================================================  ==========================================

    Unknown names, such as an added head, have depth 0. Each tower's row defines its own depths.
    Source: BEiT (Bao et al. 2021, arXiv 2106.08254), after Clark et al. 2020 (ELECTRA).
    """
    if name.startswith("visual."):
        return tower_of(config.vision).depth(name.removeprefix("visual."), config.vision)
    return text_side_of(config.text).depth(name, config.text)
