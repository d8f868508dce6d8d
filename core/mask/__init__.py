"""Masks of brains and phantoms from magnitude and phase, and voxels whose field is not measured."""
