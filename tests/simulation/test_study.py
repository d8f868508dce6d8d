"""The designs: who is scanned where and how; each scan depends on its own key alone."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from multiqsm.core.grid import grid_shift
from multiqsm.core.inversion.orientations import condition_of_directions
from multiqsm.simulation.cohort import draw_patients, population
from multiqsm.simulation.grid import scan_affine
from multiqsm.simulation.head import anatomy, average_subject, head_model
from multiqsm.simulation.lesions import visible_volume
from multiqsm.simulation.plan import Placement, simulate
from multiqsm.simulation.study import make_design, make_patient_design


@pytest.fixture(scope="module")
def study():
    return make_design("study")


def test_study_is_that_of_2015(study):
    """Nine people of 28 ± 5 years, seven men; fifteen scans each; the phantom at each scanner."""
    *people, cylinder = study.participants
    ages = [person.age for person in people]
    assert (len(people), min(ages), max(ages)) == (9, 23, 37)
    assert (round(np.mean(ages)), round(np.std(ages, ddof=1))) == (28, 5)
    assert Counter(person.sex for person in people) == {"M": 7, "F": 2}
    n_scans = Counter(plan.participant for plan in study.plans)
    assert n_scans == dict.fromkeys(study.participants, 15)
    assert cylinder.species == "phantom"
    head = study.plans[0].protocol
    phantom = study.plans[-1].protocol
    assert (head.shape, head.voxel_size, head.flip_angle) == ((256, 256, 64), (1, 1, 2), 5)
    np.testing.assert_allclose(head.echo_times, [0.006, 0.012, 0.018, 0.024, 0.030, 0.036])
    assert (phantom.shape, phantom.flip_angle, phantom.repetition_time) == (
        (224, 216, 92),
        30,
        0.03,
    )
    np.testing.assert_allclose(phantom.echo_times, 0.0026 + 0.004 * np.arange(6))


def test_scanners_differ_in_what_matters(study):
    a, b, c = study.sessions["01"]
    assert (a.site, b.site, c.site) == ("A", "B", "C")
    assert (a.vendor, b.vendor, c.vendor) == ("siemens", "siemens", "ge")
    assert (a.snr, b.snr, c.snr) == (185, 165, 260)
    assert len({a.imaging_frequency, b.imaging_frequency, c.imaging_frequency}) == 3
    for plan in study.plans:
        assert plan.protocol.imaging_frequency == plan.scanner.imaging_frequency
        assert plan.protocol.snr == plan.scanner.snr


def test_same_seed_same_plans_and_another_seed_others(study):
    assert make_design("study") == study
    reseeded = make_design("study", seed=1)
    for plan, reseeded_plan in zip(study.plans, reseeded.plans, strict=True):
        assert plan.scan_seed != reseeded_plan.scan_seed


def test_a_part_of_a_study_has_the_whole_studys_plans(study):
    part = make_design("study", subjects=2, runs=3, sites=["C", "A"])
    assert len(part.plans) == 2 * 2 * 3 + 2 * 3
    for plan in part.plans:
        assert plan.entities["session"] in "AC"
        assert plan in study.plans


def test_more_people_than_the_study_had(study):
    larger = make_design("study", subjects=11)
    assert set(map(repr, study.plans)) <= set(map(repr, larger.plans))
    first = larger.plans[0]
    tenth = larger.plans[9 * 15]
    assert (first.entities["subject"], tenth.entities["subject"]) == ("01", "10")
    assert first.participant.age == tenth.participant.age
    assert first.subject.chi != tenth.subject.chi


def test_no_two_scans_share_random_numbers(study):
    seeds = pd.DataFrame(map(vars, study.plans))[["scan_seed", "anatomy_seed"]].nunique()
    assert seeds["scan_seed"] == len(study.plans)
    assert seeds["anatomy_seed"] == 10


def test_heads_settle_for_a_session_and_move_little_within(study):
    """Runs of a session differ by less than 2 mm and 2 degrees; the image stays where it was
    prescribed.
    """
    first = {}
    for plan in study.plans:
        start = first.setdefault((plan.entities["subject"], plan.entities["session"]), plan)
        assert plan.prescription == start.prescription
        motion = plan.position.matrix @ np.linalg.inv(start.position.matrix)
        angle = np.degrees(np.arccos(np.clip((np.trace(motion[:3, :3]) - 1) / 2, -1, 1)))
        assert angle < 2
        assert np.linalg.norm(motion[:3, 3]) < 3
    assert len({start.position for start in first.values()}) == len(first) == 30


def test_images_are_prescribed_obliquely_on_the_head(study):
    tilts = []
    for plan in study.plans:
        tilts.append(np.degrees(np.arccos(plan.prescription.matrix[2, 2])))
        size = np.linalg.norm(plan.affine[:3, :3], axis=0)
        np.testing.assert_allclose(size, plan.protocol.voxel_size)
    assert max(tilts) < 25
    assert np.median(tilts) > 1


def test_drift_is_that_of_the_session(study):
    drifts = [plan.b0_drift for plan in study.plans[:5]]
    assert drifts[0] == 0
    assert drifts[1] != 0
    np.testing.assert_allclose(np.diff(drifts), drifts[1])


def test_voxels_of_another_size_keep_the_field_of_view():
    design = make_design("study", voxel_size=(3, 3, 4))
    assert design.plans[0].protocol.shape == (86, 86, 32)
    assert design.plans[0].protocol.voxel_size == (3, 3, 4)


def test_protocols_vary_between_sites_on_demand(study):
    """Voxels and echo times of heads are the site's, in the same field of view; all else is the
    study's.
    """
    varied = make_design("study", vary_protocols=True)
    assert "protocols that differ between sites" in varied.summary
    assert "protocols" not in study.summary
    heads = {}
    for plan, own in zip(varied.plans, study.plans, strict=True):
        if plan.participant.model == "phantom":
            assert plan == own
            continue
        heads[plan.scanner.site] = plan.protocol
        protocol = replace(
            plan.protocol,
            shape=own.protocol.shape,
            voxel_size=own.protocol.voxel_size,
            echo_times=own.protocol.echo_times,
        )
        assert replace(plan, protocol=protocol) == own
        extent = np.multiply(plan.protocol.shape, plan.protocol.voxel_size)
        own_extent = np.multiply(own.protocol.shape, own.protocol.voxel_size)
        np.testing.assert_allclose(extent, own_extent, atol=max(plan.protocol.voxel_size))
        assert plan.protocol.echo_times[-1] < plan.protocol.repetition_time
    assert heads["A"].voxel_size == (1, 1, 2)
    assert heads["B"].voxel_size == (0.8, 0.8, 2.4)
    assert heads["C"].voxel_size == (1.2, 1.2, 1.6)
    assert len(heads["B"].echo_times) == 7
    assert len(heads["C"].echo_times) == 5
    assert heads["A"] == study.plans[0].protocol


def test_varied_protocols_keep_their_ratios_in_other_voxels():
    plans = make_design("demo", subjects=1, runs=1, voxel_size=(4, 4, 5), vary_protocols=True).plans
    sizes = [plan.protocol.voxel_size for plan in plans]
    np.testing.assert_allclose(sizes, [(4, 4, 5), (3.2, 3.2, 6), (4.8, 4.8, 4)])


def test_a_head_is_turned_by_20_degrees_about_two_axes():
    """The image is turned with it, so that the head keeps its place in the image."""
    plans = make_design("cosmos").plans
    assert [plan.entities["run"] for plan in plans] == ["1", "2", "3", "4", "5"]
    assert {plan.scanner.site for plan in plans} == {"A"}
    assert len({plan.anatomy_seed for plan in plans}) == 1
    b0_dirs = []
    for plan in plans:
        to_head = np.linalg.inv(plan.position.matrix)
        b0_dirs.append(to_head[:3, 2])
        place = to_head @ plan.affine
        first = np.linalg.inv(plans[0].position.matrix) @ plans[0].affine
        # Between runs the head moves by a few tenths of a degree and of a millimetre.
        assert grid_shift(plan.protocol.shape, place, first) < 4
    angles = np.degrees(np.arccos(np.clip(b0_dirs @ b0_dirs[0], -1, 1)))
    np.testing.assert_allclose(angles, [0, 20, 20, 20, 20], atol=1.5)
    across = np.degrees(np.arccos(b0_dirs[1] @ b0_dirs[2]))
    assert across == pytest.approx(40, abs=2)
    assert condition_of_directions(b0_dirs) < 3.5
    part = make_design("cosmos", runs=3).plans
    assert part == plans[:3]


def test_phantom_alone():
    design = make_design("phantom", runs=1)
    assert [plan.entities["session"] for plan in design.plans] == ["A", "B", "C"]
    (participant,) = design.participants
    assert participant.species == "phantom"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "nothing"}, "no design"),
        ({"name": "study", "sites": ["Z"]}, "no site Z"),
        ({"name": "study", "runs": 0}, "at least one"),
        ({"name": "study", "subjects": 0}, "at least one"),
        ({"name": "cosmos", "runs": 6}, "5 head positions, one for each run: 6 runs"),
        ({"name": "phantom", "subjects": 2}, "no subjects"),
        ({"name": "phantom", "vary_protocols": True}, "no heads"),
    ],
)
def test_impossible_designs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_design(**options)


def test_placements_combine_like_their_matrices():
    a, b = Placement((10, -20, 30), (1, 2, 3)), Placement((0, 5, -7), (-4, 0, 2))
    np.testing.assert_allclose(a.after(b).matrix, a.matrix @ b.matrix, atol=1e-12)


def simulate_without_noise(plan):
    return simulate(replace(plan, protocol=replace(plan.protocol, snr=np.inf)))


@pytest.mark.parametrize("site", ["A", "C"])
def test_first_echo_has_the_sites_snr(site):
    """In a scan as planned, noise alone fills the corners of the image; within 5 %."""
    plan = make_design("demo", subjects=1, runs=1, sites=[site], voxel_size=(6, 6, 6)).plans[0]
    scan = simulate(plan)
    clean = simulate_without_noise(plan)
    noise = scan.signal[..., 0] - clean.signal[..., 0]
    measured = np.abs(clean.signal[..., 0])[scan.mask].mean() / noise.real.std()
    assert measured == pytest.approx(plan.scanner.snr, rel=0.05)


def test_flow_reaches_the_ventricles_of_heads_alone():
    """The design requests flow and its summary says so; phantoms, whose tubes have the same labels,
    have none.
    """
    options = {"subjects": 1, "runs": 1, "sites": ["A"], "voxel_size": (6, 6, 6)}
    still = make_design("study", **options)
    moving = make_design("study", **options, flow_phase=1.0)
    assert "flow" not in still.summary
    assert "flow phase 1 rad" in moving.summary
    head, phantom = map(simulate_without_noise, still.plans)
    head_with_flow, phantom_with_flow = map(simulate_without_noise, moving.plans)
    np.testing.assert_array_equal(phantom_with_flow.signal, phantom.signal)
    phase = np.abs(np.angle(head_with_flow.signal[..., -1] * head.signal[..., -1].conj()))
    ventricle = head.labels == anatomy()["labels"]["lateral_ventricle"]
    assert np.percentile(phase[ventricle], 90) > 0.1
    assert np.median(phase[head.mask & ~ventricle]) < 0.01
    cohort = make_patient_design(draw_patients(1), flow_phase=0.5)
    assert cohort.plans[0].flow_phase == 0.5


# ------------------------------------------------------------------------------
# Patients
# ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patients():
    return draw_patients(4000)


def measure(patients, name):
    return np.array([patient.measures[name] for patient in patients])


def columns_of(patients):
    """All columns of patients; male sex as 0 and 1."""
    table = pd.DataFrame(map(vars, patients)).drop(columns="measures")
    for name in patients[0].measures:
        table[name] = measure(patients, name)
    return table.assign(male=(table["sex"] == "M").astype(int))


@pytest.mark.parametrize(
    ("name", "mean", "sd", "low", "high"),
    [
        ("age", 42, 10, 25, 71),
        ("disease_duration", 8.9, 7.8, 0.3, 33.7),
        ("edss", 2.2, 2.2, 0, 8.5),
        ("t2_lesion_volume", 11.0, 15.8, 0.1, 122.4),
        ("relative_susceptibility", -29.0, 11.7, -np.inf, np.inf),
        ("thalamic_volume", 14.0, 2.1, 0, np.inf),
        ("grey_matter_volume", 607, 67, 0, np.inf),
        ("cortical_thickness", 2.4, 0.16, 0, np.inf),
    ],
)
def test_measures_of_patients_are_as_published(patients, name, mean, sd, low, high):
    """Means and standard deviations of Chiang et al., within four standard errors of 4000 patients
    and half of the last published digit; no value is beyond the published range of what cannot be
    negative or is bounded.
    """
    values = columns_of(patients)[name]
    n = len(values)
    kurtosis = stats.kurtosis(values, fisher=False)
    digit = 0.05 * 10 ** np.floor(np.log10(sd))
    assert abs(values.mean() - mean) < 4 * sd / np.sqrt(n) + digit
    assert abs(values.std() - sd) < 4 * sd * np.sqrt((kurtosis - 1) / n) / 2 + digit
    assert values.between(low, high).all()


def test_groups_of_patients_are_as_published(patients):
    """57 of 95 on therapy, 9 with enhancing lesions, two thirds women: within four standard errors.
    Disability has the steps of its scale, which has no 0.5.
    """
    table = columns_of(patients)
    for name, fraction in (("therapy", 57 / 95), ("enhancing_lesions", 9 / 95), ("male", 1 / 3)):
        error = np.sqrt(fraction * (1 - fraction) / len(table))
        assert abs(table[name].mean() - fraction) < 4 * error, name
    assert set(table["edss"]) == {0, *np.arange(1, 9, 0.5)}


def test_five_of_a_hundred_patients_have_poor_images(patients):
    poor = np.array([patient.image_quality == "poor" for patient in patients])
    np.testing.assert_array_equal(poor.reshape(-1, 100).sum(axis=1), 5)
    assert len(set(np.flatnonzero(poor) % 100)) > 50  # they are others in each hundred
    cohort = draw_patients()
    assert len(cohort) == 100
    snr = {"good": set(), "poor": set()}
    for plan in make_patient_design(cohort).plans:
        snr[plan.patient.image_quality].add(plan.protocol.snr)
    assert snr == {"good": {260}, "poor": {20}}


def test_patients_follow_the_published_regressions(patients):
    """Ordinary least squares in many patients, within three standard errors.

    Lesion volume has the published coefficient of susceptibility, and grows with disease duration
    as in most cohorts with P < .001; it does not depend on age, sex and therapy.
    """
    table = columns_of(patients)
    covariates = ["age", "male", "disease_duration", "therapy"]
    designed = {
        "relative_susceptibility": {"age": 0.27, "enhancing_lesions": 10.68},
        "t2_lesion_volume": {"relative_susceptibility": 0.029, "disease_duration": 0.06},
    }
    for outcome, further in (
        ("relative_susceptibility", "enhancing_lesions"),
        ("t2_lesion_volume", "relative_susceptibility"),
    ):
        values = table[outcome]
        if population()["regressions"][outcome]["transform"] == "log":
            values = np.log(values)
        fit = sm.OLS(values, sm.add_constant(table[[*covariates, further]].astype(float))).fit()
        for name in (*covariates, further):
            true = designed[outcome].get(name, 0)
            assert abs(fit.params[name] - true) < 3 * fit.bse[name], (outcome, name)


def test_cohorts_have_the_published_relation_to_disease_duration():
    """Published: P < .001 of duration; .25, .90 and .81 of age, sex and therapy."""
    p_values = []
    for seed in range(20):
        table = columns_of(draw_patients(seed=seed))
        x = table[["relative_susceptibility", "age", "male", "disease_duration", "therapy"]]
        fit = sm.OLS(np.log(table["t2_lesion_volume"]), sm.add_constant(x.astype(float))).fit()
        p_values.append(fit.pvalues)
    median = pd.DataFrame(p_values).median()
    assert median["disease_duration"] < 0.001
    assert (median[["age", "male", "therapy"]] > 0.05).all()


# ------------------------------------------------------------------------------
# Lesions
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("volume", [0.5, 11.0, 122.4])
def test_lesions_have_the_volume_of_the_table_in_the_head(patients, volume):
    """Within 3 %, on voxels of 1.5 mm, also where lesions fill a quarter of the white matter; none
    is outside the brain.
    """
    patient = replace(patients[0], measures={**patients[0].measures, "t2_lesion_volume": volume})
    subject = make_patient_design([patient]).plans[0].subject
    shape = (110, 140, 100)
    tissue = head_model(subject, shape, scan_affine(shape, (1.5, 1.5, 1.5), centre=(0, -18, 10)))
    is_lesion = tissue.labels == anatomy()["labels"]["lesion"]
    assert is_lesion.sum() * 1.5**3 / 1000 == pytest.approx(volume, rel=0.03)
    assert (tissue.region[is_lesion] > 0.5).all()


def test_volume_of_lesions_is_that_of_balls_and_of_their_union():
    """One ball, two apart, and two of which one contains the other; 2 % for voxels of 1 mm."""
    head = average_subject()
    ball = (25.0, -20.0, 30.0, 4.0, 4.0, 4.0, 0.0, 0.0, 0.0)
    beside = (-25.0, *ball[1:])
    within = (*ball[:3], 2.0, 2.0, 2.0, 0.0, 0.0, 0.0)
    one = 4 / 3 * np.pi * 4**3
    assert visible_volume(head, [ball]) == pytest.approx(one, rel=0.02)
    assert visible_volume(head, [ball, beside]) == pytest.approx(2 * one, rel=0.02)
    assert visible_volume(head, [ball, within]) == visible_volume(head, [ball])
    larger = replace(head, affine=np.diag([0.5, 1, 1, 1]))  # a head twice as wide as the template
    assert visible_volume(larger, [ball]) == pytest.approx(2 * one, rel=0.02)


def test_fewer_patients_are_the_first_of_more(patients):
    assert draw_patients(7) == patients[:7]
    assert draw_patients(7, seed=1) != patients[:7]
    table = pd.DataFrame(map(vars, patients))
    assert table["disease_duration"].min() >= 0
    assert (table["disease_duration"] <= table["age"] - 16).all()
