"""Checks of a scan's sidecars and images before processing, one concern a file."""
