"""Speed: each line of the budget beside what people run today, in one run on one machine.

`line.py` says what a line is, `lines/` has them, `measure.py` runs each case in a process of its
own, `page.py` makes docs/performance.md of what was measured.
"""
