"""Check a model against a reference, stage by stage: from the decoded pixels to the probabilities."""
