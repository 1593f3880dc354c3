"""Stored models: packaging, verification, versions, champions and pins, export, tracking.

What belongs here: which model answers, and that it is the one that was signed for. What does not:
how it came to be (training). Uses: contract, lake, engines.
"""
