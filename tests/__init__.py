"""Tests, on real parts; they mirror the package."""
