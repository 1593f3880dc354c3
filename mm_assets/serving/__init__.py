"""Answers over HTTP: the batch's own functions, with the models warm in memory.

What belongs here: what a request is, batches of them, models that come and go while answers are
given, and the protocols that clients speak. What does not: reading a value, deciding, being sure;
a record is answered as an upload with it alone would be. Begin with `predictor.Predictor`.
"""
