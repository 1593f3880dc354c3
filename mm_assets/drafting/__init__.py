"""Drafting: a dataset's YAML from a table and images (`mm init`).

What belongs here: guessing, and saying what was guessed. What does not: what a YAML may hold
(contract).
"""
