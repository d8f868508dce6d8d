"""Pictures in the derivative dataset: their names, for who draws them and for who shows them."""

from .outputs import SUBJECT_SPACE, derivative_path

FLAIR_SPACE = "FLAIR"

# What names the pictures that reports show, beside the entities of the scan or subject.
MAGNITUDE = {"suffix": "magnitude"}
MAPS = {"suffix": "Chimap", "desc": "maps"}
REGISTRATION = {"suffix": "T2starw", "space": SUBJECT_SPACE, "desc": "registration"}
ROIS = {"suffix": "dseg", "space": SUBJECT_SPACE, "desc": "rois"}
REFERENCE = {"suffix": "dseg", "space": SUBJECT_SPACE, "desc": "reference"}
REGIONS = {"suffix": "Chimap", "space": SUBJECT_SPACE, "desc": "regions"}
LESIONS = {"suffix": "mask", "space": FLAIR_SPACE, "desc": "lesions"}


def variability_map(method, kind):
    """What names the map of the SD of susceptibility over scans, and the picture of it.

    Parameters
    ----------
    method : str
        The inversion.
    kind : {'within', 'across'}
        The SD within or across sites.

    Returns
    -------
    dict of str
        Suffix, space and desc.
    """
    return {"suffix": "Chimap", "space": SUBJECT_SPACE, "desc": f"{method}{kind}sd"}


def picture_path(output_dir, entities, *, suffix, desc=None, space=None):
    """Name a picture of a scan or subject.

    Parameters
    ----------
    output_dir, entities, suffix, desc, space
        As of `multiqsm.dataset.outputs.derivative_path`.

    Returns
    -------
    pathlib.Path
        A PNG file in the subject's folder ``figures``. Nothing is created.

    Raises
    ------
    ValueError
        As of `multiqsm.dataset.outputs.derivative_path`.

    Examples
    --------
    >>> picture_path("out", {"subject": "01"}, suffix="Chimap", desc="maps").as_posix()
    'out/sub-01/figures/sub-01_desc-maps_Chimap.png'
    """
    named = {"suffix": suffix, "desc": desc, "space": space}
    return derivative_path(output_dir, entities, **named, datatype="figures", extension=".png")
