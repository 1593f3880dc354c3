"""The table store: the index by which rows and images meet, and the predictions table.

`store.py` says what a store can do, `merge_rule.py` which prediction stays, `open.py` which store
the settings name; a file or folder for each kind: `duckdb.py`, `dynamodb/`. What does not belong
here: tables that people send (reading). Uses: contract.
"""
