"""Zero-shot classifiers made from texts."""
