"""The Dagster side: assets, checks, sensors, jobs, and running all of it in this process.

The only room that imports dagster. What belongs here: when and where things run. What does not:
logic; an asset reads its inputs, calls one function of the rooms above and returns metadata.
"""
