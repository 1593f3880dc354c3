"""Doubt: how sure an answer is, how far off a number may be, what a model never saw, who reviews.

What belongs here: confidence, intervals, the promise of the review queue, what is unlike the
records of training. What does not: how engines learn, and where answers are kept. Uses: contract,
display, engines.
"""
