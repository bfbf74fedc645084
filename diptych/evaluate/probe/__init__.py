"""Probes: what a linear classifier on frozen features can tell (appendix A.3), and how few examples it needs."""
