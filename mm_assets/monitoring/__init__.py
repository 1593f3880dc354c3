"""Monitoring: how sure the models are, what they say, what was refused, and what has drifted."""
