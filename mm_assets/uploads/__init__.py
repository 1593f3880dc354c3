"""Receive: find finished uploads, stream archives, verify every file, pack what is good."""
