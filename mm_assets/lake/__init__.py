"""Where bytes live: a folder or S3 behind one interface, with every key made in `layout.py`.

What belongs here: moving and publishing bytes, and storage faults in words. What does not: what the
bytes mean. Uses: contract.
"""
