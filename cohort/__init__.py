"""Tables of a study's people: regional values, FreeSurfer's statistics, what the clinic knows, and
model files.
"""
