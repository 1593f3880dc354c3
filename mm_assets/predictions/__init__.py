"""Predictions: what each model says of an upload's records, merged into the one table."""
