"""The sites of a study, as the sidecars of the maps record them."""

import pandas as pd

from ..dataset.files import PathLike, read_json
from ..dataset.names import susceptibility_map
from ..dataset.outputs import derivative_path
from ..dataset.participants import SESSION_LABEL, sessions_as_sites
from ..dataset.sidecars import sidecar_path
from .roi_tables import row_entities


def session_site_notes(output_dir: PathLike, rois: pd.DataFrame) -> list[str]:
    """Remark that sessions count as sites, if the participant level knew nothing else of them.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    rois : pandas.DataFrame
        Long table of regional values.

    Returns
    -------
    list of str
        One remark, or none.
    """
    named_alike = rois[rois["session"].notna() & (rois["session"] == rois["site"])]
    first_rows = named_alike.drop_duplicates(["subject", "session", "site"])
    sites = set()
    for row in first_rows.to_dict("records"):
        image = derivative_path(output_dir, row_entities(row), **susceptibility_map(row["method"]))
        sidecar = sidecar_path(image)
        if sidecar.is_file() and read_json(sidecar).get("SiteSource") == SESSION_LABEL:
            sites.add(row["site"])
    if len(sites) < 2:
        return []
    cause, remedy = sessions_as_sites(sorted(sites))
    return [f"{cause}; {remedy}, and run the participant level again"]
