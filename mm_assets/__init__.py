"""Uploads in S3 become predictions that people can rely on.

The rooms of this package follow the flow: uploads, manifest, models, predictions, monitoring.
Modules here know nothing of Dagster; the files `assets.py` and `checks.py` of each room do.
Nothing heavy is imported at module level.
"""
