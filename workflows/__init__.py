"""Nipype graphs: here the pipeline is read."""
