"""How good the engines are beside what a person writes in minutes: `python -m benchmarks.quality`.

What belongs here: data sets that installed packages ship or that code draws (`sets.py`,
`drawn.py`), the rivals (`rivals.py`), one measurement of one rival on one split (`measure.py`), and
what the measurements say (`figures.py`, `page.py`). What does not: the pipeline. Every engine is
asked through `mm_assets/engines/protocol.py`, without a lake and without Dagster.

A measurement is stored when it is done (`stored.py`), so a run that was cut off goes on.
"""
