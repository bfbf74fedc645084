"""The paper's own numbers, measured numbers in the form of its tables, and statistics of both."""
