"""Thin Nipype nodes: load, call the core, save."""
