"""Demos: a story for each template, made by code, through a local S3 server and Dagster.

What belongs here: made data and its story, a module for each dataset (`pets.py`), listed in
`stories.py`; and telling it (`run.py`). What does not: the templates themselves, which are YAML.
Only the command line uses this room; without it only the demos and the sample of `mm checks` are
gone, which is then said.
"""
