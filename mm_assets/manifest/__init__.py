"""The manifest: type the rows strictly, join rows and images by ID, split by modality.

What belongs here: rules on rows and on which row and image meet. What does not: models. Uses:
contract, lake, reading, tables, uploads.
"""
