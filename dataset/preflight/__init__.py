"""Checks of a scan's sidecars and images before any work, one concern a file."""
