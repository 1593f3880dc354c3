"""The report of a stored model: one page that a colleague without statistics can judge it by.

What belongs here: figures beyond those of evaluation.py (how certain they are, rivals, what each
column adds, the worst mistakes), gathered in `gather.py` as plain data, and the page that shows
them (`page.py` and its template). What does not: metrics themselves (evaluation.py), and what is
promised (the room doubt). A report is made of a stored model and the published training set, at
any time; it changes nothing.
"""
