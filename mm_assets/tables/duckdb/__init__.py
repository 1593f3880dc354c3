"""The table store in one DuckDB file."""
