"""The subject level from a person's derivatives: one space, one reference, the regions of one scan
on all of them.
"""

import base64
import json
import re
import shutil
from collections import namedtuple
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.analytic_head import points_of
from helpers.analytic_head import scan as head_scan
from helpers.datasets import validator_findings
from helpers.travelling import (
    CSF_CHI,
    DRAWN_RADIUS,
    NUCLEI,
    NUCLEI_R2STAR,
    POSES,
    R2STAR,
    SHAPE,
    TUBES,
    VENTRICLES,
    affine_of,
    csf_fraction,
    draw_regions,
    head_points,
    magnitude_of,
    susceptibility,
    voxel_means,
    write_phantom,
    write_processed,
    write_raw,
)
from PIL import Image

from multiqsm.cli.app import main
from multiqsm.cohort.roi_tables import read_roi_table
from multiqsm.core.registration.transforms import displacement, read_itk_text
from multiqsm.dataset.entities import SCAN_ENTITIES
from multiqsm.dataset.labels import read_lookup
from multiqsm.dataset.names import (
    MAGNITUDE,
    MAPS,
    REFERENCE,
    REGIONS,
    REGISTRATION,
    ROIS,
    SITES,
    picture_path,
    variability_map,
)
from multiqsm.dataset.subjects import collect_subjects
from multiqsm.dataset.tables import read_tsv
from multiqsm.execution.plugins import Runner
from multiqsm.execution.progress import Progress
from multiqsm.execution.run import configure_nipype, run_workflow
from multiqsm.interfaces.reports import SubjectReport
from multiqsm.workflows.settings import Settings
from multiqsm.workflows.subjects import init_subjects_wf

pytestmark = pytest.mark.slow

METHODS = ("deterministic",)
PLACES = {"ses-A_run-1": 0, "ses-A_run-2": 1, "ses-B_run-1": 2}  # and B's second scan is noise
EXPECTED = {name: value - CSF_CHI for name, (_, value) in NUCLEI.items()}  # ppm, relative to CSF
SPACE = "bids::sub-01/anat/sub-01_space-subject_desc-average_T2starw.nii.gz"
# The balls that are measured lie inside balls of constant susceptibility; at the sharp edges of
# these a cubic spline rings by some 2 %.
RINGING = 0.003  # ppm
RINGING_R2STAR = 0.04  # of a nucleus's difference from the tissue around it
Study = namedtuple("Study", "out rater work scans")
Run = namedtuple("Run", "out codes printed errors")


def run_level(study, excluded_scans=(), **choices):
    """Run the subject level; return what failed."""
    configure_nipype(study.work)
    subjects, left_out = collect_subjects(
        study.scans,
        study.out,
        methods=METHODS,
        datasets=[study.rater],
        excluded_scans=excluded_scans,
        needs_atria=True,
    )
    assert left_out == []
    settings = Settings(inversions=METHODS, **choices)
    workflow = init_subjects_wf(
        subjects, output_dir=study.out, work_dir=study.work, settings=settings
    )
    return run_workflow(workflow, Runner("Linear", {}), callback=Progress.of(workflow, "subjects"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three scans at two sites in three poses, with regions drawn on the first, and a scan that is
    noise.
    """
    root = tmp_path_factory.mktemp("subject")
    out = root / "out"
    rater = root / "rater"
    scans = []
    for name, place in PLACES.items():
        session, run = name.removeprefix("ses-").split("_run-")
        scans.append(write_processed(out, session, run, place))
    noise = np.random.default_rng(0).uniform(50, 100, SHAPE)
    scans.append(write_processed(out, "B", "2", 3, magnitude=noise))
    draw_regions(rater, "A", "1", 0)
    study = Study(out, rater, root / "work", scans)
    assert run_level(study) == []
    return study


@pytest.fixture
def copied(study, tmp_path):
    """A copy of the study. It shares the intermediate files of the first run, so that unchanged
    nodes do not run again.
    """
    for folder in ("out", "rater"):
        shutil.copytree(getattr(study, folder), tmp_path / folder)
    return study._replace(out=tmp_path / "out", rater=tmp_path / "rater")


def anat(study, name, ending):
    return study.out / "sub-01" / name.split("_")[0] / "anat" / f"sub-01_{name}_{ending}"


def read_sidecar(path):
    return json.loads(path.with_name(path.name.split(".")[0] + ".json").read_text())


def means(study, name):
    return read_roi_table(anat(study, name, "desc-rois_chi.tsv")).set_index("roi")["mean"]


def test_regions_of_the_first_scan_are_measured_on_all(study):
    for name in PLACES:
        table = read_roi_table(anat(study, name, "desc-rois_chi.tsv")).set_index("roi")
        for roi, expected in EXPECTED.items():
            assert table.loc[roi, "mean"] == pytest.approx(expected, abs=RINGING), name
        assert (table["reference"] == "csf").all()
        assert (table["unit"] == "ppm").all()
        session, run = name.removeprefix("ses-").split("_run-")
        assert (table["session"] == session).all()
        assert (table["site"] == session).all()
        assert (table["run"] == run).all()
        assert (table["scan"] == int(run)).all()
        assert (table["n_voxels"] > 10).all()
        assert table["se"].isna().all()  # these maps have no standard errors
    sidecar = read_sidecar(anat(study, "ses-A_run-1", "desc-rois_chi.tsv"))
    assert sidecar["mean"]["Units"] == "ppm"
    assert sidecar["ReferenceSource"] == "found by R2* and position"
    assert "expected" not in sidecar


def r2star_table(study, name):
    return read_tsv(anat(study, name, "desc-rois_R2starmap.tsv")).set_index("roi")


def check_r2star(study):
    """Check that every scan's table has the nuclei's R2*, in the voxels of susceptibility."""
    for name in PLACES:
        table = r2star_table(study, name)
        for roi, expected in NUCLEI_R2STAR.items():
            tolerance = RINGING_R2STAR * (expected - R2STAR["tissue"])
            for statistic in ("mean", "median"):
                value = table.loc[roi, statistic]
                assert value == pytest.approx(expected, abs=tolerance), (name, roi, statistic)
        assert (table["unit"] == "1/s").all()
        chi = read_roi_table(anat(study, name, "desc-rois_chi.tsv")).set_index("roi")
        shared = ["subject", "session", "run", "site", "scan", "echo_times", "voxel_size"]
        shared += ["n_voxels", "volume", "n_excluded"]
        pd.testing.assert_frame_equal(table[shared], chi[shared])


def test_r2star_of_regions_is_measured_in_the_same_voxels(study):
    check_r2star(study)
    assert not anat(study, "ses-B_run-2", "desc-rois_R2starmap.tsv").exists()
    path = anat(study, "ses-B_run-1", "desc-rois_R2starmap.tsv")
    sidecar = read_sidecar(path)
    assert sidecar["mean"] == {"Description": "Mean R2* of the region", "Units": "1/s"}
    assert sidecar["RegionsFrom"] == "sub-01_ses-A_run-1_desc-rois_dseg.nii.gz"
    assert sidecar["MethodSteps"] == ["roi_r2star", "regions_drawn"]
    # The labels of the file name are not described: pybids would take them for its entities.
    assert set(read_tsv(path)) - set(SCAN_ENTITIES) <= set(sidecar)


def test_r2star_of_regions_in_the_space_of_each_scan(copied):
    """Voxels of a scan are means over the edges of the nuclei, and nothing is interpolated. Veins
    that are left out are those of the susceptibility map.
    """
    assert run_level(copied, roi_space="scan", exclude_veins=True) == []
    check_r2star(copied)


def test_scan_without_r2star_map_has_no_table_of_it(copied):
    """The table of an earlier run is removed. Susceptibility hardly changes: one map fewer helps to
    find the CSF.
    """
    before = {name: means(copied, name) for name in PLACES}
    anat(copied, "ses-A_run-2", "R2starmap.nii.gz").unlink()
    assert run_level(copied) == []
    for ending in ("tsv", "json"):
        assert not anat(copied, "ses-A_run-2", f"desc-rois_R2starmap.{ending}").exists()
    for name, values in before.items():
        np.testing.assert_allclose(means(copied, name), values, atol=1e-4)  # ppm
    assert len(r2star_table(copied, "ses-A_run-1")) == len(NUCLEI)
    for name in ("ses-A_run-1", "ses-B_run-1"):
        anat(copied, name, "R2starmap.nii.gz").unlink()
    anat(copied, "ses-B_run-2", "R2starmap.nii.gz").unlink()
    assert run_level(copied, reference="brain") == []
    assert not list(copied.out.glob("sub-01/**/*desc-rois_R2starmap.*"))
    assert len(means(copied, "ses-A_run-1")) == len(NUCLEI)


def test_map_in_the_subject_space_has_its_reference_in_the_sidecar(study):
    for name, place in PLACES.items():
        path = anat(study, name, "space-subject_desc-deterministic_Chimap.nii.gz")
        sidecar = read_sidecar(path)
        mask = magnitude_of(place)[1]
        assert sidecar["ReferenceRegion"] == "csf"
        assert sidecar["ReferenceOffsetOver"] == "mean of the whole mask"
        # The native map is relative to its mask's mean, so the offset is CSF's susceptibility less
        # that of the mask.
        of_mask = voxel_means(susceptibility, place)[mask].mean()
        assert sidecar["ReferenceOffset"] == pytest.approx(CSF_CHI - of_mask, abs=0.001)
        assert sidecar["ReferenceStandardDeviation"] < 0.003
        assert sidecar["ReferenceVoxels"] > 20
        assert sidecar["SpatialReference"] == SPACE
        assert (
            f"bids::{path.relative_to(study.out).parent}/sub-01_{name}_desc-deterministic_Chimap.nii.gz"
            in (sidecar["Sources"])
        )
    average = study.out / "sub-01" / "anat" / "sub-01_space-subject_desc-average_T2starw.nii.gz"
    assert nib.load(average).shape == nib.load(path).shape


def test_native_maps_stay_relative_to_the_whole_mask(study):
    for name, place in PLACES.items():
        path = anat(study, name, "desc-deterministic_Chimap.nii.gz")
        mask = magnitude_of(place)[1]
        assert nib.load(path).get_fdata()[mask].mean() == pytest.approx(0, abs=1e-6)
        assert read_sidecar(path)["ReferenceRegion"] == "mean of the whole mask"


def test_transforms_are_itk_text_and_agree_with_the_poses(study):
    matrices = {}
    for name, place in PLACES.items():
        path = anat(study, name, "from-scan_to-subject_mode-image_xfm.txt")
        text = path.read_text()
        assert text.startswith("#Insight Transform File")
        matrices[place] = read_itk_text(text)
    brain = points_of(affine_of(0), magnitude_of(0)[1])
    for place in (1, 2):
        between = matrices[place] @ np.linalg.inv(matrices[0])
        assert displacement(between, POSES[place], brain) < 0.2


def test_scan_that_cannot_be_registered_does_not_affect_the_others(study):
    table = registration(study)
    assert table["session"].tolist() == ["A", "A", "B", "B"]
    assert table["run"].tolist() == ["1", "2", "1", "2"]
    assert table["cause"].notna().tolist() == [False, False, False, True]
    assert table["translation"].notna().tolist() == [True, True, True, False]
    assert (table["displacement"][:3] < 0.2).all()
    descriptions = read_sidecar(study.out / "sub-01/anat/sub-01_desc-registration_xfm.tsv")
    assert set(descriptions) == set(table)
    for ending in ("desc-rois_chi.tsv", "space-subject_desc-deterministic_Chimap.nii.gz"):
        assert not anat(study, "ses-B_run-2", ending).exists()


def test_variability_maps(study):
    folder = study.out / "sub-01"
    mask = nib.load(folder / "anat" / "sub-01_space-subject_desc-brain_mask.nii.gz").get_fdata() > 0
    regions = nib.load(folder / "anat" / "sub-01_space-subject_desc-rois_dseg.nii.gz")
    for kind in ("within", "across"):
        name = f"sub-01_space-subject_desc-deterministic{kind}sd_Chimap"
        deviation = nib.load(folder / "anat" / f"{name}.nii.gz").get_fdata()
        # The scans are the same head without noise; at the nuclei's surface they differ by
        # interpolation.
        assert np.nanmedian(deviation[mask]) < 0.001
        assert np.nanmax(deviation[regions.get_fdata() > 0]) < 0.01
        sidecar = read_sidecar(folder / "anat" / name)
        assert sidecar["Units"] == "ppm"
        assert sidecar["SpatialReference"] == SPACE
        assert (folder / "figures" / f"{name}.png").stat().st_size > 1000


def test_subject_space_is_saved_with_its_regions(study):
    folder = study.out / "sub-01" / "anat"
    stem = "sub-01_space-subject_desc"
    dseg = nib.load(folder / f"{stem}-rois_dseg.nii.gz")
    assert dseg.get_data_dtype().kind == "i"
    assert read_lookup(folder / f"{stem}-rois_dseg.tsv")[0] == dict(enumerate(NUCLEI, start=1))
    for name in ("average_T2starw", "brain_mask", "rois_dseg"):
        sidecar = read_sidecar(folder / f"{stem}-{name}.nii.gz")
        assert sidecar["SpatialReference"] == SPACE
        np.testing.assert_array_equal(
            nib.load(folder / f"{stem}-{name}.nii.gz").affine, dseg.affine
        )


def test_regions_measured_on_the_scans_agree(copied, study):
    assert run_level(copied, roi_space="scan") == []
    for name in PLACES:
        np.testing.assert_allclose(means(copied, name), means(study, name), atol=RINGING)
    assert not anat(copied, "ses-B_run-2", "desc-rois_chi.tsv").exists()


def test_label_as_reference(copied):
    assert run_level(copied, reference="right nucleus") == []
    for name in PLACES:
        table = read_roi_table(anat(copied, name, "desc-rois_chi.tsv")).set_index("roi")
        assert table.loc["right nucleus", "mean"] == pytest.approx(0, abs=1e-6)
        assert table.loc["left nucleus", "mean"] == pytest.approx(0.05, abs=RINGING)
        assert (table["reference"] == "right nucleus").all()
        sidecar = read_sidecar(anat(copied, name, "space-subject_desc-deterministic_Chimap.nii.gz"))
        assert sidecar["ReferenceRegion"] == "right nucleus"
        assert sidecar["ReferenceSource"] == "label"


def check_means(study, names, reference):
    """Check that the nuclei have their susceptibility relative to CSF in every scan; return a
    sidecar. Nuclei and reference both ring.
    """
    for name in PLACES:
        table = read_roi_table(anat(study, name, "desc-rois_chi.tsv")).set_index("roi")
        for roi, nucleus in names.items():
            assert table.loc[roi, "mean"] == pytest.approx(EXPECTED[nucleus], abs=2 * RINGING), (
                name,
                roi,
            )
        assert (table["reference"] == reference).all()
    return read_sidecar(anat(study, "ses-A_run-1", "desc-rois_chi.tsv"))


def test_automatic_spheres_in_the_ventricles_as_reference(copied):
    assert run_level(copied, reference="atrium", atrium_radius=5.0) == []
    sidecar = check_means(copied, {name: name for name in NUCLEI}, "atrium")
    assert (
        sidecar["ReferenceSource"]
        == "spheres in the atrium of each lateral ventricle, found by R2* and position"
    )
    left, right = sidecar["ReferenceCentres"]
    assert left[0] < -5
    assert right[0] > 5
    assert max(left[1], right[1]) < VENTRICLES[0][0][1]  # in the back
    folder = copied.out / "sub-01" / "figures"
    assert (folder / "sub-01_space-subject_desc-regions_Chimap.png").stat().st_size > 10_000


@pytest.mark.parametrize("space", ["subject", "scan"])
def test_spheres_at_given_points_as_reference(copied, space):
    """They are given in a scan that is not the first, in its own coordinates."""
    points = atria_in(2)
    write_points(copied.rater, "B", points)
    assert run_level(copied, reference="atrium", atrium_radius=5.0, roi_space=space) == []
    sidecar = check_means(copied, {name: name for name in NUCLEI}, "atrium")
    assert sidecar["ReferenceSource"] == "spheres at given points"
    between = read_itk_text(
        anat(copied, "ses-B_run-1", "from-scan_to-subject_mode-image_xfm.txt").read_text()
    )
    expected = points @ np.linalg.inv(between).T
    np.testing.assert_allclose(sidecar["ReferenceCentres"], expected[:, :3], atol=0.1)


def atria_in(place):
    """Return the points in the atria as homogeneous coordinates, in the head's pose at a place."""
    return np.column_stack([VENTRICLES[0], [1, 1]]) @ POSES[place].T


def write_points(rater, session, points):
    """Write points in the atria on the first scan of a session."""
    name = f"sub-01_ses-{session}_run-1_desc-atrium_points.tsv"
    path = rater / "sub-01" / f"ses-{session}" / "anat" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(points[:, :3], columns=["x", "y", "z"])
    table.to_csv(path, sep="\t", index=False, float_format="%.3f")


def write_freesurfer(folder, place):
    """Write FreeSurfer's labels of the head in its pose at a place, the nuclei as thalami, and its
    T1-weighted image.
    """
    points = head_points(place)
    labels = np.zeros(np.prod(SHAPE), np.int32)
    labels[csf_fraction(points) > 0] = 4
    labels[(csf_fraction(points) > 0) & (points[0] > 0)] = 43
    for value, (centre, _) in zip((10, 49), NUCLEI.values(), strict=True):
        labels[np.linalg.norm(points.T - centre, axis=1) < DRAWN_RADIUS] = value
    is_white_matter = np.linalg.norm(points.T - (0, 40, 0), axis=1) < 8  # it is not measured
    labels[is_white_matter] = 2
    image, _, _ = head_scan(POSES[place], affine_of(place), contrast="t1w", noise=0.01, shape=SHAPE)
    folder.mkdir(parents=True)
    for name, data in (("aseg", labels.reshape(SHAPE)), ("orig", (200 * image).astype(np.float32))):
        nib.save(nib.MGHImage(data, affine_of(place)), folder / f"{name}.mgz")


def test_labels_of_freesurfer_without_drawn_regions(copied):
    shutil.rmtree(copied.rater)
    write_freesurfer(copied.rater / "sub-01" / "mri", 3)
    assert run_level(copied, reference="atrium", atrium_radius=5.0) == []
    sides = {"left_thalamus": "left nucleus", "right_thalamus": "right nucleus"}
    sidecar = check_means(copied, sides, "atrium")
    assert (
        sidecar["ReferenceSource"]
        == "spheres in the atrium of each lateral ventricle, by their label"
    )
    assert sidecar["RegionsFrom"] == "FreeSurfer"
    assert sidecar["FreeSurferLabelsRegisteredBy"] == "orig.mgz"
    table = read_roi_table(anat(copied, "ses-A_run-1", "desc-rois_chi.tsv")).set_index("roi")
    assert table.index.tolist() == [
        *("left_lateral_ventricle", "right_lateral_ventricle", *sides),
        *("lateral_ventricle", "thalamus"),
    ]
    thalami = table.loc[list(sides)]
    assert table.loc["thalamus", "n_voxels"] == thalami["n_voxels"].sum()
    mean = np.average(thalami["mean"], weights=thalami["n_voxels"])
    assert table.loc["thalamus", "mean"] == pytest.approx(mean)
    names, _ = read_lookup(
        copied.out / "sub-01" / "anat" / "sub-01_space-subject_desc-rois_dseg.tsv"
    )
    assert names == {
        4: "left_lateral_ventricle",
        43: "right_lateral_ventricle",
        10: "left_thalamus",
        49: "right_thalamus",
    }


def test_drawn_regions_have_precedence_and_freesurfer_gives_the_ventricles(copied):
    write_freesurfer(copied.rater / "sub-01" / "mri", 0)
    assert run_level(copied, reference="atrium", atrium_radius=5.0) == []
    sidecar = check_means(copied, {name: name for name in NUCLEI}, "atrium")
    assert (
        sidecar["ReferenceSource"]
        == "spheres in the atrium of each lateral ventricle, by FreeSurfer's labels"
    )
    assert sidecar["RegionsFrom"] == "sub-01_ses-A_run-1_desc-rois_dseg.nii.gz"
    assert "FreeSurferLabels" not in sidecar


def test_quality_of_every_scan(study):
    table = read_tsv(study.out / "sub-01" / "anat" / "sub-01_desc-quality_stats.tsv")
    assert table["session"].tolist() == ["A", "A", "B", "B"]
    assert table["run"].tolist() == ["1", "2", "1", "2"]
    assert (table["mask_volume"] > 100).all()
    assert table["cause"].notna().tolist() == [False, False, False, True]


def test_unknown_label_as_reference_is_a_failure_with_its_cause(copied):
    (failure,) = run_level(copied, reference="putamen")
    assert failure.scan == "sub_01"
    assert failure.step == "reference"
    assert (
        "no label 'putamen' for the reference; the labels are: left nucleus, right nucleus"
        in failure.cause
    )


@pytest.mark.parametrize("space", ["subject", "scan"])
def test_without_csf_the_brain_is_the_reference(copied, space):
    for path in copied.out.rglob("*R2starmap*"):
        path.unlink()
    assert run_level(copied, roi_space=space) == []
    for name, place in PLACES.items():
        table = read_roi_table(anat(copied, name, "desc-rois_chi.tsv")).set_index("roi")
        assert (table["reference"] == "brain").all()
        of_mask = voxel_means(susceptibility, place)[magnitude_of(place)[1]].mean()
        for roi, (_, value) in NUCLEI.items():
            assert table.loc[roi, "mean"] == pytest.approx(value - of_mask, abs=RINGING)
        assert table["reference_offset"].iloc[0] == pytest.approx(0, abs=1e-4)
        sidecar = read_sidecar(anat(copied, name, "space-subject_desc-deterministic_Chimap.nii.gz"))
        assert sidecar["ReferenceRegion"] == "brain"
        assert sidecar["ReferenceSource"].startswith(
            "brain mask, since no CSF was found: no scan has an R2* map"
        )


def test_report_shows_the_files_of_the_pictures(copied):
    """The page has each picture file unchanged; without the files it has no pictures."""
    entities = [scan.entities for scan in copied.scans[:3]]
    report = SubjectReport(
        subject="01",
        methods=list(METHODS),
        failures=[],
        entities=entities,
        output_dir=str(copied.out),
    )
    pictures = [
        *(REGISTRATION, REGIONS, ROIS, REFERENCE, SITES),
        variability_map("deterministic", "within"),
        variability_map("deterministic", "across"),
    ]
    paths = []
    for names in pictures:
        path = picture_path(copied.out, {"subject": "01"}, **names)
        assert path.stat().st_size > 1000
        paths.append(path)
    for scan in entities:
        paths.append(picture_path(copied.out, scan, **MAGNITUDE))
        paths.append(picture_path(copied.out, scan, **MAPS))
    contents = []
    for number, path in enumerate(paths):  # so small that they are not compressed again
        stream = BytesIO()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(stream, format="png")
        path.write_bytes(stream.getvalue())
        contents.append(base64.b64encode(stream.getvalue()).decode())
    page = Path(report.run().outputs.out_file)
    text = page.read_text()
    for content in contents:
        assert text.count(content) == 1
    assert "Edges should be continuous" in text
    assert text.count("Magnitude and brain mask") == text.count("susceptibility maps of ses-") == 3
    for path in paths:
        path.unlink()
    report.run()
    assert "data:image/png" not in page.read_text()
    assert "Edges should be continuous" not in page.read_text()


def test_regions_that_were_drawn_again_are_measured_again(copied):
    """Only the content of the label image has changed, and no file name."""
    draw_regions(copied.rater, "A", "1", 0, values=(2, 1))
    assert run_level(copied) == []
    for name in PLACES:
        assert means(copied, name)["right nucleus"] == pytest.approx(
            EXPECTED["left nucleus"], abs=RINGING
        )


def test_files_of_an_earlier_run_are_removed(copied):
    """The derivatives in subject space and the regional values of a scan that cannot be registered
    any more are removed. The reference is the brain.
    """
    kinds = (
        "space-subject_desc-deterministic_Chimap.nii.gz",
        "from-scan_to-subject_mode-image_xfm.txt",
    )
    for ending in (
        *kinds,
        "space-subject_desc-deterministic_Chimap.json",
        "desc-rois_chi.tsv",
        "desc-rois_chi.json",
    ):
        anat(copied, "ses-B_run-2", ending).touch()
    assert run_level(copied, reference="brain") == []
    folder = anat(copied, "ses-B_run-2", "x").parent
    assert not list(folder.glob("*run-2*subject*"))
    assert not list(folder.glob("*run-2*_chi.*"))
    for name in PLACES:
        for ending in kinds:
            assert anat(copied, name, ending).exists()
        table = read_roi_table(anat(copied, name, "desc-rois_chi.tsv"))
        assert (table["reference"] == "brain").all()


def test_regions_drawn_in_the_subject_space(copied, study):
    shutil.rmtree(copied.rater)
    drawn = copied.rater / "sub-01" / "anat"
    drawn.mkdir(parents=True)
    for path in (study.out / "sub-01" / "anat").glob("*desc-rois_dseg*"):
        shutil.copy(path, drawn)
    assert run_level(copied) == []
    for name in PLACES:
        np.testing.assert_allclose(means(copied, name), means(study, name), atol=1e-6)


def test_regions_of_a_scan_that_cannot_be_registered(copied):
    """They cannot be resampled to the other scans: these have no tables, also none of an earlier
    run, but all other derivatives.
    """
    shutil.rmtree(copied.rater)
    draw_regions(copied.rater, "B", "2", 3)
    assert run_level(copied) == []
    for name in PLACES:
        assert not list(anat(copied, name, "x").parent.glob("*_chi.*"))
        assert anat(copied, name, "space-subject_desc-deterministic_Chimap.nii.gz").exists()
    regions = nib.load(
        copied.out / "sub-01" / "anat" / "sub-01_space-subject_desc-rois_dseg.nii.gz"
    )
    assert not np.any(regions.get_fdata())


def registration(study):
    return read_tsv(study.out / "sub-01" / "anat" / "sub-01_desc-registration_xfm.tsv")


MOTION = ["translation", "rotation", "displacement"]


def test_regions_of_an_excluded_scan(copied):
    """A single scan is measured in regions drawn on another scan, whose own derivatives do not
    change.
    """
    alone = copied._replace(scans=copied.scans[2:3])
    before = anat(copied, "ses-A_run-1", "desc-rois_chi.tsv").read_bytes()
    assert run_level(alone, excluded_scans=[scan.entities for scan in copied.scans[:2]]) == []
    values = means(copied, "ses-B_run-1")
    for roi, expected in EXPECTED.items():
        assert values[roi] == pytest.approx(expected, abs=RINGING)
    sidecar = read_sidecar(anat(copied, "ses-B_run-1", "desc-rois_chi.tsv"))
    assert sidecar["RegionsFrom"] == "sub-01_ses-A_run-1_desc-rois_dseg.nii.gz"
    assert sidecar["NumberOfRegions"] == 2
    assert sidecar["MethodSteps"] == ["csf_automatic", "regions_drawn"]
    assert anat(copied, "ses-A_run-1", "desc-rois_chi.tsv").read_bytes() == before
    table = registration(copied)
    assert table["session"].tolist() == ["B", "A"]
    assert table["run"].tolist() == ["1", "1"]
    assert table.loc[0, MOTION].isna().all()  # a single scan, which is registered to nothing
    assert table.loc[1, "translation"] > 5
    quality = read_tsv(copied.out / "sub-01" / "anat" / "sub-01_desc-quality_stats.tsv")
    assert quality["session"].tolist() == ["B"]
    assert quality[MOTION].isna().all(axis=None)
    sidecar = read_sidecar(
        anat(copied, "ses-B_run-1", "space-subject_desc-deterministic_Chimap.nii.gz")
    )
    assert sidecar["MethodSteps"] == ["single_scan", "csf_automatic"]
    # A single scan has no variability and no registration: their earlier files are removed.
    assert not list(copied.out.glob("sub-01/*/sub-01_*sd_Chimap*"))
    assert not picture_path(copied.out, {"subject": "01"}, **REGISTRATION).exists()


def test_points_of_an_excluded_scan(copied):
    write_points(copied.rater, "A", atria_in(0))
    alone = copied._replace(scans=copied.scans[2:3])
    excluded_scans = [copied.scans[0].entities]
    choices = {"reference": "atrium", "atrium_radius": 5.0}
    assert run_level(alone, excluded_scans=excluded_scans, **choices) == []
    sidecar = read_sidecar(anat(copied, "ses-B_run-1", "desc-rois_chi.tsv"))
    assert sidecar["ReferenceSource"] == "spheres at given points"
    expected = atria_in(2)  # the space of a single scan is its own
    np.testing.assert_allclose(sidecar["ReferenceCentres"], expected[:, :3], atol=0.3)


def test_regions_of_an_excluded_scan_that_cannot_be_registered(copied):
    """It is noise: the other scans have no regions, and the table has the cause."""
    shutil.rmtree(copied.rater)
    draw_regions(copied.rater, "B", "2", 3)
    good = copied._replace(scans=copied.scans[:3])
    assert run_level(good, excluded_scans=[copied.scans[3].entities]) == []
    assert not list(copied.out.rglob("*_chi.tsv"))
    table = registration(copied)
    assert table["cause"].notna().tolist() == [False, False, False, True]
    assert table.loc[3, "cause"].startswith("not registered to the average of the scans")


def test_variability_is_that_of_scans_of_one_protocol(copied):
    """The two scans of site A have different protocols: there is no variability within a site, and
    one scan of each site across.
    """
    echo_times = {"1": (0.006, 0.014), "2": (0.006, 0.030)}
    scans = []
    for scan in copied.scans[:3]:
        scans.append(replace(scan, echo_times=echo_times[scan.entities["run"]]))
    assert run_level(copied._replace(scans=scans)) == []
    stem = copied.out / "sub-01" / "anat" / "sub-01_space-subject_desc-deterministic"
    assert not Path(f"{stem}withinsd_Chimap.json").exists()
    first, second = json.loads(Path(f"{stem}acrosssd_Chimap.json").read_text())["Sources"]
    assert "sub-01_ses-A_run-1" in first
    assert "sub-01_ses-B_run-1" in second
    table = read_roi_table(anat(copied, "ses-A_run-2", "desc-rois_chi.tsv"))
    assert (table["echo_times"] == "6, 30").all()
    assert (table["voxel_size"] == "3.5, 3.5, 4").all()
    assert (table["scan"] == 1).all()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Run both levels of the command on a person and a phantom. The person has two good scans, one
    without a brain, and one that cannot be registered.
    """
    root = tmp_path_factory.mktemp("whole")
    raw = root / "raw"
    out = root / "out"
    write_raw(raw, "A", "1", 0)
    write_raw(raw, "A", "2", 3, magnitude_is_noise=True)
    write_raw(raw, "B", "1", 1)
    write_raw(raw, "B", "2", 2, phase_is_noise=True, masked=False)
    write_phantom(raw, "A", "1")
    draw_regions(raw / "derivatives" / "manual", "A", "1", 0)
    (raw / "participants.tsv").write_text(
        "participant_id\tspecies\tage\tsex\nsub-01\thomo "
        "sapiens\t30\tF\nsub-ph\tphantom\tn/a\tn/a\n"
    )
    common = [str(raw), str(out)]
    options = ["-w", str(root / "work"), "--plugin", "Linear"]
    with redirect_stdout(StringIO()) as printed, redirect_stderr(StringIO()) as errors:
        codes = [
            main([*common, "participant", "--inversion", "deterministic", *options]),
            main([*common, "group", *options]),
        ]
    return Run(out, codes, printed.getvalue(), errors.getvalue())


def test_faults_are_reported_and_do_not_affect_other_scans(whole):
    assert whole.codes == [1, 0]
    assert "4 scans processed, 1 failed, 0 left out" in whole.printed
    assert "1 error in registration, regions or reports" in whole.printed
    # Site A has a single scan without the failed one, so that the map within sites is empty.
    within = (
        whole.out
        / "sub-01"
        / "anat"
        / "sub-01_space-subject_desc-deterministicwithinsd_Chimap.nii.gz"
    )
    assert np.isnan(nib.load(within).get_fdata()).all()
    assert (
        "failed: sub-01_ses-B_run-2 (sub-01_ses-B_run-2_echo-1_part-mag_MEGRE.nii.gz"
        in whole.errors
    )
    assert (
        "failed: sub-01_ses-A_run-2: not registered to the subject's other scans: " in whole.errors
    )
    for name in ("ses-A_run-1", "ses-B_run-1"):
        table = read_roi_table(anat(whole, name, "desc-rois_chi.tsv"))
        assert list(table["roi"]) == list(NUCLEI)
        assert (table["scan"] == 1).all()
        assert (table["reference"] == "csf").all()
    assert not anat(whole, "ses-A_run-2", "desc-rois_chi.tsv").exists()
    assert anat(whole, "ses-A_run-2", "desc-deterministic_Chimap.nii.gz").exists()


def test_both_scans_agree(whole):
    first = means(whole, "ses-A_run-1")
    second = means(whole, "ses-B_run-1")
    # Noise, another pose and another grid change the means by 1 ppb. λ and voxels of 3.5 mm reduce
    # those of the nuclei by a third, in both scans alike.
    np.testing.assert_allclose(first, second, atol=0.004)
    assert 0.06 < first["left nucleus"] < 0.11
    assert 0.03 < first["right nucleus"] < 0.055


def test_r2star_is_that_of_the_simulated_decay(whole):
    """From three noisy echoes to the table. The echoes' noise is half a percent of the signal."""
    for name in ("ses-A_run-1", "ses-B_run-1"):
        np.testing.assert_allclose(r2star_table(whole, name)["mean"], R2STAR["tissue"], atol=0.5)
    tubes = read_tsv(whole.out / "sub-ph/ses-A/anat/sub-ph_ses-A_run-1_desc-rois_R2starmap.tsv")
    assert set(tubes["roi"]) == set(TUBES)
    np.testing.assert_allclose(tubes["mean"], 5.0, atol=0.5)  # 1/s, of the whole phantom
    assert "R2* was measured in the same voxels" in (whole.out / "sub-01.html").read_text()


def test_every_mean_has_its_standard_error(whole):
    for name in ("ses-A_run-1", "ses-B_run-1"):
        table = read_roi_table(anat(whole, name, "desc-rois_chi.tsv"))
        # The mean over a nucleus has less noise than a voxel, but more than if the noise of voxels
        # were independent.
        error = nib.load(anat(whole, name, "desc-deterministicse_Chimap.nii.gz")).get_fdata()
        usual = np.median(error[error > 0])
        assert (table["se"] < usual).all()
        assert (table["se"] > usual / np.sqrt(table["n_voxels"]) / 2).all()
        parts = np.hypot(table["se_noise"], table["se_systematic"])
        np.testing.assert_allclose(parts, table["se"], rtol=1e-3)
        assert (table["se_noise"] > 0).all()
        sidecar = read_sidecar(anat(whole, name, "desc-deterministicse_Chimap.nii.gz"))
        assert (sidecar["Units"], sidecar["StandardErrorFrom"]) == ("ppm", "closed form")
        assert "se" in read_sidecar(anat(whole, name, "desc-rois_chi.tsv"))


def test_phantom_is_measured_in_the_space_of_its_scan(whole):
    folder = whole.out / "sub-ph" / "ses-A" / "anat"
    table = read_roi_table(folder / "sub-ph_ses-A_run-1_desc-rois_chi.tsv")
    expected = table.set_index("roi")["expected"]
    assert set(expected.index) == set(TUBES)
    for name, (_, chi) in TUBES.items():
        assert expected[name] == chi
    assert (table["reference"] == "phantom").all()
    slope, _ = np.polyfit(table["expected"], table["mean"], 1)
    assert 0.6 < slope < 1.05
    assert table["se"].between(1e-5, 0.01).all()
    assert "expected" in read_sidecar(folder / "sub-ph_ses-A_run-1_desc-rois_chi.tsv")
    assert not list(whole.out.glob("sub-ph/**/*subject*"))


def test_subject_reports(whole):
    person = (whole.out / "sub-01.html").read_text()
    phantom = (whole.out / "sub-ph.html").read_text()
    for page in (person, phantom):
        assert not re.search("https?:", page)
        assert "data:image/" in page
    assert "sub-01_ses-B_run-2" in person
    # among the faults, and in the table of the registration
    assert person.count("not registered to") == 2
    assert "identified by R2* and position" in person
    assert "could not be registered were excluded" in person
    assert "in 2 regions per scan" in person
    for text in ("registered rigidly", "ventricles"):
        assert text in person
        assert text not in phantom
    assert "relative to the mean of the phantom" in phantom
    assert person.count("susceptibility maps of ses-") == 3
    assert phantom.count("susceptibility maps of ses-") == 1
    assert person.count("Edges should be continuous") == 1
    assert "Edges should be continuous" not in phantom
    assert "plane through two tubes of ses-" not in person
    assert phantom.count("plane through two tubes of ses-") == 1
    assert "All scans were processed without warnings." in phantom


def test_group_level_with_a_phantom(whole):
    folder = whole.out / "group"
    assert set(read_tsv(folder / "tubes_chi.tsv")["roi"]) == set(TUBES)
    rois = read_tsv(folder / "roi_chi.tsv")
    assert set(rois["site"]) == {"A", "B"}
    assert (rois["subject"] == "01").all()
    assert (rois["age"] == 30).all()
    calibration = read_tsv(folder / "calibration.tsv").set_index("site")
    assert 0.6 < calibration.loc["A", "slope"] < 1.05
    page = (whole.out / "group.html").read_text()
    assert "components: not computed" in page
    assert "harmonized: not computed: site A has 0 subjects to estimate its shift and scale" in page


def test_validator_accepts_the_derivatives(whole):
    assert validator_findings(whole.out) == set()
