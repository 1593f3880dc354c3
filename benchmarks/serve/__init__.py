"""Serving, side by side: ours, what people write by hand, and other batching servers.

One run on one machine measures all of it, so that the ratios can be compared; the milliseconds are
that machine's. `world.py` has what is asked, `servers.py` the servers, `load.py` the client, and
`page.py` what is shown.
"""
