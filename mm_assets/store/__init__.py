"""The table store: the index by which rows and images meet, and the predictions table.

`base.py` says what a store can do and holds the merge rule. `duckdb.py` does it in one file;
`dynamodb.py` does it at scale, with `dynamodb_items.py` (what an item looks like),
`dynamodb_publish.py` (how an upload's part is replaced), `dynamodb_requests.py` (retries, errors in
words) and `dynamodb_table.py` (what the table must be like, and making it). `inspection.py` tells
people what their table is.
"""
