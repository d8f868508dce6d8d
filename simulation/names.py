"""Names of designs and effects.

Nothing is imported, so that the options of a command are known without loading the numerics.
"""

DESIGNS = ("study", "phantom", "demo", "cosmos")
COHORT = "thalamus"  # the design of patients

# The place of a name is part of the seed of its random numbers: new names are added at the end.
EFFECTS = (
    "breathing",
    "pulsation",
    "motion",
    "truncation",
    "flow",
    "eddy_currents",
    "bipolar",
    "coils",
    "noise",
    "anisotropy",
    "microstructure",
    "pathology",
    "skull_base",
    "phantom_defects",
    "temperature",
)
