"""Engines: what learns. One protocol (`protocol.py`), a file or a folder for each engine.

What belongs here: frames and labels in, a folder of files out, and predictions from it. What does
not: uploads, lakes, splits, scores. A new engine is named in `make.py`; what ours share is in
`shared/`. Uses: contract.
"""
