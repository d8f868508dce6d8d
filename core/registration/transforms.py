"""Affine and rigid transforms as 4 x 4 matrices: means, distances, and ITK's text files.

A transform maps points of the *fixed* image's world to points of the *moving* image's world (RAS,
mm). `resampling.resample` needs this direction to resample the moving image on the fixed image's
grid.
"""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's x axis points left and its y axis backwards
_ITK_HEADER = "#Insight Transform File V1.0"
_ITK_KEYS = ["FixedParameters", "Parameters", "Transform"]


def rigid_mean(transforms: Sequence[np.ndarray]) -> np.ndarray:
    """Return the intrinsic mean of rigid transforms: the M with Σ log(M⁻¹ Tₖ) = 0.

    It does not depend on the origin of coordinates. The mean of the inverse transforms is the
    inverse of the mean.

    Parameters
    ----------
    transforms : sequence of ndarray, shape (4, 4)
        Rigid transforms whose rotations differ by less than 180 degrees.

    Returns
    -------
    ndarray, shape (4, 4)

    References
    ----------
    Pennec & Arsigny, in: Matrix Information Geometry (2013), pp. 123-166, algorithm 1.
    """
    mean = np.array(transforms[0], float)
    for _ in range(50):
        step = np.mean([rigid_log(np.linalg.inv(mean) @ t) for t in transforms], axis=0)
        mean = mean @ rigid_exp(step)
        if np.abs(step).max() < 1e-9:
            break
    return mean


def displacement(transform_a: np.ndarray, transform_b: np.ndarray, points: np.ndarray) -> float:
    """Return the mean distance between the images of points under two transforms.

    Parameters
    ----------
    transform_a, transform_b : ndarray, shape (4, 4)
        mm.
    points : ndarray, shape (n, 3)
        mm.

    Returns
    -------
    float
        mm.

    Examples
    --------
    >>> displacement(np.eye(4), np.diag([2.0, 1, 1, 1]), np.array([[0.0, 5, 5], [3, 0, 0]]))
    1.5
    """
    difference = np.asarray(transform_a) - np.asarray(transform_b)
    return float(np.linalg.norm(points @ difference[:3, :3].T + difference[:3, 3], axis=1).mean())


def rigid_log(transform: np.ndarray) -> np.ndarray:
    """Return the logarithm of a rigid transform.

    It is a rotation vector (rad) and a velocity (mm), shape (6,).
    """
    rotation = Rotation.from_matrix(transform[:3, :3]).as_rotvec()
    velocity = np.linalg.solve(_left_jacobian(rotation), transform[:3, 3])
    return np.concatenate([rotation, velocity])


def rigid_exp(logarithm: np.ndarray) -> np.ndarray:
    """Return the rigid transform, shape (4, 4), that has a logarithm; see `rigid_log`."""
    rotation = logarithm[:3]
    translation = _left_jacobian(rotation) @ logarithm[3:]
    return affine_about(np.zeros(3), Rotation.from_rotvec(rotation).as_matrix(), translation)


def _left_jacobian(rotation):
    """Return the left Jacobian of a rotation vector, shape (3, 3).

    A body that rotates at a constant rate and moves at a velocity that is constant in its own axes
    follows an arc. The matrix maps that velocity to the translation at the end of the arc.
    """
    angle = np.linalg.norm(rotation)
    cross = np.cross(np.eye(3), rotation)  # the matrix that maps v to rotation × v
    # Below this angle the quotients lose digits by cancellation, and two terms of their Taylor
    # series are exact to 1e-16.
    small = angle < 1e-4
    first = 0.5 - angle**2 / 24 if small else (1 - np.cos(angle)) / angle**2
    second = 1 / 6 - angle**2 / 120 if small else (angle - np.sin(angle)) / angle**3
    return np.eye(3) + first * cross + second * cross @ cross


def affine_about(centre: np.ndarray, linear: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return the transform that applies a linear map about a centre, then a translation."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + translation - linear @ centre
    return matrix


def itk_text(matrix: np.ndarray) -> str:
    """Return a transform as the text of an ITK transform file (``.txt``, ``.tfm``).

    Parameters
    ----------
    matrix : ndarray, shape (4, 4)
        From the fixed image's world to the moving image's world in RAS mm, the direction of all
        registrations in this package. ITK's transforms have the same direction, in LPS.

    Returns
    -------
    str

    Examples
    --------
    >>> shift = np.eye(4)
    >>> shift[:3, 3] = 1, 2, 3
    >>> itk_text(shift).splitlines()[3]
    'Parameters: 1.0 0.0 0.0 0.0 1.0 0.0 0.0 0.0 1.0 -1.0 -2.0 3.0'
    """
    lps = _FROM_LPS @ np.asarray(matrix, float) @ _FROM_LPS + 0.0  # + 0.0: no negative zeros
    parameters = np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]])
    numbers = " ".join(map(repr, parameters.tolist()))
    return (
        f"{_ITK_HEADER}\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0.0 0.0 0.0\n"
    )


def read_itk_text(text: str) -> np.ndarray:
    """Read the text of an ITK transform file with one affine or rigid transform.

    Parameters
    ----------
    text : str
        The transform must be of type ``AffineTransform`` or ``MatrixOffsetTransformBase`` in three
        dimensions, which hold a matrix.

    Returns
    -------
    ndarray, shape (4, 4)
        From the fixed image's world to the moving image's world in RAS mm.

    Raises
    ------
    ValueError
        If the text is not of this form.
    """
    if not text.startswith(_ITK_HEADER):
        raise ValueError(f"this is not an ITK transform file, which begins with {_ITK_HEADER!r}")
    keys = []
    values = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        if not colon:
            raise ValueError(
                f"this is not an ITK transform file: its line {line!r} is not of the form "
                "'key: value'"
            )
        keys.append(key.strip())
        values.append(value.split())
    if sorted(keys) != _ITK_KEYS:
        raise ValueError(
            "the ITK transform file must hold exactly one transform with the lines "
            f"{', '.join(_ITK_KEYS)}; it has {', '.join(keys) or 'none'}"
        )
    fields = dict(zip(keys, values, strict=True))
    transform_type = " ".join(fields["Transform"])
    family = transform_type.rsplit("_", 3)[0]
    if family not in (
        "AffineTransform",
        "MatrixOffsetTransformBase",
    ) or not transform_type.endswith("_3_3"):
        raise ValueError(
            f"the ITK transform file holds a transform of type {transform_type!r}; only affine "
            "transforms in 3 dimensions can be read"
        )
    parameters = np.array(fields["Parameters"], float)
    centre = np.array(fields["FixedParameters"], float)
    if parameters.shape != (12,) or centre.shape != (3,):
        raise ValueError(
            "the ITK transform file must have 12 parameters and 3 fixed parameters, not "
            f"{parameters.size} and {centre.size}"
        )
    lps = affine_about(centre, parameters[:9].reshape(3, 3), parameters[9:])
    return _FROM_LPS @ lps @ _FROM_LPS
