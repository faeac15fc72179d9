"""Intervals, paired tests, corrections and power for scores on a fixed set of items. No torch, no pandas."""
