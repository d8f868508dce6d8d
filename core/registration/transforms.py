"""Transforms of space as 4 x 4 matrices: rigid means, distances, and ITK's text files.

Every transform here maps points of the *fixed* image's world to points of the *moving* image's
world (RAS, mm), which is what `resampling.resample` takes to bring the moving image onto the fixed
one's grid.
"""

import numpy as np
from scipy.spatial.transform import Rotation

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's world has x to the left and y to the back


def rigid_mean(transforms):
    """Intrinsic mean of rigid transforms: the M with Σ log(M⁻¹ Tₖ) = 0.

    It does not depend on the origin of coordinates, nor on which of two directions transforms are
    given in.

    Parameters
    ----------
    transforms : sequence of ndarray, shape (4, 4)
        Rigid, their rotations within half a turn of one another.

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


def displacement(transform_a, transform_b, points):
    """Mean distance between where two transforms take points.

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


def rigid_log(transform):
    """Logarithm of a rigid transform: rotation vector (rad) and velocity (mm), shape (6,)."""
    turn = Rotation.from_matrix(transform[:3, :3]).as_rotvec()
    return np.concatenate([turn, np.linalg.solve(_drift(turn), transform[:3, 3])])


def rigid_exp(twist):
    """Rigid transform of a logarithm."""
    return about(
        np.zeros(3), Rotation.from_rotvec(twist[:3]).as_matrix(), _drift(twist[:3]) @ twist[3:]
    )


def _drift(turn):
    """Matrix that takes a steady velocity during a turn to the translation it ends in."""
    angle = np.linalg.norm(turn)
    cross = np.cross(np.eye(3), turn)  # as a matrix, turn × what it is applied to
    # The series' first terms are exact to 1e-16 below this angle, where the quotients lose digits.
    small = angle < 1e-4
    first = 0.5 - angle**2 / 24 if small else (1 - np.cos(angle)) / angle**2
    second = 1 / 6 - angle**2 / 120 if small else (angle - np.sin(angle)) / angle**3
    return np.eye(3) + first * cross + second * cross @ cross


def about(centre, linear, translation):
    """Linear map about a centre, then a translation, as a transform."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + translation - linear @ centre
    return matrix


def itk_text(matrix):
    """Write a transform as the text of an ITK transform file (``.txt``, ``.tfm``).

    Parameters
    ----------
    matrix : ndarray, shape (4, 4)
        From the fixed image's world to the moving one's in RAS mm, as registration finds it. ITK's
        transforms have the same direction, in LPS.

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
    lps = _LPS @ np.asarray(matrix, float) @ _LPS + 0.0  # no negative zeros
    numbers = " ".join(repr(float(v)) for v in [*lps[:3, :3].ravel(), *lps[:3, 3]])
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0.0 0.0 0.0\n"
    )


def read_itk_text(text):
    """Read the text of an ITK transform file with one affine or rigid transform given as a matrix.

    Parameters
    ----------
    text : str
        Of types ``AffineTransform`` and ``MatrixOffsetTransformBase`` in three dimensions.

    Returns
    -------
    ndarray, shape (4, 4)
        From the fixed image's world to the moving one's in RAS mm.

    Raises
    ------
    ValueError
        If it is no such text.
    """
    lines = [
        line.split(":", 1)
        for line in text.splitlines()
        if line.strip() and not line.startswith("#")
    ]
    if not text.startswith("#Insight Transform File V1.0") or any(len(line) < 2 for line in lines):
        raise ValueError(
            "this is not the text of an ITK transform file: it must begin with its header"
        )
    keys = [key.strip() for key, _ in lines]
    fields = {key.strip(): value.split() for key, value in lines}
    if sorted(keys) != ["FixedParameters", "Parameters", "Transform"]:
        raise ValueError(
            "the ITK file must hold one transform with its parameters and fixed parameters"
        )
    kind = " ".join(fields["Transform"])
    if kind.rsplit("_", 3)[0] not in (
        "AffineTransform",
        "MatrixOffsetTransformBase",
    ) or not kind.endswith("_3_3"):
        raise ValueError(
            f"the ITK file holds a transform of type {kind!r}; only affine ones of 3 dimensions "
            "are read"
        )
    parameters = np.array(fields["Parameters"], float)
    centre = np.array(fields["FixedParameters"], float)
    if parameters.shape != (12,) or centre.shape != (3,):
        raise ValueError(
            f"12 parameters and 3 fixed ones are needed, got {parameters.size} and {centre.size}"
        )
    return _LPS @ about(centre, parameters[:9].reshape(3, 3), parameters[9:]) @ _LPS
