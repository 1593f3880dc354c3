"""Uploads: send, find, receive, verify, archives, and what became of each (the ledger).

What belongs here: everything up to verified files with rows as text. What does not: types, joins
and labels (manifest). `check.py` has no rules of its own: it runs the receiving code on the
sender's machine. Uses: contract, lake, reading.
"""
