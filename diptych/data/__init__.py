"""From files on disk to batches: tokenizer, picture transforms, sources, loader, evaluation sets."""
