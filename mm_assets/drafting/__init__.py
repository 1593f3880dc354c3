"""Drafting: a dataset's YAML from a table and images (`mm init`).

What belongs here: guessing, saying what was guessed and why, and trying it on the data it was
guessed from. What does not: what a YAML may hold (contract), how a table is read (reading).
"""
