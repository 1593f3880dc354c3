"""When things run: what comes next, and the sensors that ask for it."""
