"""Names of derivatives and pictures, as keywords of `derivative_path` and `picture_path`."""

from collections.abc import Mapping
from pathlib import Path

from .files import PathLike
from .outputs import SUBJECT_SPACE, derivative_path

FLAIR_SPACE = "FLAIR"

# Derivatives of a scan.
BRAIN_MASK = {"suffix": "mask", "desc": "brain"}
MAGNITUDE = {"suffix": "magnitude"}
FIELD = {"suffix": "fieldmap"}
IN_FMAP = {"datatype": "fmap"}
MAGNITUDE_FILE = MAGNITUDE | IN_FMAP
TOTAL_FIELD: dict[str, str] = FIELD | IN_FMAP | {"desc": "total"}
TOTAL_FIELD_ERROR: dict[str, str] = FIELD | IN_FMAP | {"desc": "totalse"}
TOTAL_FIELD_NOISE: dict[str, str] = FIELD | IN_FMAP | {"desc": "totalnoise"}
LOCAL_FIELD: dict[str, str] = FIELD | IN_FMAP | {"desc": "local"}
LOCAL_FIELD_PICTURE = FIELD | {"desc": "local"}
R2STAR = {"suffix": "R2starmap"}
MAPS = {"suffix": "Chimap", "desc": "maps"}
TUBES = {"suffix": "Chimap", "desc": "tubes"}
ROI_TABLE: dict[str, str] = {"suffix": "chi", "desc": "rois", "extension": ".tsv"}
R2STAR_TABLE = R2STAR | {"desc": "rois", "extension": ".tsv"}
TO_SUBJECT = {"suffix": "xfm", "datatype": "xfm", "space": SUBJECT_SPACE}

# Derivatives of a subject.
AVERAGE = {"suffix": "T2starw", "space": SUBJECT_SPACE, "desc": "average"}
SUBJECT_MASK = {"suffix": "mask", "space": SUBJECT_SPACE, "desc": "brain"}
REGISTRATION = {"suffix": "T2starw", "space": SUBJECT_SPACE, "desc": "registration"}
REGISTRATION_TABLE = {"suffix": "xfm", "datatype": "xfm", "desc": "registration"}
ROIS: dict[str, str] = {"suffix": "dseg", "space": SUBJECT_SPACE, "desc": "rois"}
REFERENCE: dict[str, str] = {"suffix": "dseg", "space": SUBJECT_SPACE, "desc": "reference"}
REGIONS: dict[str, str] = {"suffix": "Chimap", "space": SUBJECT_SPACE, "desc": "regions"}
SITES: dict[str, str] = {"suffix": "Chimap", "space": SUBJECT_SPACE, "desc": "sites"}
QUALITY_TABLE = {"suffix": "stats", "datatype": "tables", "desc": "quality"}
LESION_TABLE = {"suffix": "stats", "datatype": "tables", "desc": "lesions"}
LESION_MASK = {"suffix": "mask", "space": FLAIR_SPACE}
FLAIR_REGIONS: dict[str, str] = {"suffix": "Chimap", "space": FLAIR_SPACE, "desc": "regions"}
LESIONS = LESION_MASK | {"desc": "lesions"}


def susceptibility_map(method: str) -> dict[str, str]:
    """Name a scan's susceptibility map by an inversion, and its picture."""
    return {"suffix": "Chimap", "desc": method}


def susceptibility_error_map(method: str) -> dict[str, str]:
    """Name the standard-error map of a scan's susceptibility map."""
    return {"suffix": "Chimap", "desc": f"{method}se"}


def subject_space_map(method: str) -> dict[str, str]:
    """Name a scan's susceptibility map in the subject's space."""
    return {"suffix": "Chimap", "space": SUBJECT_SPACE, "desc": method}


def reduced_mask_name(background: str) -> dict[str, str]:
    """Name the mask of the voxels in which a background field removal yields the local field."""
    return {"suffix": "mask", "desc": background}


def variability_map(method: str, kind: str) -> dict[str, str]:
    """Name the map of the standard deviation of susceptibility over scans, and its picture.

    Parameters
    ----------
    method : str
        The inversion.
    kind : {'within', 'across'}
        Standard deviation within or across sites.

    Returns
    -------
    dict of str
        Suffix, space and desc.

    Examples
    --------
    >>> variability_map("medi", "within")["desc"]
    'mediwithinsd'
    """
    return {"suffix": "Chimap", "space": SUBJECT_SPACE, "desc": f"{method}{kind}sd"}


def find_tables(output_dir: PathLike, table: Mapping[str, str]) -> list[Path]:
    """Find all tables of a kind in a derivative dataset.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    table : dict of str
        Name of the tables, such as `ROI_TABLE`.

    Returns
    -------
    list of pathlib.Path
        Sorted.
    """
    name = f"*_desc-{table['desc']}_{table['suffix']}.tsv"
    return sorted(Path(output_dir).glob(f"sub-*/**/anat/{name}"))


def picture_path(
    output_dir: PathLike,
    entities: Mapping[str, str],
    *,
    suffix: str,
    desc: str | None = None,
    space: str | None = None,
) -> Path:
    """Name a picture of a scan or subject.

    Parameters
    ----------
    output_dir, entities, suffix, desc, space
        See `multiqsm.dataset.outputs.derivative_path`.

    Returns
    -------
    pathlib.Path
        A PNG file in the subject's folder ``figures``. Nothing is created.

    Raises
    ------
    ValueError
        See `multiqsm.dataset.outputs.derivative_path`.

    Examples
    --------
    >>> picture_path("out", {"subject": "01"}, suffix="Chimap", desc="maps").as_posix()
    'out/sub-01/figures/sub-01_desc-maps_Chimap.png'
    """
    return derivative_path(
        output_dir,
        entities,
        suffix=suffix,
        desc=desc,
        space=space,
        datatype="figures",
        extension=".png",
    )
