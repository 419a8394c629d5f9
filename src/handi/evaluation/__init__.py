"""Measuring models: evaluation, tables, ablations, baselines and the gallery."""
