"""Planes of volumes, as readers of scans know them: left of the picture is the patient's right, or
the head's back.
"""

import numpy as np

from .drawing import GREY

CHI_WINDOW = (-0.1, 0.15)  # ppm


def check_shapes(volumes, mask):
    """Refuse volumes that cannot be shown together with a mask.

    Parameters
    ----------
    volumes : dict of str to ndarray, shape (x, y, z)
        By their titles.
    mask : ndarray of bool, shape (x, y, z)

    Raises
    ------
    ValueError
        If there is no volume, a shape differs from the mask's, or the mask is empty.
    """
    if not volumes:
        raise ValueError("there is no map to draw")
    for title, values in volumes.items():
        if values.shape != mask.shape:
            raise ValueError(
                f"{title!r} has the shape {values.shape} and the mask {mask.shape}: resample one "
                "of them"
            )
    if not mask.any():
        raise ValueError("the mask is empty")


def bounding_box(volumes, mask):
    """Box around a mask, as slices; raises as `check_shapes` does."""
    check_shapes(volumes, mask)
    extents = (levels_of(mask, axis) for axis in range(3))
    return tuple(slice(extent[0], extent[-1] + 1) for extent in extents)


def levels_of(region, axis):
    """Indices along an axis of the planes that meet a region, in order."""
    return np.flatnonzero(region.any(axis=tuple(a for a in range(3) if a != axis)))


def plane_at(values, plane, voxel_size, share):
    """A plane at a share of the volume's extent, as of `slice_of`."""
    return slice_of(values, plane, voxel_size, int(share * (values.shape[plane] - 1)))


def slice_of(values, plane, voxel_size, index):
    """A plane of a volume as a picture.

    Parameters
    ----------
    values : ndarray, shape (x, y, z)
        In RAS+ orientation.
    plane : int
        Axis that the plane is perpendicular to.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    index : int
        Where along that axis.

    Returns
    -------
    picture : ndarray
        Its first row is the lowest; left is the patient's right, or the back of the head in
        sagittal planes.
    aspect : float
        Height of a pixel over its width.
    """
    picture = np.take(values, index, axis=plane).T
    spacing = [v for axis, v in enumerate(voxel_size) if axis != plane]
    return picture if plane == 0 else picture[:, ::-1], spacing[1] / spacing[0]


def add_bar(figure, image, axes, unit, shrink):
    """Put a colour bar below axes of a black figure, so much shorter than these."""
    bar = figure.colorbar(
        image, ax=axes, orientation="horizontal", shrink=shrink, aspect=30, pad=0.02
    )
    bar.set_label(unit, color="white", fontsize=9)
    bar.ax.tick_params(colors="white", labelsize=8)
    bar.outline.set_edgecolor(GREY)
