"""Complete training runs as functions: start here for your own run.

config = diptych.recipes.compact_rn(("pairs/",), "runs/mine", num_pairs=300_000)
config = diptych.recipes.apply_settings(config, ["optimizer.learning_rate=1e-3", "micro_batch_size=64"])
"""

from diptych.recipes.configure import EPOCHS, RECIPES, Recipe, configure, get_recipe
from diptych.recipes.copy_recipes import copy_detector, paper_copy_detector
from diptych.recipes.paper_recipes import PAPER_LEARNING_RATES, high_resolution, paper, yfcc
from diptych.recipes.settings import apply_settings
from diptych.recipes.small_recipes import compact_rn, playground_rn, quickstart, siglip, tiny_rn, tiny_vit
from diptych.recipes.tuning import finetune, lit

__all__ = [
    "EPOCHS",
    "PAPER_LEARNING_RATES",
    "RECIPES",
    "Recipe",
    "apply_settings",
    "compact_rn",
    "configure",
    "copy_detector",
    "finetune",
    "get_recipe",
    "high_resolution",
    "lit",
    "paper",
    "paper_copy_detector",
    "playground_rn",
    "quickstart",
    "siglip",
    "tiny_rn",
    "tiny_vit",
    "yfcc",
]
