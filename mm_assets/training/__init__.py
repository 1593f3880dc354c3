"""Training: the training set, tuning, competition, evaluation, calibration and the gate.

What belongs here: from labelled records to a stored, perhaps promoted model; and recalibration by
labels that came later. What does not: how an engine learns. Uses: contract, display, lake, tables,
uploads, manifest, engines, doubt, registry.
"""
