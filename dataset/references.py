"""Check before any work that a reference region can exist."""

from collections.abc import Iterable
from pathlib import Path

from .anatomy import ASEG_NAMES
from .atlas import atlas_names
from .files import PathLike
from .labels import ATRIUM, read_lookup, without_side
from .problems import DatasetError

#: References that need no label of their name.
WITHOUT_LABEL = ("brain", "csf", ATRIUM)


def check_reference(
    reference: str, *, atlas: PathLike | None, datasets: Iterable[PathLike]
) -> None:
    """Raise an error if no label of any subject can have the name of the reference.

    Labels are those of the atlas, of drawn regions in any derivative dataset, and of FreeSurfer's
    segmentation. Whether a subject has the label becomes known when its regions are resampled.

    Parameters
    ----------
    reference : str
        Name of the reference region.
    atlas : str or path-like, optional
        As of `multiqsm.dataset.atlas.load_atlas`.
    datasets : iterable of path-like
        Roots of derivative datasets.

    Raises
    ------
    DatasetError
        If the name is neither a label's nor one of `WITHOUT_LABEL`.

    Examples
    --------
    >>> check_reference("csf", atlas=None, datasets=[])
    """
    if reference in WITHOUT_LABEL or reference.lower() == "csf":
        return
    names = set(ASEG_NAMES.values())
    if atlas is not None:
        names.update(atlas_names(atlas))
    drawn: set[str] = set()
    for dataset in datasets:
        for lookup in sorted(Path(dataset).rglob("*dseg.tsv")):
            try:
                drawn.update(read_lookup(lookup)[0].values())
            except DatasetError:
                return  # the check of regions reports this table, which might have the label
    names |= drawn
    if reference in names or reference in {without_side(name) for name in names}:
        return
    listed = ", ".join(sorted(drawn)) or "there are none"
    raise DatasetError(
        f"--reference {reference}: no drawn region, no region of the atlas and none of FreeSurfer "
        f"has this name (drawn regions: {listed})",
        f"use {', '.join(WITHOUT_LABEL)}, or the name of a label",
    )
