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

# Names of the nuclei by the abbreviations of Pauli et al.; those that share a name become one
# region.
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
        What the atlas is called in sidecars: ``pauli2017``, or the file's name.
    labels : ndarray of int32, shape (u, v, w)
        0 is background; only named labels are there.
    affine : ndarray, shape (4, 4)
        From voxels to MNI mm.
    names : dict of int to str
        Name of each label; every name is there once.
    notes : tuple of str
        What the user should know.
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
        as of `labels.read_lookup`. Or ``pauli2017``: the subcortical nuclei of Pauli et al. in
        their deterministic version, which nilearn downloads once and keeps (CIT168 atlas in the
        space MNI152NLin2009cAsym). There the external and internal globus pallidus are one region,
        and so are the two parts of the substantia nigra.

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
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    require_content(path)
    if stem == path.name or not path.is_file():
        raise DatasetError(
            f"{path}: no atlas of this name and no such NIfTI file",
            f"give a label image in MNI space (.nii or .nii.gz), or {PAULI_2017}",
        )
    lookup = path.with_name(f"{stem}.tsv")
    if not exists(lookup):
        raise DatasetError(
            f"{path}: no lookup table that names its labels",
            f"add {lookup.name} beside it, with the columns index and name",
        )
    names, _ = read_lookup(lookup)
    labels, affine = _read_labels(path)
    return _named(path.name, labels, affine, names)


def load_mni_template(resolution: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load the T1-weighted MNI152 template without its skull, which nilearn carries along.

    Its space is that of the ICBM 2009 symmetric template. Atlases in the asymmetric one differ from
    it by a millimetre or so in places.

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
    """Download the deterministic atlas, or take what an earlier download left."""
    from nilearn.datasets import fetch_atlas_pauli_2017

    try:
        fetched = fetch_atlas_pauli_2017(atlas_type="deterministic", verbose=0)
    # Whatever hinders a download (OSError, of which those of requests are kinds) or what came is no
    # such file.
    except (OSError, ValueError, IndexError) as error:
        raise DatasetError(
            f"the atlas {PAULI_2017} cannot be downloaded ({error})",
            "run nilearn.datasets.fetch_atlas_pauli_2017("
            "atlas_type='deterministic') where there is a network and copy its folder "
            "nilearn_data, or give the path "
            "of a label image in MNI space with its lookup table",
        ) from error
    abbreviations = [name for name in fetched.labels if name != "Background"]
    labels, affine = _read_labels(Path(fetched.maps))
    regions = list(dict.fromkeys(PAULI_NAMES.get(name, name) for name in abbreviations))
    region_of = np.zeros(max(labels.max(), len(abbreviations)) + 1, np.int32)
    for index, name in enumerate(abbreviations, start=1):
        region_of[index] = regions.index(PAULI_NAMES.get(name, name)) + 1
    return _named(PAULI_2017, region_of[labels], affine, dict(enumerate(regions, start=1)))


def _read_labels(path):
    _, image, values = read_image(path, np.float64)
    if values.ndim != 3:
        raise DatasetError(f"{path}: {values.ndim} dimensions", "labels are one volume of three")
    if not np.isfinite(values).all() or (values != np.round(values)).any() or values.min() < 0:
        raise DatasetError(
            f"{path}: values that are no whole numbers from 0 on",
            "an atlas of probabilities is not read",
        )
    return values.astype(np.int32), image.affine


def _named(name, labels, affine, names):
    """The atlas with what has a name, after a look at whether there is any of it."""
    present = set(np.unique(labels).tolist()) - {0}
    if not present & set(names):
        raise DatasetError(
            f"{name}: none of the labels named in its table has a voxel",
            "check that they belong together",
        )
    unnamed = sorted(present - set(names))
    notes = ()
    if unnamed:
        listed = ", ".join(map(str, unnamed[:5])) + (", …" if len(unnamed) > 5 else "")
        notes = (f"{name}: labels without a name are left out ({listed})",)
        labels = np.where(np.isin(labels, list(names)), labels, 0)
    return Atlas(name, labels, affine, dict(names), notes)
