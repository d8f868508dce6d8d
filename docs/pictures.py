"""Draw the pictures of README and docs.

python docs/pictures.py demo DEMO_DIR
    From simulated scans in DEMO_DIR/raw and their maps in DEMO_DIR/derivatives, as multiqsm-demo
    writes them; for the pictures in docs, the scans are ideal (`python docs/tables.py
    demo-pictures`).

python docs/pictures.py study DERIVATIVES_DIR
    From the tables that the group level wrote of a simulated study, as of docs/reproducibility.md.

python docs/pictures.py studies STUDY_OUT PATIENTS_OUT
    Of docs/studies.md, from the derivatives of both studies.
"""

import argparse
import io
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from nibabel.processing import resample_from_to
from page_tables import raw_dataset

from multiqsm.dataset.tables import read_tsv
from multiqsm.interfaces.group_pictures import person_pictures, phantom_pictures
from multiqsm.pictures.agreement import imprecision_figure
from multiqsm.pictures.planes import fullest_level, mark_sides, tinted
from multiqsm.pictures.regional import age_figure, calibration_figure

DOCS = Path(__file__).parent
SITES = ("A", "B", "C")
SLICE_MM = 4.0  # height of the axial slice through the basal ganglia, scanner z
CHI_WINDOW = (-0.1, 0.15)  # ppm
FREESURFER = Path("derivatives", "freesurfer")
# Colour and numbers, left and right, of FreeSurfer's labels; the thalamus green, as in Chiang 2018.
LABEL_COLOURS = {
    "thalamus": ("#00a651", (10, 49)),
    "caudate nucleus": ("#7abadc", (11, 50)),
    "putamen": ("#ec0db0", (12, 51)),
    "globus pallidus": ("#ffd166", (13, 52)),
    "lateral ventricle": ("#8e44ad", (4, 43)),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", choices=["demo", "study", "studies"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("patients", type=Path, nargs="?", help="for studies: derivatives of 2018")
    options = parser.parse_args()
    if options.page == "demo":
        draw_three_sites(options.folder).savefig(
            DOCS / "three_sites.png", facecolor="black", dpi=80
        )
        draw_simulated_scans(options.folder).savefig(
            DOCS / "simulated_scans.png", facecolor="black", dpi=80
        )
        return
    for name, figure in draw_study(options.folder / "group").items():
        figure.savefig(DOCS / f"{options.page}_{name}.png", dpi=70)
    if options.page == "studies":
        for name, content in report_pictures(options.folder, options.patients).items():
            (DOCS / f"studies_{name}.png").write_bytes(content)


def report_pictures(study, patients):
    """The pictures that the reports of both studies show of a person, a phantom and a patient."""
    rois, tubes = (read_tsv(study / "group" / f"{name}_chi.tsv") for name in ("roi", "tubes"))
    sites, maps = person_pictures(study, rois)
    of_site = phantom_pictures(study, tubes)
    contents = {"sites": sites.content, "maps": maps.content, "tubes": of_site["A"].content}
    endings = {"lesions": "desc-lesions_mask", "fusion": "desc-regions_Chimap"}
    for name, ending in endings.items():
        pattern = f"sub-*/figures/*_space-FLAIR_{ending}.png"
        contents[name] = min(patients.glob(pattern)).read_bytes()
    drawn = io.BytesIO()
    draw_labels(raw_dataset(patients)).savefig(drawn, facecolor="black", dpi=80)
    contents["labels"] = drawn.getvalue()
    return contents


def draw_labels(raw):
    """The T1w image of the first patient with FreeSurfer's labels, in the axial plane with most
    of the thalamus.
    """
    path = min(raw.glob("sub-*/anat/*_T1w.nii.gz"))
    subject = path.name.split("_")[0]
    t1w = nib.as_closest_canonical(nib.load(path))
    aseg = nib.load(raw / FREESURFER / subject / "mri" / "aseg.mgz")
    labels = np.asarray(resample_from_to(aseg, t1w, order=0).dataobj)
    index = fullest_level(np.isin(labels, list(LABEL_COLOURS["thalamus"][1])), axis=2)
    values = t1w.get_fdata(dtype=np.float32)[:, :, index]
    zooms = t1w.header.get_zooms()[:2]
    window = (0, np.percentile(values[values > 0], 99.5))
    figure = Figure(figsize=(9, 6), layout="constrained")
    plain, labelled = figure.subplots(1, 2)
    show(plain, values, zooms, window, "T1w")
    show(labelled, values, zooms, window, "labels of FreeSurfer")
    handles = []
    for name, (colour, numbers) in LABEL_COLOURS.items():
        region = np.isin(labels[:, :, index], numbers)
        labelled.imshow(
            tinted(region.T[:, ::-1], colour), origin="lower", aspect=zooms[1] / zooms[0]
        )
        handles.append(Patch(facecolor=colour, label=name))
    for axis in (plain, labelled):
        mark_sides(axis, 2)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=5, frameon=False, labelcolor="white"
    )
    return figure


def draw_study(group):
    """The 2015 study's figures: imprecision of each person and region, the phantom, age."""
    tables = {path.stem: read_tsv(path) for path in group.glob("*.tsv")}
    return {
        "imprecision": imprecision_figure(tables["imprecision"], tables["within_versus_cross"]),
        "phantom": calibration_figure(tables["tubes_chi"], tables["calibration"]),
        "age": age_figure(
            tables["roi_chi"], tables["age"], tables["imprecision"], method="iterative"
        ),
    }


def draw_three_sites(demo):
    """One person's maps at three sites, by all inversions, beside the truth."""
    figure = Figure(figsize=(11, 12.8), layout="constrained")
    rows = {
        "MEDI": ("derivatives", "desc-medi_Chimap"),
        "iterative": ("derivatives", "desc-iterative_Chimap"),
        "deterministic": ("derivatives", "desc-deterministic_Chimap"),
        "truth": ("raw/derivatives/truth", "desc-truth_Chimap"),
    }
    for axes, (name, (folder, ending)) in zip(figure.subplots(4, 3), rows.items(), strict=True):
        for axis, site in zip(axes, SITES, strict=True):
            stem = f"sub-01_ses-{site}_run-1"
            anat = demo / folder / "sub-01" / f"ses-{site}" / "anat"
            chi, zooms = axial_slice(anat / f"{stem}_{ending}.nii.gz")
            mask, _ = axial_slice(
                demo
                / "derivatives"
                / "sub-01"
                / f"ses-{site}"
                / "anat"
                / f"{stem}_desc-brain_mask.nii.gz"
            )
            shown = np.where(mask > 0, chi - np.median(chi[mask > 0]), np.nan)
            drawn = show(axis, shown, zooms, CHI_WINDOW, f"site {site}, {name}")
    bar = figure.colorbar(drawn, ax=figure.axes, shrink=0.4, label="ppm")
    bar.ax.yaxis.label.set_color("white")
    bar.ax.tick_params(colors="white")
    return figure


def draw_simulated_scans(demo):
    """What the simulated scanners give: magnitude and phase of the last echo, and the true field
    and map.
    """
    figure = Figure(figsize=(13, 9.6), layout="constrained")
    for axes, site in zip(figure.subplots(3, 4), SITES, strict=True):
        raw = demo / "raw" / "sub-01" / f"ses-{site}" / "anat"
        truth = demo / "raw" / "derivatives" / "truth" / "sub-01" / f"ses-{site}"
        stem = f"sub-01_ses-{site}_run-1"
        magnitude, phase, zooms = last_echo(raw, stem)
        field, _ = axial_slice(next((truth / "fmap").glob(f"{stem}*desc-total_fieldmap.nii.gz")))
        chi, _ = axial_slice(truth / "anat" / f"{stem}_desc-truth_Chimap.nii.gz")
        show(
            axes[0],
            magnitude,
            zooms,
            (0, np.percentile(magnitude, 99.5)),
            f"site {site}: magnitude, last echo",
        )
        show(axes[1], phase, zooms, (-np.pi, np.pi), "phase, as the scanner has it")
        show(axes[2], field, zooms, (-60, 60), "true field, ±60 Hz")
        show(axes[3], chi, zooms, CHI_WINDOW, "true susceptibility")
    return figure


def last_echo(anat, stem):
    """Magnitude and phase (rad, sign as stored) of the last echo in the axial slice, whatever its
    encoding.
    """
    files = {
        part: sorted(anat.glob(f"{stem}_echo-*_part-{part}_MEGRE.nii.gz"))
        for part in ("mag", "phase", "real")
    }
    if files["mag"]:
        magnitude, zooms = axial_slice(files["mag"][-1])
        stored, _ = axial_slice(files["phase"][-1])
        return magnitude, (stored - 2048) * np.pi / 2048, zooms
    real, zooms = axial_slice(files["real"][-1])
    imaginary, _ = axial_slice(Path(str(files["real"][-1]).replace("part-real", "part-imag")))
    return np.hypot(real, imaginary), np.arctan2(imaginary, real), zooms


def axial_slice(path):
    """One slice in RAS+ orientation at the height of the basal ganglia, and its pixel size in
    mm.
    """
    image = nib.as_closest_canonical(nib.load(path))
    index = round((np.linalg.inv(image.affine) @ [0, 0, SLICE_MM, 1])[2])
    return image.get_fdata(dtype=np.float32)[:, :, index], image.header.get_zooms()[:2]


def show(axis, plane, zooms, window, title):
    """Draw a slice in radiological convention."""
    drawn = axis.imshow(
        plane.T[:, ::-1],
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        origin="lower",
        aspect=zooms[1] / zooms[0],
    )
    axis.set_title(title, color="white", fontsize=10)
    axis.axis("off")
    return drawn


if __name__ == "__main__":
    main()
