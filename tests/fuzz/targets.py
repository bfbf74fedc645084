"""All readers of files that may come from strangers, by name."""

from target import Seed, Target
from targets_data import DATA
from targets_models import MODELS
from targets_overlap import OVERLAP
from targets_results import RESULTS
from targets_sets import SETS
from targets_training import TRAINING

TARGETS: dict[str, Target] = {target.name: target for target in (*DATA, *MODELS, *OVERLAP, *RESULTS, *SETS, *TRAINING)}
__all__ = ["TARGETS", "Seed", "Target"]
