"""Simulated datasets: BIDS as converters write it, truth and regions; scans are simulated once."""

import csv
import json
import re
import uuid

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.datasets import validator_errors
from nibabel.affines import apply_affine
from scipy import ndimage

from multiqsm.bids_templates import load_template
from multiqsm.cli.simulate import main
from multiqsm.core.phase.encoding import (
    apply_sign,
    decode_phase,
    default_sign,
    from_real_imaginary,
    wrap_phase,
)
from multiqsm.dataset.anatomy import read_points
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.labels import find_labels
from multiqsm.dataset.outputs import is_multiqsm_dataset
from multiqsm.dataset.preflight.inspection import inspect_scan
from multiqsm.dataset.scans import COPIED_METADATA
from multiqsm.dataset.sidecars import sidecar_path
from multiqsm.dataset.simulated.description import write_dataset_files
from multiqsm.dataset.simulated.layout import is_complete, is_drawn_on
from multiqsm.dataset.simulated.regions import write_drawn_regions
from multiqsm.dataset.simulated.scans import write_scan
from multiqsm.dataset.sources import derivative_datasets
from multiqsm.simulation.effects import ROUGH, Effects
from multiqsm.simulation.effects.truncation import Truncation
from multiqsm.simulation.head import label_names
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.study import make_design

COARSE = {"voxel_size": (8.0, 8.0, 8.0), "runs": 1}


def simulate_by_command(root, *options, n_procs=1):
    """Run the command on a tiny design; return its exit code."""
    voxels = ("--voxel-size", "8", "8", "8")
    machine = ("-w", str(root.parent / f"work_{root.name}"), "--n-procs", str(n_procs))
    return main([str(root), *voxels, *machine, *options])


def table(path):
    with path.open() as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """One head and the phantom at two sites, written by this process."""
    root = tmp_path_factory.mktemp("tiny") / "raw"
    design = make_design("study", subjects=1, sites=["A", "C"], **COARSE)
    write_dataset_files(root, design)
    scans = {}
    for plan in design.plans:
        scan = simulate(plan)
        scans[plan.entities["subject"], plan.entities["session"]] = plan, scan
        write_scan(root, plan, scan)
    return root, scans


def test_dataset_truth_and_regions_are_valid(tiny):
    root, _ = tiny
    assert validator_errors(root) == set()
    assert validator_errors(root / "derivatives" / "truth") == set()
    assert validator_errors(root / "derivatives" / "manual") == set()


def test_scans_are_collected_without_errors_at_their_sites(tiny):
    root, _ = tiny
    scans, left_out = collect_scans(root)
    assert left_out == []
    site_of_scan = {scan.label: scan.site for scan in scans}
    assert site_of_scan == {
        "sub-01_ses-A_run-1": "A",
        "sub-01_ses-C_run-1": "C",
        "sub-phantom_ses-A_run-1": "A",
        "sub-phantom_ses-C_run-1": "C",
    }
    for scan in scans:
        assert inspect_scan(scan).verdict != "error"
        assert scan.imaging_frequency == pytest.approx(
            {"A": 123.25, "C": 127.72}[scan.site], abs=0.01
        )
        assert len(scan.echo_times) == 6


def test_truth_has_the_fields_that_effects_add(tmp_path):
    """The total field without them is the local field and a background; both are of one scan."""
    effects = ROUGH.only("anisotropy", "microstructure")
    design = make_design("demo", subjects=1, sites=["A"], effects=effects, **COARSE)
    (plan,) = design.plans
    write_dataset_files(tmp_path, design)
    scan = simulate(plan)
    write_scan(tmp_path, plan, scan)
    assert is_complete(tmp_path, plan)
    truth = tmp_path / "derivatives" / "truth"
    assert validator_errors(truth) == set()
    for name, field in scan.effect_fields.items():
        (path,) = truth.rglob(f"*_desc-{name}_fieldmap.nii.gz")
        hertz = field * plan.scanner.imaging_frequency
        np.testing.assert_allclose(nib.load(path).get_fdata(), hertz, rtol=1e-5, atol=1e-6)
        path.unlink()
        assert not is_complete(tmp_path, plan)
    (total,) = truth.rglob("*_desc-total_fieldmap.json")
    described = json.loads(total.read_text())["Description"]
    assert described.startswith(
        "True field, shim, drift, desc-anisotropy and desc-microstructure included"
    )


def test_truth_is_neither_a_derivative_nor_a_mask_of_the_user(tiny):
    """The pipeline must not use the true mask by accident."""
    root, _ = tiny
    assert not is_multiqsm_dataset(root / "derivatives" / "truth")
    scans, _ = collect_scans(root)
    assert not any(scan.brain_mask for scan in scans)


def test_participants_and_sessions(tiny):
    root, _ = tiny
    person, phantom = table(root / "participants.tsv")
    assert person == {
        "participant_id": "sub-01",
        "species": "homo sapiens",
        "age": "25",
        "sex": "M",
    }
    assert phantom == {
        "participant_id": "sub-phantom",
        "species": "phantom",
        "age": "n/a",
        "sex": "n/a",
    }
    sessions = pd.read_table(root / "sub-01" / "sub-01_sessions.tsv")
    assert sessions["site"].tolist() == ["A", "C"]


def read(root, plan, part):
    """Read all echoes of a part, as stored."""
    label = "_".join(f"{key[:3]}-{value}" for key, value in plan.entities.items())
    folder = root / f"sub-{plan.entities['subject']}" / f"ses-{plan.entities['session']}" / "anat"
    paths = sorted(folder.glob(f"{label}_echo-*_part-{part}_MEGRE.nii.gz"))
    return np.stack([np.asarray(nib.load(path).dataobj) for path in paths], axis=-1)


def test_siemens_files_hold_the_scan(tiny):
    root, scans = tiny
    plan, scan = scans["01", "A"]
    magnitude = read(root, plan, "mag")
    stored = read(root, plan, "phase")
    assert stored.dtype.kind == magnitude.dtype.kind == "u"
    assert (stored.min(), stored.max(), magnitude.max()) == (0, 4095, 4095)
    phase, _ = decode_phase(stored, units="arbitrary", manufacturer=plan.scanner.manufacturer)
    sign, _ = default_sign(plan.scanner.manufacturer)
    error = wrap_phase(apply_sign(phase, sign) - np.angle(scan.signal))
    assert np.abs(error).max() < 1.1 * np.pi / 4096
    np.testing.assert_allclose(
        magnitude / 4095, np.abs(scan.signal) / np.abs(scan.signal).max(), atol=1e-3
    )


def test_ge_files_hold_the_scan_with_the_phase_reversed(tiny):
    root, scans = tiny
    plan, scan = scans["01", "C"]
    real = read(root, plan, "real")
    imaginary = read(root, plan, "imag")
    assert real.dtype == imaginary.dtype == np.int16
    magnitude, phase = from_real_imaginary(real, imaginary)
    sign, _ = default_sign(plan.scanner.manufacturer)
    assert sign == -1
    bright = magnitude > 0.05 * magnitude.max()
    error = wrap_phase(apply_sign(phase, sign) - np.angle(scan.signal))
    assert np.abs(error[bright]).max() < 2e-3


@pytest.mark.parametrize("site", ["A", "C"])
def test_phase_between_echoes_is_the_true_field_and_wraps(tiny, site):
    """Mean over the phantom's water and the brain: the field of the truth, in Hz, explains the
    decoded phase.
    """
    root, scans = tiny
    plan, scan = scans["phantom", site]
    folder = root / "derivatives" / "truth" / "sub-phantom" / f"ses-{site}" / "fmap"
    image = nib.load(folder / f"sub-phantom_ses-{site}_run-1_desc-total_fieldmap.nii.gz")
    np.testing.assert_allclose(image.affine, plan.affine, atol=1e-4)
    field = image.get_fdata()
    if site == "A":
        phase, _ = decode_phase(
            read(root, plan, "phase"), units="arbitrary", manufacturer="Siemens"
        )
    else:
        phase = -from_real_imaginary(read(root, plan, "real"), read(root, plan, "imag"))[1]
    times = plan.protocol.echo_times
    difference = wrap_phase(phase[..., 1] - phase[..., 0])
    error = wrap_phase(
        difference - 2 * np.pi * field.astype(np.float32) * np.float32(times[1] - times[0])
    )
    inside = scan.mask & (scan.labels == 7)
    assert np.median(np.abs(error[inside])) < 0.05
    steps = np.abs(np.diff(phase[..., -1], axis=2))
    assert (steps[inside[..., 1:] & inside[..., :-1]] > np.pi).any()


@pytest.mark.parametrize("site", ["A", "C"])
def test_sidecars_state_the_part_of_kspace_that_is_acquired(tmp_path, site):
    """The fraction of lines with signal is the sidecar's partial Fourier factor or, at the site
    that acquires k-space symmetrically, 1 up to the zeros that the details name.
    """
    effects = Effects(truncation=Truncation())
    design = make_design("phantom", sites=[site], effects=effects, **COARSE)
    scan = simulate(design.plans[0])
    write_dataset_files(tmp_path, design)
    images = write_scan(tmp_path, design.plans[0], scan)
    assert validator_errors(tmp_path) == set()
    sidecar = json.loads(sidecar_path(images[-1]).read_text())
    n_lines = scan.signal.shape[0]
    power = np.abs(np.fft.fft(scan.signal[..., 0], axis=0)).max(axis=(1, 2))
    acquired = np.fft.fftfreq(n_lines)[power > 1e-4 * power.max()]
    assert sidecar["ParallelReductionFactorInPlane"] == 1
    if site == "A":
        assert sidecar["PartialFourier"] == pytest.approx(len(acquired) / n_lines, abs=1 / n_lines)
        assert (sidecar["PartialFourierDirection"], sidecar["ScanOptions"]) == ("PHASE", "PFP")
        assert acquired.min() == pytest.approx(-0.375, abs=1 / n_lines)
    else:
        assert sidecar["PartialFourier"] == 1
        assert sidecar["ScanOptions"] == "none"
        assert acquired.min() == pytest.approx(-acquired.max(), abs=1 / n_lines)
        assert "zeros around k-space, corners of k-space" in sidecar["PulseSequenceDetails"]


def test_sidecars_answer_the_acquisition_items_of_the_checklist(tiny):
    """Each item that a converter answers has one of its fields, except for the bandwidth of a
    readout, which takes no time.
    """
    root, _ = tiny
    scans, _ = collect_scans(root)
    for scan in scans:
        blank = set()
        for item in load_template("checklist")["items"]:
            fields = set(item["fields"]) & set(COPIED_METADATA)
            if fields and not fields & set(scan.metadata):
                blank.add(item["item"])
        assert blank == {"Pixel bandwidth (Hz)"}


def test_truth_is_the_scans(tiny):
    root, scans = tiny
    plan, scan = scans["01", "A"]
    folder = root / "derivatives" / "truth" / "sub-01" / "ses-A"
    stem = "sub-01_ses-A_run-1"
    chi = nib.load(folder / "anat" / f"{stem}_desc-truth_Chimap.nii.gz").get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(chi, scan.chi)
    local = nib.load(folder / "fmap" / f"{stem}_desc-local_fieldmap.nii.gz").get_fdata()
    np.testing.assert_allclose(
        local, scan.local_field * plan.scanner.imaging_frequency, rtol=1e-5, atol=1e-5
    )
    sidecar = json.loads((folder / "anat" / f"{stem}_desc-truth_Chimap.json").read_text())
    np.testing.assert_allclose(sidecar["ObjectToScanner"], plan.position.matrix)
    assert sidecar["NucleiSusceptibility"] == pytest.approx(plan.subject.chi)
    lookup = pd.read_table(folder / "anat" / f"{stem}_desc-truth_dseg.tsv", index_col="index")
    names = lookup["name"]
    labels = np.asarray(nib.load(folder / "anat" / f"{stem}_desc-truth_dseg.nii.gz").dataobj)
    assert set(np.unique(labels)) - {0} <= set(names.index)
    assert "left_putamen" in set(names)
    values = lookup.set_index("name")["susceptibility_ppm"]
    assert values.notna().all()
    for side in ("left", "right"):
        assert values[f"{side}_putamen"] == pytest.approx(plan.subject.chi["putamen"])
    # The splenium has the susceptibility of white matter, the ventricles that of CSF.
    assert values["splenium"] == values["white_matter"] == -0.03
    assert values["lateral_ventricle"] == values["csf"] == 0


def test_tubes_have_their_susceptibility_in_the_table(tiny):
    root, _ = tiny
    folder = root / "derivatives" / "truth" / "sub-phantom" / "ses-C" / "anat"
    labels = pd.read_table(folder / "sub-phantom_ses-C_run-1_desc-truth_dseg.tsv", index_col="name")
    chi = labels["susceptibility_ppm"]
    tubes = ("tube_1", "tube_2", "tube_3", "tube_4", "tube_5", "tube_6")
    np.testing.assert_array_equal(chi.loc[list(tubes)], [0, 0.41, 0.82, 1.22, 1.63, 2.04])
    assert np.isnan(chi["water"])


def test_regions_are_drawn_on_the_first_scan_of_a_person_and_all_scans_of_the_phantom(tiny):
    root, scans = tiny
    datasets = derivative_datasets(root)
    for (subject, site), (plan, _) in scans.items():
        image = next(root.rglob(f"sub-{subject}_ses-{site}_*_MEGRE.nii.gz"))
        labels = find_labels(plan.entities, datasets, image=image)
        assert (labels is not None) == is_drawn_on(plan) == (subject == "phantom" or site == "A")
    nuclei = find_labels(scans["01", "A"][0].entities, datasets)
    assert set(nuclei.names.values()) > {"caudate_nucleus", "substantia_nigra", "thalamus", "csf"}
    assert nuclei.expected == {}
    assert (
        list(find_labels(scans["phantom", "C"][0].entities, datasets).expected.values())[-1] == 2.04
    )


def scans_drawn_on(design):
    """Labels of subject, session and run of the scans with regions."""
    return [tuple(plan.entities.values()) for plan in design.plans if is_drawn_on(plan)]


def test_regions_do_not_depend_on_which_part_of_the_study_is_simulated():
    whole = make_design("study", subjects=3, **COARSE)
    part = make_design("study", subjects=2, sites=["A", "B"], **COARSE)
    drawn = scans_drawn_on(whole)
    assert [scan for scan in drawn if scan[0] != "phantom"] == [
        ("01", "A", "1"),
        ("02", "A", "1"),
        ("03", "A", "1"),
    ]
    assert set(scans_drawn_on(part)) < set(drawn)


def test_regions_are_drawn_from_the_true_labels_and_csf_without_its_border(tmp_path):
    plan = make_design("study", subjects=1, runs=1, voxel_size=(4, 4, 4)).plans[0]
    index = {name: index for index, name in label_names().items()}
    labels = np.zeros(plan.protocol.shape, np.uint8)
    labels[4:8, 4:8, 4] = index["left_putamen"]
    labels[20:24, 4:8, 4] = index["right_putamen"]
    labels[10:15, 10:14, 6:8] = index["lateral_ventricle"]
    labels[10, 20, 6] = index["vein"]
    labels[12:16, 18, 6] = index["splenium"]
    drawn = np.asarray(nib.load(write_drawn_regions(tmp_path, plan, labels, labels > 0)).dataobj)
    names = find_labels(plan.entities, [tmp_path / "derivatives" / "manual"]).names
    number = {name: index for index, name in names.items()}
    assert (drawn == number["putamen"]).sum() == 32
    csf = np.zeros(labels.shape, bool)
    csf[11:14, 11:13, 6:8] = True
    np.testing.assert_array_equal(drawn == number["csf"], csf)
    np.testing.assert_array_equal(drawn == number["splenium"], labels == index["splenium"])
    assert set(np.unique(drawn)) == {0, number["putamen"], number["csf"], number["splenium"]}


def test_tubes_are_drawn_in_their_middle_half_away_from_the_wall(tmp_path):
    plan = make_design("phantom", sites=["A"], runs=1, voxel_size=(2, 2, 4)).plans[0]
    x, y, z = np.ogrid[tuple(slice(n) for n in plan.protocol.shape)]
    distance = 2.0 * np.hypot(x - 50, y - 50) + 0 * z  # mm
    labels = np.where(distance < 9, 5, 7).astype(np.uint8)
    mask = np.broadcast_to((z >= 4) & (z < 36), labels.shape)
    drawn = np.asarray(nib.load(write_drawn_regions(tmp_path, plan, labels, mask)).dataobj)
    assert set(np.unique(drawn)) == {0, 5}
    assert distance[drawn == 5].max() == pytest.approx(6, abs=1)
    assert np.flatnonzero((drawn == 5).any(axis=(0, 1))).tolist() == list(range(12, 28))


def test_scan_without_one_of_its_files_is_not_complete(tiny):
    root, scans = tiny
    plan, _ = scans["01", "C"]
    files = [path for path in root.rglob("sub-01_ses-C_run-1*") if path.is_file()]
    assert len(files) == 6 * 2 * 2 + 6 * 2 + 1
    drawn_on, _ = scans["01", "A"]
    files += (root / "derivatives" / "manual" / "sub-01").rglob("sub-01_ses-A_run-1*")
    assert len(files) == 6 * 2 * 2 + 6 * 2 + 1 + 3
    assert is_complete(root, plan)
    assert is_complete(root, drawn_on)
    for path in files:
        content = path.read_bytes()
        path.unlink()
        assert not (is_complete(root, plan) and is_complete(root, drawn_on)), path.name
        path.write_bytes(content)


@pytest.mark.slow
def test_truncated_scan_is_simulated_again_and_partial_files_are_removed(tmp_path):
    demo = ("--design", "demo", "--subjects", "1", "--runs", "1", "--sites", "A", "--ideal")
    root = tmp_path / "raw"
    assert simulate_by_command(root, *demo) == 0
    whole = contents(root)
    image = next(root.rglob("*_echo-1_part-mag_MEGRE.nii.gz"))
    image.write_bytes(b"")
    for name in (f".{uuid.uuid4().hex}.nii.gz", f".{image.name}.{uuid.uuid4().hex}"):
        (image.parent / name).write_bytes(b"half")
    assert simulate_by_command(root, *demo) == 0
    assert contents(root) == whole


def test_option_of_flow(tmp_path):
    root = tmp_path / "thalamus"
    options = ("--design", "thalamus", "--tables-only", "--subjects", "1", "--flow-phase", "0.4")
    assert main([str(root), *options]) == 0
    description = json.loads((root / "dataset_description.json").read_text())
    assert "flow phase 0.4 rad" in description["GeneratedBy"][0]["Description"]


def test_dataset_with_other_protocols_is_refused(tmp_path):
    """The description distinguishes studies with and without protocols that differ by site."""
    varied = make_design("demo", subjects=1, vary_protocols=True, **COARSE)
    write_dataset_files(tmp_path, varied)
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert "protocols that differ between sites" in description["GeneratedBy"][0]["Description"]
    with pytest.raises(ValueError, match="another dataset"):
        write_dataset_files(tmp_path, make_design("demo", subjects=1, **COARSE))


@pytest.mark.slow
def test_sites_of_a_varied_study_differ_in_grid_and_echoes(tmp_path):
    root = tmp_path / "raw"
    options = ("--subjects", "1", "--runs", "1", "--sites", "A", "B", "--vary-protocols")
    assert simulate_by_command(root, *options) == 0
    scans, _ = collect_scans(root)
    sizes = [nib.load(scan.files[0]).header.get_zooms() for scan in scans]
    np.testing.assert_allclose(sizes, [(8, 8, 8), (6.4, 6.4, 9.6)], rtol=1e-6)
    assert (len(scans[0].echo_times), len(scans[1].echo_times)) == (4, 7)


@pytest.mark.slow
def test_number_of_processes_changes_no_byte_and_only_incomplete_scans_are_simulated_again(
    tmp_path, capsys
):
    demo = ("--design", "demo", "--runs", "1", "--sites", "A", "C")
    by_one = tmp_path / "one"
    two = tmp_path / "two"
    assert simulate_by_command(by_one, *demo, "--subjects", "1", n_procs=1) == 0
    assert simulate_by_command(two, *demo, n_procs=2) == 0
    assert "4 of 4 scans complete" in capsys.readouterr().out
    first = contents(by_one)
    second = contents(two)
    shared = {path for path in first if "sub-01" in path.name}
    assert len(shared) > 50
    assert all(first[path] == second[path] for path in shared)

    removed = next(two.rglob("sub-02_ses-C_*_echo-2_part-imag_MEGRE.nii.gz"))
    times = {path: (two / path).stat().st_mtime_ns for path in second}
    removed.unlink()
    # two threads, since there is one scan to simulate
    assert simulate_by_command(two, *demo, n_procs=2) == 0
    assert contents(two) == second
    scans = set()
    for path, time in times.items():
        label = re.match(r"sub-\w+_ses-\w+_run-\d+", path.name)
        if label and (two / path).stat().st_mtime_ns != time:
            scans.add(label[0])
    assert scans == {"sub-02_ses-C_run-1"}


@pytest.mark.slow
def test_scan_that_fails_is_reported(tmp_path, capsys):
    root = tmp_path / "raw"
    write_dataset_files(root, make_design("demo", subjects=1, sites=["A", "B"], **COARSE))
    (root / "sub-01" / "ses-A").mkdir(exist_ok=True)
    (root / "sub-01" / "ses-A" / "anat").write_text("in the way of the folder")
    options = ("--design", "demo", "--ideal", "--subjects", "1", "--runs", "1", "--sites", "A", "B")
    assert simulate_by_command(root, *options) == 1
    printed = capsys.readouterr()
    assert "failed: sub_01_ses_A_run_1: " in printed.err
    assert "1 of 2 scans complete" in printed.out


def test_participants_can_be_added_but_the_seed_cannot_change(tmp_path):
    write_dataset_files(tmp_path, make_design("demo", subjects=2, **COARSE))
    write_dataset_files(tmp_path, make_design("demo", subjects=1, **COARSE))
    participants = pd.read_table(tmp_path / "participants.tsv")
    assert participants["participant_id"].tolist() == ["sub-01", "sub-02"]
    with pytest.raises(ValueError, match="another dataset"):
        write_dataset_files(tmp_path, make_design("demo", seed=1, **COARSE))


def test_folder_with_other_content_is_not_changed(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main([str(tmp_path), "--design", "thalamus", "--tables-only"]) == 2
    assert "choose an empty one" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]


def test_tables_of_patients(tmp_path):
    root = tmp_path / "thalamus"
    assert main([str(root), "--design", "thalamus", "--tables-only", "--subjects", "14"]) == 0
    assert validator_errors(root) == set()
    assert validator_errors(root / "derivatives" / "truth") == set()
    assert validator_errors(root / "derivatives" / "manual") == set()
    patients = table(root / "participants.tsv")
    assert len(patients) == 14
    assert {
        "age",
        "sex",
        "disease_duration",
        "therapy",
        "enhancing_lesions",
        "edss",
        "image_quality",
        "t2_lesion_volume",
    } < set(patients[0])
    labels = [row["participant_id"] for row in patients if row["image_quality"] == "poor"]
    assert labels == ["sub-014"]
    truth = root / "derivatives" / "truth"
    assert json.loads((truth / "coefficients.json").read_text())["regressions"]["t2_lesion_volume"]
    assert len(table(truth / "phenotype" / "thalamus.tsv")) == 14
    stats = root / "derivatives" / "freesurfer" / "sub-003" / "stats"
    aseg = (stats / "aseg.stats").read_text()
    volumes = re.findall(r"^ +\d+ +\d+ +\d+ +([\d.]+) +\w+-Thalamus", aseg, re.MULTILINE)
    assert len(volumes) == 2
    assert 5e3 < sum(map(float, volumes)) < 25e3
    assert re.search(
        r"^# Measure TotalGray, TotalGrayVol, [^,]+, [\d.]+, mm\^3$", aseg, re.MULTILINE
    )
    for side in ("lh", "rh"):
        assert "MeanThickness, Mean Thickness" in (stats / f"{side}.aparc.stats").read_text()


@pytest.mark.slow
def test_images_of_patients(tmp_path):
    """Lesions are bright in FLAIR, dark in T1w, and have the volume of the table within 5 %; the
    thalamus has the susceptibility of the table.
    """
    root = tmp_path / "thalamus"
    voxels = ("--ideal", "--voxel-size", "2.5", "2.5", "2.5")
    options = (*voxels, "--subjects", "2", "--n-procs", "2", "-w", str(tmp_path / "work"))
    assert main([str(root), "--design", "thalamus", *options]) == 0
    assert validator_errors(root) == set()
    assert validator_errors(root / "derivatives" / "truth") == set()
    assert validator_errors(root / "derivatives" / "manual") == set()
    assert find_labels({"subject": "002"}, derivative_datasets(root)) is not None
    anat = root / "sub-002" / "anat"
    true = root / "derivatives" / "truth" / "sub-002" / "anat"
    flair = nib.load(anat / "sub-002_FLAIR.nii.gz")
    t1w = nib.load(anat / "sub-002_T1w.nii.gz")
    lesions = nib.load(true / "sub-002_desc-lesions_mask.nii.gz").get_fdata() > 0
    around = ndimage.binary_dilation(lesions, iterations=3) & ~ndimage.binary_dilation(lesions)
    same_place = np.linalg.inv(t1w.affine) @ flair.affine
    dark = ndimage.affine_transform(t1w.get_fdata(), same_place, output_shape=flair.shape, order=1)
    bright = flair.get_fdata()
    assert np.median(bright[lesions]) > 1.3 * np.median(bright[around])
    assert np.median(dark[lesions]) < 0.9 * np.median(dark[around])
    volume = json.loads((true / "sub-002_desc-lesions_mask.json").read_text())["Volume"]
    assert volume == pytest.approx(
        float(table(root / "participants.tsv")[1]["t2_lesion_volume"]), rel=0.05
    )
    seeds = read_points(
        root / "derivatives" / "manual" / "sub-002" / "anat" / "sub-002_desc-seeds_FLAIR.tsv"
    )
    voxels = np.rint(apply_affine(np.linalg.inv(flair.affine), seeds)).astype(int)
    assert lesions[tuple(voxels.T)].all()
    aseg = nib.load(root / "derivatives" / "freesurfer" / "sub-002" / "mri" / "aseg.mgz")
    assert aseg.shape == (256, 256, 256)
    assert nib.aff2axcodes(aseg.affine) == ("L", "I", "A")
    thalamus = {10: 21, 49: 22}  # FreeSurfer's left and right, and the simulator's
    true_labels = nib.load(true / "sub-002_desc-truth_dseg.nii.gz")
    for number, true_label in thalamus.items():
        np.testing.assert_allclose(
            centre_of(aseg, number), centre_of(true_labels, true_label), atol=0.7
        )
    chi = nib.load(true / "sub-002_desc-truth_Chimap.nii.gz").get_fdata()
    is_thalamus = np.isin(true_labels.get_fdata(), (21, 22))
    row = table(root / "derivatives" / "truth" / "phenotype" / "thalamus.tsv")[1]
    expected = float(row["relative_susceptibility"]) / 1000
    assert np.median(chi[is_thalamus]) == pytest.approx(expected, abs=1e-4)


def centre_of(image, label):
    """Mean position of a label's voxels in scanner coordinates, mm."""
    points = apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) == label))
    return points.mean(axis=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--design", "thalamus", "--runs", "2"], "leave out --runs"),
        (["--design", "demo", "--tables-only"], "has images only"),
        (["--design", "phantom", "--subjects", "2"], "no subjects"),
        (["--sites", "X"], "no site X"),
        (["--design", "thalamus", "--vary-protocols"], "leave out --vary-protocols"),
        (["--design", "phantom", "--vary-protocols"], "no heads"),
    ],
)
def test_contradictory_options_are_refused_before_anything_is_written(
    tmp_path, options, message, capsys
):
    root = tmp_path / "raw"
    assert main([str(root), *options]) == 2
    assert message in capsys.readouterr().err
    assert not root.exists()
