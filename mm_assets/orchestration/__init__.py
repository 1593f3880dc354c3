"""The Dagster side: assets, checks, sensors, jobs, and running all of it in this process.

The only room that imports dagster. `assets/` and `checks/` have a module for each part of the
flow; `triggers/` decides what comes next (`decide.py`) and asks for it (`sensors.py`). What belongs
here: when and where things run. What does not: logic; an asset reads its inputs, calls one function
of a room of the flow and returns metadata. Uses every room of the flow.
"""
