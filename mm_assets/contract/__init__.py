"""What a dataset is: its YAML, kinds of columns, IDs, spellings, engines; settings; error codes.

What belongs here: words that every room shares, without any work. What does not: anything that
reads bytes other than a YAML. Uses no other room.
"""
