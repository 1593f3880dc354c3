"""Where and when mm-assets runs: the code location and one YAML for each dataset."""
