"""Monitoring: how sure the models are, what they say, what was refused, what has drifted.

What belongs here: figures and pictures over time, and limits on them. What does not: how a model
did when it was trained (training), the look of a plot (display). Uses: contract, display, lake,
tables, uploads, manifest, training.
"""
