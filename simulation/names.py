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
    "swallowing",
)

# Effects that only one kind of object has.
HEAD_ONLY = (
    "breathing",
    "pulsation",
    "motion",
    "flow",
    "anisotropy",
    "microstructure",
    "pathology",
    "skull_base",
    "swallowing",
)
PHANTOM_ONLY = ("phantom_defects", "temperature")

# What is scanned in each design.
OBJECTS = {
    "study": ("head", "phantom"),
    "phantom": ("phantom",),
    "demo": ("head",),
    "cosmos": ("head",),
    COHORT: ("head",),
}

# Findings that the effect `pathology` may give a head.
FINDINGS = (
    "pineal",
    "choroid_plexus",
    "microbleed",
    "haemorrhage",
    "cavernoma",
    "lesion_rims",
    "surface_veins",
    "burr_hole",
)
LESION_FINDINGS = ("lesion_rims",)  # those that only heads with lesions can have


def effects_of(design: str) -> tuple[str, ...]:
    """Return the names of the effects that the scans of a design can have.

    Examples
    --------
    >>> effects_of("phantom")[-2:]
    ('phantom_defects', 'temperature')
    >>> "breathing" in effects_of("phantom")
    False
    """
    impossible: set[str] = set()
    if "head" not in OBJECTS[design]:
        impossible.update(HEAD_ONLY)
    if "phantom" not in OBJECTS[design]:
        impossible.update(PHANTOM_ONLY)
    return tuple(name for name in EFFECTS if name not in impossible)
