"""Demos: a story for each template, made by code, through a local S3 server and Dagster.

What belongs here: made data, a module for each (`pets.py`), and telling (`stories.py`). What does
not: the templates themselves, which are YAML. Only the command line may use this room; delete it,
and only the demos and the sample of `mm checks` are gone.
"""
