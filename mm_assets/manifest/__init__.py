"""The manifest: type the rows strictly, join rows and images by ID, split by modality.

What belongs here: why a row is refused (`rows.py`), and which row and image meet (`join.py`). What
does not: how a line is read (reading), how many refusals are too many (orchestration/checks),
models. Uses: contract, lake, reading, tables, uploads.
"""
