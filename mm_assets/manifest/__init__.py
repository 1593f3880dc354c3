"""Manifest: type the rows strictly, join rows and images by ID, split by modality."""
