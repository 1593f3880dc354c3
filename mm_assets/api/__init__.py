"""The Python API: a project, its datasets, and everything that can be done with them.

`import mm_assets as mm` exports what is public. What belongs here: one call for each thing that a
person can ask for. What does not: the work itself, which the rooms do. Uses any room but the doors.
"""
