"""The page for people: try a model, answer the review queue, look at what came in.

What belongs here: HTML pages around what the rooms below know, and the little script and style that
they need. What does not: logic; an answer goes through `review`, a prediction through `answering`.
Nothing is loaded from elsewhere, all text is escaped, and every image is one of ours, normalised.
"""
