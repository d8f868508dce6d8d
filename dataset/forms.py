"""Where a NIfTI header says that voxels lie: its two forms, and which of them tells the direction
of B0.

Either form may lead to the scanner's millimetres, or to those of another image, after a
registration has turned the head there. B0 stays where it was: along the third axis of the form that
is marked as the scanner's.
"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError, SpatialImage

SCANNER = 1
MEANINGS = {0: "unknown", SCANNER: "scanner", 2: "aligned", 3: "Talairach", 4: "MNI", 5: "template"}
FORMS = ("sform", "qform")  # readers take the first that has a code


@dataclass(frozen=True)
class Form:
    """One of a header's forms.

    Attributes
    ----------
    name : {'sform', 'qform', 'none'}
        ``none`` is the guess of readers where neither has a code.
    code : int
        What the form leads to: one of `MEANINGS`.
    affine : numpy.ndarray
        4 by 4, voxel to mm; NaN if the header holds no rotation.
    """

    name: str
    code: int
    affine: np.ndarray

    def __str__(self) -> str:
        if self.name == "none":
            return "neither form: the third axis of the voxels"
        return f"{self.name} (code {self.code}, {MEANINGS.get(self.code, 'unknown')})"


def header_forms(header: nib.Nifti1Header) -> tuple[Form, ...]:
    """Read the forms that have a code.

    Parameters
    ----------
    header : nibabel.Nifti1Header
        Of NIfTI-1 or 2.

    Returns
    -------
    tuple of Form
        The sform first.
    """
    return tuple(_form(header, name) for name in FORMS if header[f"{name}_code"] > 0)


def scanner_form(image: SpatialImage) -> Form:
    """The form that tells where voxels lie in the scanner, and with them the direction of B0 and
    the voxel size.

    Parameters
    ----------
    image : nibabel.spatialimages.SpatialImage
        An image; one that is no NIfTI has its affine alone.

    Returns
    -------
    Form
        The one with code 1; if both have it the sform, which the checks before a run compare with
        the qform. If none has it, the one that the image's affine is taken from.
    """
    forms = header_forms(image.header) if isinstance(image.header, nib.Nifti1Header) else ()
    marked = [form for form in forms if form.code == SCANNER]
    return next(iter([*marked, *forms]), Form("none", 0, image.affine))


def _form(header, name):
    try:
        affine = getattr(header, f"get_{name}")()
    except (ValueError, HeaderDataError):  # a quaternion that is none
        affine = np.full((4, 4), np.nan)
    return Form(name, int(header[f"{name}_code"]), affine)
