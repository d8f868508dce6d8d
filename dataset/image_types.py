"""Read DICOM's Image Type: which part of a complex image it names."""

import re

# Words of DICOM's Image Type for the parts of a complex image.
KIND_WORDS = {
    "magnitude": ("M", "MAG", "MAGNITUDE"),
    "phase": ("P", "PHASE"),
    "real": ("R", "REAL"),
    "imaginary": ("I", "IMAG", "IMAGINARY"),
}


def image_kinds(image_type: object) -> list[str]:
    """Return the parts of a complex image that DICOM's Image Type names.

    Whole words count, and a letter before the name of a sequence, as in ``P_FFE``: PROTON_DENSITY,
    PRIMARY or MPR are no parts.

    Parameters
    ----------
    image_type : object
        The sidecar's ``ImageType``: a list, or a text with backslashes as in DICOM.

    Returns
    -------
    list of str
        Of ``magnitude``, ``phase``, ``real`` and ``imaginary``.

    Examples
    --------
    >>> image_kinds(["ORIGINAL", "PRIMARY", "P_FFE", "PROTON_DENSITY"])
    ['phase']
    """
    values = image_type.split("\\") if isinstance(image_type, str) else image_type
    kinds: list[str] = []
    for value in values if isinstance(values, list) else []:
        word = re.sub(r"\bPHASE[ _]MAP\b", "PHASE", str(value).strip().upper())
        letter_and_sequence = re.fullmatch(r"([MPRI])_(?:FFE|SE|IR|TSE|EPI|PCA|B0|B1)", word)
        if letter_and_sequence:
            word = letter_and_sequence[1]
        for kind, words in KIND_WORDS.items():
            if word in words and kind not in kinds:
                kinds.append(kind)
    return kinds
