"""Read the two affine transforms (forms) of a NIfTI header, and choose the one that gives the
direction of B0.

Either form may map voxels to scanner coordinates, or to the coordinates of another image to which
the head was registered. B0 is along the third axis of scanner coordinates only.
"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError, SpatialImage

SCANNER = 1
MEANINGS = {0: "unknown", SCANNER: "scanner", 2: "aligned", 3: "Talairach", 4: "MNI", 5: "template"}
FORMS = ("sform", "qform")  # in order of precedence, as readers use the first that has a code


@dataclass(frozen=True)
class Form:
    """One of a header's forms.

    Attributes
    ----------
    name : {'sform', 'qform', 'none'}
        ``none`` if neither form has a code, so that readers assume an affine.
    code : int
        The target space: one of `MEANINGS`.
    affine : numpy.ndarray
        4 by 4, from voxels to mm; NaN if the header's quaternion is invalid.
    """

    name: str
    code: int
    affine: np.ndarray

    def __str__(self) -> str:
        if self.name == "none":
            return "neither form: the third axis of the voxels"
        return f"{self.name} (code {self.code}, {MEANINGS.get(self.code, 'unknown')})"


def header_forms(header: nib.Nifti1Header) -> tuple[Form, ...]:
    """Read the forms that have a nonzero code.

    Parameters
    ----------
    header : nibabel.Nifti1Header
        Header of a NIfTI-1 or NIfTI-2 image.

    Returns
    -------
    tuple of Form
        The sform first.
    """
    forms = []
    for name in FORMS:
        if header[f"{name}_code"] > 0:
            forms.append(_form(header, name))
    return tuple(forms)


def scanner_form(image: SpatialImage) -> Form:
    """Return the form that maps voxels to scanner coordinates, for the direction of B0 and the
    voxel size.

    Parameters
    ----------
    image : nibabel.spatialimages.SpatialImage
        An image; formats other than NIfTI have only the affine.

    Returns
    -------
    Form
        The form with code 1 (scanner). If both have it, the sform; the preflight checks report
        whether the qform differs. If none has it, the form that defines the image's affine.
    """
    forms = header_forms(image.header) if isinstance(image.header, nib.Nifti1Header) else ()
    for form in forms:
        if form.code == SCANNER:
            return form
    return forms[0] if forms else Form("none", 0, image.affine)


def _form(header, name):
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # of infinite or huge voxel sizes
            affine = getattr(header, f"get_{name}")()
    except (ValueError, HeaderDataError):  # the quaternion is not a rotation
        affine = np.full((4, 4), np.nan)
    return Form(name, int(header[f"{name}_code"]), affine)
