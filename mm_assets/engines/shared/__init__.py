"""What our engines share: guards, records to learn from, engine.json, matrices, backbones.

Nothing here knows of one particular engine, and an engine of one's own needs none of it.
"""
