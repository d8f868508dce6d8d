"""Pictures of single scans in the report of a study, read from the folders of the subjects."""

from pathlib import Path

import pandas as pd

from ..cohort.roi_tables import row_entities
from ..dataset.entities import scan_label, scan_title
from ..dataset.names import MAPS, SITES, TUBES
from ..pictures.drawing import readable
from ..pictures.slices import compared_maps
from ..reports.blocks import Picture
from ..stats.representative import representative_subject
from .reports import TUBES_CAPTION, read_picture

CHOICE = (
    "The person shown here is, among the subjects with scans at the most sites, the one whose "
    "regional means are nearest to the medians of the study (smallest root mean square of the "
    "deviations in all regions and inversions, each divided by its robust standard deviation over "
    "the subjects)."
)


def person_pictures(root: Path, rois: pd.DataFrame) -> list[Picture]:
    """Read the pictures of the person who represents the study.

    Parameters
    ----------
    root : pathlib.Path
        Root of the derivative dataset.
    rois : pandas.DataFrame
        The ROI table of the study.

    Returns
    -------
    list of Picture
        The maps of the first scan with the difference between inversions, and the map of the first
        scan of each site; those that the participant level drew. The caption of the first says how
        the person was chosen.
    """
    subject = representative_subject(rois)
    if subject is None:
        return []
    entities = _first_scans(rois[rois["subject"] == subject])[0]
    methods = pd.unique(rois["method"])
    pair = compared_maps(methods)
    maps_caption = f"{scan_label(entities)}: maps of all inversions"
    if pair is not None:
        difference = f"the difference between {pair[0]} and {pair[1]}"
        maps_caption += f", and {difference} in a narrower window"
    sites_caption = (
        f"sub-{subject}: {readable(methods[0])} maps of the first scan of each site, in subject "
        "space, relative to the reference region"
    )
    captions = (
        ({"subject": subject}, SITES, sites_caption),
        (entities, MAPS, maps_caption),
    )
    pictures: list[Picture] = []
    for picture_entities, name, caption in captions:
        text = f"{caption}." if pictures else f"{caption}. {CHOICE}"
        picture = read_picture(root, picture_entities, name, text, caption)
        if picture is not None:
            pictures.append(picture)
    return pictures


def phantom_pictures(root: Path, tubes: pd.DataFrame) -> dict[str, Picture]:
    """Read the picture of the tubes in the first phantom scan of each site.

    Parameters
    ----------
    root : pathlib.Path
        Root of the derivative dataset.
    tubes : pandas.DataFrame
        The ROI table of the phantoms.

    Returns
    -------
    dict of str to Picture
        By site, those that the participant level drew.
    """
    pictures = {}
    for site, scans in tubes.groupby("site", sort=True):
        entities = _first_scans(scans)[0]
        scan = f"First phantom scan at site {site} (sub-{entities['subject']}"
        caption = f"{scan}, {scan_title(entities)}). {TUBES_CAPTION}."
        alt = f"plane through two tubes of the phantom at site {site}"
        picture = read_picture(root, entities, TUBES, caption, alt)
        if picture is not None:
            pictures[str(site)] = picture
    return pictures


def _first_scans(rois):
    """Return the entities of the scans in a table, in the order of subject, site and number."""
    ordered = rois.sort_values(["subject", "site", "scan"], kind="stable")
    return list(map(row_entities, ordered.to_dict("records")))
