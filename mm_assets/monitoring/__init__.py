"""Monitoring: how sure the models are, what they say, what was refused, what has drifted.

What belongs here: figures and pictures over time, limits on them, whether a promise still holds.
What does not: how a model did when it was trained (training), the look of a plot (display). Uses:
contract, display, lake, tables, uploads, manifest, doubt, registry, training.
"""
