"""Review: what a model is not sure of goes to people; what they say comes back as labels.

What belongs here: the queue, the folder that people work from, reading what they answered. What
does not: sending (`uploads/send.py` is the one front door) and training. Uses: contract, display,
lake, reading, tables, uploads, manifest.
"""
