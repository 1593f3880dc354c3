"""When things run: what is under way, what comes next, and the sensors that ask for it."""
