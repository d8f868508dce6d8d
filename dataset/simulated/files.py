"""Images and tables of a simulated dataset."""

import csv
import io

import nibabel as nib
import numpy as np

from ...simulation import head, phantom
from ..files import atomic_write, write_text


def write_table(path, rows):
    """Write a TSV table in one step.

    Parameters
    ----------
    path : pathlib.Path
        The table.
    rows : list of dict
        Rows, all with the same columns; None becomes ``n/a``.
    """
    lines = io.StringIO()
    writer = csv.DictWriter(lines, fieldnames=list(rows[0]), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: "n/a" if value is None else value for name, value in row.items()} for row in rows
    )
    write_text(path, lines.getvalue())


def write_image(path, data, affine):
    """Write an image in scanner coordinates, in one step; the same voxels give the same bytes."""
    image = nib.Nifti1Image(np.ascontiguousarray(data), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    with atomic_write(path) as partial:
        nib.save(image, partial)


def lookup_table(plan):
    """Rows of the table of labels; a phantom's tubes have a susceptibility to calibrate with."""
    if plan.participant.model == "head":
        return [{"index": index, "name": name} for index, name in head.label_names().items()]
    chi = dict(enumerate(phantom.TUBE_SUSCEPTIBILITY, start=1))
    names = phantom.label_names().items()
    return [
        {"index": index, "name": name, "susceptibility_ppm": chi.get(index)}
        for index, name in names
    ]
