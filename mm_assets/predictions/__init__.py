"""Predictions: ask the champions, predict in batches, merge into the one table; the receipt.

What belongs here: what is said of an upload's records, and what became of each. What does not:
which prediction stays (`tables/merge_rule.py`). Uses: contract, lake, tables, uploads, manifest,
engines, registry, training.
"""
