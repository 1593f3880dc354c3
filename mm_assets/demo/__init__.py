"""Demos: a story for each template, made by code, through a local S3 server and Dagster.

What belongs here: made data and telling. Nothing else may use this room; delete it, and only the
demos are gone.
"""
