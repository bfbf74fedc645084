"""The paper's own numbers, and what is computed from numbers."""
