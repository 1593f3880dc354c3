"""The assets, a module for each part of the flow: inputs, one call, metadata."""
