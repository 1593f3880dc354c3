"""`mm`, the command line: arguments in, one call of the API, output.

What belongs here: options and how results are printed; `main.py` names every command. What does
not: logic. A command's data goes to stdout, all else to stderr. Exit codes: `errors.py`.
"""
