"""Recognise manufacturers by the ways in which scanners, converters and archives write them."""

import re

# The first word of a name, by manufacturer; a name may have further words, such as
# "GE MEDICAL SYSTEMS", "SIEMENS Healthineers", "Philips Medical Systems" or "TOSHIBA_MEC".
_FIRST_WORDS = {
    "SIEMENS": "Siemens",
    "GE": "GE",
    "GEMS": "GE",
    "GENERAL": "GE",
    "PHILIPS": "Philips",
    "CANON": "Canon",
    "TOSHIBA": "Canon",
    "HITACHI": "Fujifilm",
    "FUJIFILM": "Fujifilm",
    "UIH": "United Imaging",
    "UNITED": "United Imaging",
    "BRUKER": "Bruker",
}


def vendor(manufacturer: str | None) -> str:
    """Return the manufacturer that a name stands for, whatever its case and further words.

    Parameters
    ----------
    manufacturer : str or None
        The sidecar's ``Manufacturer``.

    Returns
    -------
    str
        Such as ``GE``; an unknown name in lower case with single spaces; empty if there is no name.

    Examples
    --------
    >>> vendor("SIEMENS Healthineers"), vendor("GE MEDICAL SYSTEMS"), vendor("Maker  of scanners")
    ('Siemens', 'GE', 'maker of scanners')
    """
    words = re.findall(r"[^\W_]+", manufacturer or "")
    if not words:
        return ""
    if [word.upper() for word in words[:2]] == ["G", "E"]:
        return "GE"
    return _FIRST_WORDS.get(words[0].upper(), " ".join(words).casefold())
