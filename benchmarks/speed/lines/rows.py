"""Replaced when the row measurement lands."""

LINES = ()
