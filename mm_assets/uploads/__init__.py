"""Uploads: send, find, receive, verify, archives, and what became of each (the ledger).

What belongs here: everything up to verified files with rows as text. What does not: types, joins
and labels (manifest). Uses: contract, lake, reading.
"""
