"""What the suite measures: one file per kind of measurement."""
