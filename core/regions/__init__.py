"""Regions of interest, lesions and the reference of susceptibility."""
