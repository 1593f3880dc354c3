"""The rules engine: formulas that people write, evaluated by DuckDB."""
