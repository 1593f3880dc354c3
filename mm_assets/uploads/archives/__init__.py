"""Archives of several files: zip, tar (packed or not) and 7z, each hostile until it is checked.

What belongs here: a format's directory (`*_directory.py`), its entries as streams (`*_file.py`),
and the rules that are the same for all (`rules.py`). What does not: one compressed file
(reading/compressed.py), and what becomes of the files. Begin with `opening.open_archive`.
"""
