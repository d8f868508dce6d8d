"""Read tables of the participants of a study (regional values, FreeSurfer's statistics, clinical
data) and model files.
"""
