"""Benchmark cards: the paper's evaluation sets, and how each is read in whatever form its files come."""

from diptych.evalsets.card import Card
from diptych.evalsets.prompts import Prompts, get_prompts, prompts_table

__all__ = ["Card", "Prompts", "get_prompts", "prompts_table"]
