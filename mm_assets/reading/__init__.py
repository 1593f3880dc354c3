"""Bytes to rows, and bytes to images: the only ways in.

What belongs here: a format of tables or images, and numbers measured on an image. What does not:
types of columns (manifest) and where the bytes came from (uploads). Uses: contract.
"""
