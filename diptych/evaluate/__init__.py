"""Measure an Encoder: metrics, intervals, and evaluators that yield Results."""
