"""Models: the training set, engines, evaluation, and the store with its champions."""
