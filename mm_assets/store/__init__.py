"""The table store: the index by which rows and images meet, and the predictions table.

`base.py` says what a store can do and holds the merge rule; `duckdb.py` does it in one file.
"""
