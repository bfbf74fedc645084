"""Small models with the text sides of figure 2: bags of words, their prediction, and the caption decoder."""

import dataclasses

import torch
from training import MODEL

from diptych.model.build import build_model
from diptych.model.text_config import BagOfWordsConfig, CaptionDecoderConfig, WordPredictionConfig

V = 560
BAG = dataclasses.replace(MODEL, text=BagOfWordsConfig(32, V, 48))
BIASED = dataclasses.replace(BAG, logit_bias=-10.0)
WORDS = dataclasses.replace(MODEL, text=WordPredictionConfig(32, V))
DECODER = dataclasses.replace(MODEL, text=CaptionDecoderConfig(32, V, 64, layers=2, prefix_tokens=3))


def made(config, seed=0):
    torch.manual_seed(seed)
    return build_model(config).eval()
