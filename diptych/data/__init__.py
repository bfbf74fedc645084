"""From files on disk to batches: sources, tokenizer, image transforms, loader, evaluation batches."""
