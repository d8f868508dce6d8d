"""Atlases of the deep brain in MNI space, and the MNI152 template that subjects are registered
to.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .content import exists, require_content
from .files import PathLike
from .images import read_image
from .labels import read_lookup
from .problems import DatasetError

PAULI_2017 = "pauli2017"

# Names of the nuclei by the abbreviations of Pauli et al.; nuclei with the same name are merged.
PAULI_NAMES = {
    "Pu": "putamen",
    "Ca": "caudate_nucleus",
    "NAC": "nucleus_accumbens",
    "EXA": "extended_amygdala",
    "GPe": "globus_pallidus",
    "GPi": "globus_pallidus",
    "SNc": "substantia_nigra",
    "RN": "red_nucleus",
    "SNr": "substantia_nigra",
    "PBP": "parabrachial_pigmented_nucleus",
    "VTA": "ventral_tegmental_area",
    "VeP": "ventral_pallidum",
    "HN": "habenular_nuclei",
    "HTH": "hypothalamus",
    "MN": "mammillary_nucleus",
    "STH": "subthalamic_nucleus",
}


@dataclass(frozen=True)
class Atlas:
    """Labels in MNI space.

    Attributes
    ----------
    name : str
        Name of the atlas in sidecars: ``pauli2017``, or the file's name.
    labels : ndarray of int32, shape (u, v, w)
        0 is background; labels without a name are 0.
    affine : ndarray, shape (4, 4)
        From voxels to MNI mm.
    names : dict of int to str
        Name of each label; names are unique.
    notes : tuple of str
        Remarks for the user.
    """

    name: str
    labels: np.ndarray
    affine: np.ndarray
    names: dict[int, str]
    notes: tuple[str, ...] = ()


def load_atlas(name_or_path: PathLike) -> Atlas:
    """Load an atlas of regions in MNI space.

    Parameters
    ----------
    name_or_path : str or path-like
        A label image in MNI space (NIfTI) with its lookup table, a TSV of the same name beside it,
        as for `multiqsm.dataset.labels.read_lookup`. Or ``pauli2017``: the deterministic version of
        the subcortical atlas of Pauli et al. (CIT168, in the space MNI152NLin2009cAsym), which
        nilearn downloads once and caches. Here the external and internal globus pallidus are
        merged, and so are the two parts of the substantia nigra.

    Returns
    -------
    Atlas

    Raises
    ------
    DatasetError
        If there is no such file or table, they cannot be used, or the download fails.

    References
    ----------
    Pauli et al., Sci Data 5:180063 (2018).
    """
    if str(name_or_path) == PAULI_2017:
        return _fetch_pauli()
    path = Path(name_or_path)
    names = _names_in(path)
    labels, affine = _read_labels(path)
    return _select_named(path.name, labels, affine, names)


def atlas_names(name_or_path: PathLike) -> tuple[str, ...]:
    """Return the names of an atlas's regions, without download and without reading its image.

    Parameters
    ----------
    name_or_path : str or path-like
        As of `load_atlas`.

    Returns
    -------
    tuple of str

    Raises
    ------
    DatasetError
        If there is no such atlas, image or table, or the table cannot be used.
    """
    if str(name_or_path) == PAULI_2017:
        return tuple(dict.fromkeys(PAULI_NAMES.values()))
    return tuple(_names_in(Path(name_or_path)).values())


def _names_in(path):
    """Return the names of an atlas in a file; raise an error if it has no image or no table."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    require_content(path)
    if stem == path.name or not path.is_file():
        raise DatasetError(
            f"{path}: no atlas of this name and no such NIfTI file",
            f"specify a label image in MNI space (.nii or .nii.gz), or {PAULI_2017}",
        )
    lookup = path.with_name(f"{stem}.tsv")
    if not exists(lookup):
        raise DatasetError(
            f"{path}: no lookup table that names its labels",
            f"add {lookup.name} beside it, with the columns index and name",
        )
    names, _ = read_lookup(lookup)
    return names


def load_mni_template(resolution: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load the skull-stripped T1-weighted MNI152 template that is included in nilearn.

    Its space is that of the symmetric ICBM 2009 template, which locally differs by about a
    millimetre from the asymmetric template that some atlases use.

    Parameters
    ----------
    resolution : int
        Voxel size, mm.

    Returns
    -------
    t1 : ndarray of float32, shape (u, v, w)
    affine : ndarray, shape (4, 4)
        From voxels to MNI mm.
    mask : ndarray of bool, shape (u, v, w)
        Of the brain.
    """
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    image = load_mni152_template(resolution=resolution)
    mask = np.asarray(load_mni152_brain_mask(resolution=resolution).dataobj) > 0
    return image.get_fdata(dtype=np.float32), image.affine, mask


def _fetch_pauli():
    """Download the deterministic atlas, or use nilearn's copy from an earlier download."""
    from nilearn.datasets import fetch_atlas_pauli_2017

    try:
        fetched = fetch_atlas_pauli_2017(atlas_type="deterministic", verbose=0)
    # Errors of requests are OSErrors; the others arise if what was downloaded is not the atlas.
    except (OSError, ValueError, IndexError) as error:
        raise DatasetError(
            f"the atlas {PAULI_2017} cannot be downloaded ({error})",
            "run nilearn.datasets.fetch_atlas_pauli_2017(atlas_type='deterministic') on a computer "
            "with internet access and copy its folder nilearn_data, or specify the path of a label "
            "image in MNI space with its lookup table",
        ) from error
    labels, affine = _read_labels(Path(fetched.maps))
    names = [PAULI_NAMES.get(name, name) for name in fetched.labels if name != "Background"]
    regions = list(dict.fromkeys(names))
    region_of = np.zeros(max(labels.max(), len(names)) + 1, np.int32)
    for index, name in enumerate(names, start=1):
        region_of[index] = regions.index(name) + 1
    return _select_named(PAULI_2017, region_of[labels], affine, dict(enumerate(regions, start=1)))


def _read_labels(path):
    _, image, values = read_image(path, np.float64)
    if values.ndim != 3:
        raise DatasetError(f"{path}: {values.ndim} dimensions", "save the labels as one 3-D volume")
    if not np.isfinite(values).all() or (values != np.round(values)).any() or values.min() < 0:
        raise DatasetError(
            f"{path}: some values are not whole numbers of 0 or more",
            "use a label image; atlases of probabilities are not supported",
        )
    return values.astype(np.int32), image.affine


def _select_named(name, labels, affine, names):
    """Return the atlas with the labels that have a name; raise an error if there are none."""
    present = set(np.unique(labels).tolist()) - {0}
    if not present & set(names):
        raise DatasetError(
            f"{name}: none of the labels in its table has a voxel",
            "check that image and table belong together",
        )
    unnamed = sorted(present - set(names))
    notes = ()
    if unnamed:
        listed = ", ".join(map(str, unnamed[:5])) + (", …" if len(unnamed) > 5 else "")
        notes = (f"{name}: labels without a name are ignored ({listed})",)
        labels = np.where(np.isin(labels, list(names)), labels, 0)
    return Atlas(name, labels, affine, dict(names), notes)
