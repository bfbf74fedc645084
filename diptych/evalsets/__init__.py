"""Benchmark cards: the paper's evaluation sets, and readers for every form in which their files are published."""

from diptych.evalsets.card import Card
from diptych.evalsets.prompts import Prompts, get_prompts, prompts_table

__all__ = ["Card", "Prompts", "get_prompts", "prompts_table"]
