"""Findings of simulated heads, and the air of their skull bases."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.fields import forward_field
from scipy import ndimage

from multiqsm.simulation.cohort import draw_patients, with_disease
from multiqsm.simulation.effects import ROUGH, Effects
from multiqsm.simulation.effects.pathology import (
    LABELS,
    Pathology,
    findings_record,
    label_names,
    with_findings,
)
from multiqsm.simulation.effects.skull_base import (
    SkullBase,
    air_volume,
    draw_skull_base,
    draw_volumes,
)
from multiqsm.simulation.grid import scan_affine
from multiqsm.simulation.head import anatomy, average_subject, head_model
from multiqsm.simulation.head import label_names as anatomical_names
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.study import make_design, make_patient_design

NOTHING = Pathology(
    pineal=0,
    choroid=0,
    microbleed=0,
    haemorrhage=0,
    cavernoma=0,
    rim_patients=0,
    rim_veins=0,
    burr_hole=0,
)
SHAPE, VOXEL = (110, 140, 90), (1.5, 1.5, 1.5)
AFFINE = scan_affine(SHAPE, VOXEL, centre=(0, -18, 20))


def head_with(**changes):
    """The average head with some findings, and the person."""
    person = with_findings(
        average_subject(), replace(NOTHING, **changes), np.random.default_rng(12)
    )
    return person, head_model(person, SHAPE, AFFINE)


@pytest.fixture(scope="module")
def healthy():
    return head_model(average_subject(), SHAPE, AFFINE)


def test_no_finding_without_a_frequency(healthy):
    person, head = head_with()
    assert findings_record(person) == {"Findings": [], "VeinSegments": 0}
    np.testing.assert_array_equal(head.chi, healthy.chi)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("calcification", {"choroid": 1, "choroid_radius": (3.0, 4.0)}),
        ("haemorrhage", {"haemorrhage": 1}),
        ("cavernoma", {"cavernoma": 1, "cavernoma_radius": (7.0, 8.0)}),
    ],
)
def test_finding_has_its_volume_and_susceptibility(name, changes):
    """Balls of 3 mm and more on voxels of 1.5 mm: volume within 25 %, pure inside."""
    person, head = head_with(**changes)
    label = LABELS[name]
    entries = [entry for entry in findings_record(person)["Findings"] if entry["Name"] == name]
    volume = sum(4 / 3 * np.pi * np.prod(entry["Radii"]) for entry in entries)
    inside = head.labels == label
    assert inside.sum() * np.prod(VOXEL) == pytest.approx(volume, rel=0.25)
    core = ndimage.binary_erosion(inside)
    values = {round(entry["Susceptibility"], 4) for entry in entries}
    assert {round(float(value), 4) for value in np.unique(head.chi[core])} <= values
    assert (np.array(list(values)) < 0).all() == (name == "calcification")


def test_cavernoma_has_a_rim_of_haemosiderin_around_its_core():
    _, head = head_with(cavernoma=1, cavernoma_radius=(7.0, 8.0))
    core = ndimage.binary_dilation(head.labels == LABELS["cavernoma"])
    around = core & (head.labels != LABELS["cavernoma"])
    assert (head.labels[around] == LABELS["cavernoma_rim"]).mean() > 0.9
    rim = head.chi[head.labels == LABELS["cavernoma_rim"]]
    assert rim.max() == pytest.approx(Pathology().cavernoma_rim_chi, abs=1e-3)


def test_calcifications_of_the_choroid_plexus_lie_in_the_ventricles(healthy):
    """Both sides; the field above and below a diamagnetic ball is negative along B0."""
    _, head = head_with(choroid=1, choroid_radius=(3.0, 3.1))
    calcified = head.labels == LABELS["calcification"]
    _, n = ndimage.label(calcified)
    assert n == 2
    ventricle = anatomy()["labels"]["lateral_ventricle"]
    assert (healthy.labels[calcified] == ventricle).mean() > 0.5
    field = forward_field(head.chi - healthy.chi, VOXEL)
    i, j, k = (
        round(float(x))
        for x in ndimage.center_of_mass(calcified & (np.arange(110) > 55)[:, None, None])
    )
    assert field[i, j, k + 4] < 0
    assert field[i, j, k - 4] < 0
    assert field[i + 4, j, k] > 0


def test_rims_surround_lesions_and_nuclei_stay(healthy):
    """An iron rim of 1 mm; the lesion's core and all nuclei are as before."""
    patient = with_disease(average_subject(40), draw_patients(3)[2], np.random.default_rng(4))
    rimmed = with_findings(
        patient, replace(NOTHING, rim_patients=1, rim_lesions=1), np.random.default_rng(1)
    )
    large = [lesion for lesion in patient.lesions if lesion[3] >= 2.5]
    assert len(rimmed.rims) == 2 * len(large)
    before = head_model(patient, SHAPE, AFFINE)
    after = head_model(rimmed, SHAPE, AFFINE)
    lesion = anatomy()["labels"]["lesion"]
    rim = after.labels == LABELS["lesion_rim"]
    assert rim.any()
    assert (before.labels[rim] == lesion).all()
    nuclei = (before.labels >= 11) & (before.labels <= 22)
    np.testing.assert_array_equal(after.labels[nuclei], before.labels[nuclei])
    assert after.chi[rim].mean() > before.chi[rim].mean() + 0.01


def test_fraction_of_lesions_and_patients_with_rims():
    """As asked, within three standard errors of 400 patients with 20 lesions each."""
    lesions = [(0.0, 0.0, 0.0, 4.0, 4.0, 4.0, 0.0, 0.0, 0.0)] * 20
    patient = replace(average_subject(), lesions=lesions)
    pathology = replace(NOTHING, rim_patients=0.4, rim_lesions=0.1)
    numbers = []
    for seed in range(400):
        numbers.append(len(with_findings(patient, pathology, np.random.default_rng(seed)).rims) / 2)
    assert np.mean(np.array(numbers) > 0) == pytest.approx(0.4, abs=3 * 0.025)
    assert np.mean(numbers) / 20 == pytest.approx(0.1, abs=0.025)


def test_veins_at_the_rim_lie_on_the_surface_of_the_brain(healthy):
    _, head = head_with(rim_veins=8, vein_radius=(1.0, 1.2))
    vein = anatomy()["labels"]["vein"]
    new = (head.labels == vein) & (healthy.labels != vein)
    assert new.sum() * np.prod(VOXEL) > 1000  # 16 veins of 35 mm by 1.1 mm: 2.1 mL
    inside = ndimage.distance_transform_edt(healthy.region > 0.5, sampling=VOXEL)
    outside = ndimage.distance_transform_edt(healthy.region <= 0.5, sampling=VOXEL)
    assert inside[new].max() < 7
    assert outside[new].max() < 4
    assert np.median(inside[new]) < 3


def test_burr_hole_interrupts_the_skull_only(healthy):
    """A cylinder of 7 mm radius through 6 mm of bone, within 35 %."""
    _, head = head_with(burr_hole=1)
    hole = head.labels == LABELS["burr_hole"]
    bone = hole & (healthy.labels == anatomy()["labels"]["skull"])
    assert bone.sum() * np.prod(VOXEL) == pytest.approx(np.pi * 7**2 * 6, rel=0.35)
    assert head.region[hole].max() < 0.5
    brain = healthy.region > 0.9
    np.testing.assert_array_equal(head.chi[brain], healthy.chi[brain])


def test_one_frequency_changes_only_its_own_finding():
    quiet = with_findings(average_subject(), Pathology(cavernoma=0), np.random.default_rng(3))
    loud = with_findings(average_subject(), Pathology(cavernoma=1), np.random.default_rng(3))
    others = findings_record(quiet)["Findings"]
    names = {"cavernoma", "cavernoma_rim"}
    assert [e for e in findings_record(loud)["Findings"] if e["Name"] not in names] == others


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("pineal", {"calcification"}),
        ("choroid_plexus", {"calcification"}),
        ("microbleed", {"haemorrhage"}),
        ("haemorrhage", {"haemorrhage"}),
        ("cavernoma", {"cavernoma", "cavernoma_rim"}),
        ("lesion_rims", {"lesion_rim"}),
        ("surface_veins", set()),
        ("burr_hole", {"burr_hole"}),
    ],
)
def test_every_head_has_a_chosen_finding_and_no_other(chosen, names):
    """For ten seeds. The patient has forty lesions, of which a quarter has rims on average."""
    rng = np.random.default_rng(0)
    lesions = [(*rng.uniform(-30, 30, 3), 4.0, 4.0, 4.0, 0.0, 0.0, 0.0) for _ in range(40)]
    person = replace(average_subject(), lesions=lesions)
    for seed in range(10):
        record = findings_record(
            with_findings(person, Pathology().only(chosen), np.random.default_rng(seed))
        )
        assert {finding["Name"] for finding in record["Findings"]} == names
        assert (record["VeinSegments"] > 0) == (chosen == "surface_veins")


def test_labels_of_findings_follow_those_of_the_anatomy():
    assert not set(label_names()) & set(anatomical_names())
    assert min(label_names()) > max(anatomical_names())


def test_volumes_of_sinuses_have_their_mean_and_spread():
    """Over 400 people; the limit of twice the mean takes some of the widest distribution."""
    drawn = []
    for seed in range(400):
        drawn.append(draw_volumes(SkullBase(), np.random.default_rng(seed)))
    for name in ("maxillary", "sphenoid", "ethmoid", "mastoid"):
        mean, sd = getattr(SkullBase(), name)
        values = np.array([volumes[name] for volumes in drawn])
        assert values.mean() == pytest.approx(mean, rel=0.1)
        assert values.std() == pytest.approx(sd, rel=0.35)
        assert np.corrcoef(values.T)[0, 1] > 0.5
    apices = np.array([volumes["petrous_apex"] for volumes in drawn])
    assert (apices > 0).mean() == pytest.approx(0.35, abs=0.06)


def test_cells_and_sinuses_are_air_near_the_brain_but_not_in_it():
    """The painted air has the volume of its balls, and the brain is as before."""
    shape = (120, 130, 60)
    affine = scan_affine(shape, VOXEL, centre=(0, 5, -50))
    usual = head_model(average_subject(), shape, affine)
    volumes = []
    for seed in (1, 2):
        cavities = draw_skull_base(SkullBase(), np.random.default_rng(seed))
        head = head_model(replace(average_subject(), cavities=cavities), shape, affine)
        brain = usual.region > 0.5
        np.testing.assert_allclose(head.chi[brain], usual.chi[brain], atol=1e-5)
        inner = (slice(8, -8), slice(8, -8), slice(8, -8))
        none = head_model(
            replace(average_subject(), cavities=cavities[-6:]), shape, affine
        )  # only nose, airways and ears
        added = (head.pd == 0) & (none.pd > 0)
        painted = added[inner].sum() * np.prod(VOXEL) / 1000
        # Voxels that bone and air share are not counted, and sinuses overlap airways.
        assert 0.4 * air_volume(cavities) < painted < air_volume(cavities)
        volumes.append(air_volume(cavities))
    asked = sum(map(sum, draw_volumes(SkullBase(), np.random.default_rng(1)).values()))
    assert volumes[0] == pytest.approx(asked, rel=0.1)
    assert volumes[0] != volumes[1]


def test_an_object_is_the_same_in_all_scans_of_a_person():
    design = make_design("study", subjects=2, runs=2, voxel_size=(6, 6, 6), effects=ROUGH)
    heads = [plan for plan in design.plans if plan.participant.model == "head"]
    records = {}
    for plan in heads:
        key = plan.participant.label
        records.setdefault(key, []).append(findings_record(plan.subject))
    assert all(record == records["01"][0] for record in records["01"])
    assert records["01"][0] != records["02"][0]


def test_truth_states_what_was_drawn():
    effects = Effects(pathology=Pathology(choroid=1), skull_base=SkullBase())
    plan = make_design("demo", subjects=1, voxel_size=(5, 5, 5), effects=effects).plans[0]
    scan = simulate(plan)
    assert scan.effects["pathology"] == findings_record(plan.subject)
    assert scan.effects["skull_base"]["AirVolume"] == air_volume(plan.subject.cavities)
    ideal = simulate(replace(plan, effects=Effects()))
    assert ideal.effects == {}
    patients = make_patient_design(draw_patients(1), voxel_size=(5, 5, 5), effects=effects)
    assert (
        patients.plans[0].subject.lesions
        == replace(patients.plans[0], effects=Effects()).subject.lesions
    )
