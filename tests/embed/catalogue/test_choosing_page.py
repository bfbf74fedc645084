"""docs/choosing.md says what the catalogue says, and its advice is right by a search of its own."""

import runpy
from pathlib import Path

from diptych.embed.catalogue import MODELS, advise

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_made_from_the_catalogue():
    script = runpy.run_path(str(ROOT / "docs" / "make_choosing_page.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), "run: python docs/make_choosing_page.py"


def test_nothing_better_was_overlooked():
    """Each rule again in other words, over all models."""
    rules = {
        "no GPU": lambda row: row.architecture.image_gflops <= 13,
        "little memory": lambda row: row.architecture.parameters <= 100_000_000,
        "a small GPU, or many images": lambda row: row.architecture.image_gflops <= 60,
        "many languages": lambda row: row.family.languages != "English",
        "many languages, no GPU": lambda row: row.family.languages != "English" and row.architecture.image_gflops <= 13,
        "best accuracy": lambda row: True,
    }
    advice = {entry.purpose: entry for entry in advise()}
    assert set(advice) == set(rules)
    for purpose, rule in rules.items():
        entry = advice[purpose]
        meets = [row for row in MODELS if rule(row) and row.imagenet is not None]
        assert entry.model in meets and entry.model.license.name in ("mit", "apache-2.0")
        free = [row.imagenet for row in meets if row.license.name in ("mit", "apache-2.0")]
        assert entry.model.imagenet == max(free)
        best = max(row.imagenet for row in meets)
        assert (entry.restricted is None) == (best == entry.model.imagenet)
        assert entry.restricted is None or entry.restricted.imagenet == best
