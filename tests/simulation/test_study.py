"""The designs: who is scanned where and how, and that each scan depends on its own key alone."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from multiqsm.simulation.cohort import draw_patients, population
from multiqsm.simulation.head import anatomy
from multiqsm.simulation.plan import Placement, simulate
from multiqsm.simulation.study import make_design, make_patient_design


@pytest.fixture(scope="module")
def study():
    return make_design("study")


def test_study_is_that_of_2015(study):
    """Nine people of 28 ± 5 years, seven men; fifteen scans each; the phantom at each scanner."""
    people = [who for who in study.participants if who.species == "homo sapiens"]
    ages = [who.age for who in people]
    assert (len(people), min(ages), max(ages)) == (9, 23, 37)
    assert (round(np.mean(ages)), round(np.std(ages, ddof=1))) == (28, 5)
    assert [who.sex for who in people].count("M") == 7
    assert len([plan for plan in study.plans if plan.participant in people]) == 135
    phantoms = [plan for plan in study.plans if plan.participant.model == "phantom"]
    assert len(phantoms) == 15
    head, phantom = study.plans[0].protocol, phantoms[0].protocol
    assert (head.shape, head.voxel_size, head.flip_angle) == ((256, 256, 64), (1, 1, 2), 5)
    np.testing.assert_allclose(head.echo_times, [0.006, 0.012, 0.018, 0.024, 0.030, 0.036])
    assert (phantom.shape, phantom.flip_angle, phantom.repetition_time) == (
        (224, 216, 92),
        30,
        0.03,
    )
    np.testing.assert_allclose(phantom.echo_times, 0.0026 + 0.004 * np.arange(6))


def test_scanners_differ_in_what_matters(study):
    scanners = {plan.scanner.site: plan.scanner for plan in study.plans}
    assert [scanners[site].vendor for site in "ABC"] == ["siemens", "siemens", "ge"]
    assert [scanners[site].snr for site in "ABC"] == [185, 165, 260]
    assert len({scanner.imaging_frequency for scanner in scanners.values()}) == 3
    for plan in study.plans:
        assert plan.protocol.imaging_frequency == plan.scanner.imaging_frequency
        assert plan.protocol.snr == plan.scanner.snr


def test_same_seed_same_plans_and_another_seed_others(study):
    assert make_design("study") == study
    other = make_design("study", seed=1)
    assert all(a.scan_seed != b.scan_seed for a, b in zip(study.plans, other.plans, strict=True))


def test_a_part_of_a_study_has_the_whole_studys_plans(study):
    part = make_design("study", subjects=2, runs=3, sites=["C", "A"])
    assert len(part.plans) == 2 * 2 * 3 + 2 * 3
    assert set(plan.entities["session"] for plan in part.plans) == {"A", "C"}
    assert all(plan in study.plans for plan in part.plans)


def test_more_people_than_the_study_had(study):
    larger = make_design("study", subjects=11)
    assert set(map(repr, study.plans)) <= set(map(repr, larger.plans))
    first, tenth = (
        next(p for p in larger.plans if p.entities["subject"] == label) for label in ("01", "10")
    )
    assert first.participant.age == tenth.participant.age
    assert first.subject.chi != tenth.subject.chi


def test_no_two_scans_share_random_numbers(study):
    assert len({plan.scan_seed for plan in study.plans}) == len(study.plans)
    assert len({plan.anatomy_seed for plan in study.plans}) == 10


def test_heads_settle_for_a_session_and_move_little_within(study):
    """Runs of a session differ by less than 2 mm and 2 degrees; the image stays where it was
    prescribed.
    """
    sessions = {}
    for plan in study.plans:
        sessions.setdefault((plan.entities["subject"], plan.entities["session"]), []).append(plan)
    for plans in sessions.values():
        assert len({plan.prescription for plan in plans}) == 1
        for plan in plans:
            motion = plan.position.matrix @ np.linalg.inv(plans[0].position.matrix)
            angle = np.degrees(np.arccos(np.clip((np.trace(motion[:3, :3]) - 1) / 2, -1, 1)))
            assert angle < 2
            assert np.linalg.norm(motion[:3, 3]) < 3
    positions = {plans[0].position for plans in sessions.values()}
    assert len(positions) == len(sessions)


def test_images_are_prescribed_obliquely_on_the_head(study):
    for plan in study.plans:
        tilt = np.degrees(np.arccos(plan.prescription.matrix[2, 2]))
        assert tilt < 25
        size = np.linalg.norm(plan.affine[:3, :3], axis=0)
        np.testing.assert_allclose(size, plan.protocol.voxel_size)
    tilts = [np.degrees(np.arccos(plan.prescription.matrix[2, 2])) for plan in study.plans]
    assert np.median(tilts) > 1


def test_drift_is_that_of_the_session(study):
    drifts = [plan.b0_drift for plan in study.plans if plan.entities["subject"] == "01"][:5]
    assert drifts[0] == 0
    assert drifts[1] != 0
    np.testing.assert_allclose([b - a for a, b in pairwise(drifts)], drifts[1])


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
        same = {name: getattr(own.protocol, name) for name in ("shape", "voxel_size", "echo_times")}
        assert replace(plan, protocol=replace(plan.protocol, **same)) == own
        extents = [np.multiply(p.shape, p.voxel_size) for p in (plan.protocol, own.protocol)]
        np.testing.assert_allclose(*extents, atol=max(plan.protocol.voxel_size))
        assert plan.protocol.echo_times[-1] < plan.protocol.repetition_time
    assert [heads[site].voxel_size for site in "ABC"] == [
        (1, 1, 2),
        (0.8, 0.8, 2.4),
        (1.2, 1.2, 1.6),
    ]
    assert [len(heads[site].echo_times) for site in "ABC"] == [6, 7, 5]
    assert heads["A"] == study.plans[0].protocol


def test_varied_protocols_keep_their_ratios_in_other_voxels():
    plans = make_design("demo", subjects=1, runs=1, voxel_size=(4, 4, 5), vary_protocols=True).plans
    sizes = [plan.protocol.voxel_size for plan in plans]
    np.testing.assert_allclose(sizes, [(4, 4, 5), (3.2, 3.2, 6), (4.8, 4.8, 4)])


def test_phantom_alone():
    design = make_design("phantom", runs=1)
    assert [plan.entities["session"] for plan in design.plans] == ["A", "B", "C"]
    assert {plan.participant.species for plan in design.plans} == {"phantom"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "nothing"}, "no design"),
        ({"name": "study", "sites": ["Z"]}, "no site Z"),
        ({"name": "study", "runs": 0}, "at least one"),
        ({"name": "study", "subjects": 0}, "at least one"),
        ({"name": "phantom", "subjects": 2}, "no subjects"),
        ({"name": "phantom", "vary_protocols": True}, "no heads"),
    ],
)
def test_senseless_designs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_design(**options)


def test_placements_combine_like_their_matrices():
    a, b = Placement((10, -20, 30), (1, 2, 3)), Placement((0, 5, -7), (-4, 0, 2))
    np.testing.assert_allclose(a.after(b).matrix, a.matrix @ b.matrix, atol=1e-12)


@pytest.mark.parametrize("site", ["A", "C"])
def test_first_echo_has_the_sites_snr(site):
    """In a scan as planned, noise alone fills the corners of the image; within 5 %."""
    plan = make_design("demo", subjects=1, runs=1, sites=[site], voxel_size=(6, 6, 6)).plans[0]
    scan = simulate(plan)
    clean = simulate(replace(plan, protocol=replace(plan.protocol, snr=np.inf)))
    noise = scan.signal[..., 0] - clean.signal[..., 0]
    measured = np.abs(clean.signal[..., 0])[scan.mask].mean() / noise.real.std()
    assert measured == pytest.approx(plan.scanner.snr, rel=0.05)


def test_flow_reaches_the_ventricles_of_heads_alone():
    """Asked for in the design and named in its summary; a phantom, whose tubes have the same
    labels, is still.
    """
    options = {"subjects": 1, "runs": 1, "sites": ["A"], "voxel_size": (6, 6, 6)}
    still, moving = (make_design("study", **options, flow_phase=phase) for phase in (0.0, 1.0))
    assert "flow" not in still.summary
    assert "flow phase 1 rad" in moving.summary
    for model in ("head", "phantom"):
        plans = [
            next(p for p in design.plans if p.participant.model == model)
            for design in (still, moving)
        ]
        one, two = (
            simulate(replace(plan, protocol=replace(plan.protocol, snr=np.inf))) for plan in plans
        )
        turn = np.abs(np.angle(two.signal[..., -1] * one.signal[..., -1].conj()))
        if model == "phantom":
            np.testing.assert_array_equal(one.signal, two.signal)
        else:
            ventricle = one.labels == anatomy()["labels"]["lateral_ventricle"]
            assert np.percentile(turn[ventricle], 90) > 0.1
            assert np.median(turn[one.mask & ~ventricle]) < 0.01
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


def test_patients_are_as_published(patients):
    """Means and standard deviations of Chiang et al., within 5 %, but 20 % for lesions, which have
    no upper tail.
    """
    chi = measure(patients, "relative_susceptibility")
    assert chi.mean() == pytest.approx(-29.0, rel=0.05)
    assert chi.std() == pytest.approx(11.7, rel=0.05)
    assert np.mean([patient.age for patient in patients]) == pytest.approx(42, rel=0.05)
    lesions = measure(patients, "t2_lesion_volume")
    assert lesions.max() <= 100
    assert lesions.mean() == pytest.approx(11.0, rel=0.1)
    assert lesions.std() == pytest.approx(15.8, rel=0.2)
    for name, mean, sd in [
        ("thalamic_volume", 14.0, 2.1),
        ("grey_matter_volume", 607, 67),
        ("cortical_thickness", 2.4, 0.16),
    ]:
        values = measure(patients, name)
        assert (values.mean(), values.std()) == (
            pytest.approx(mean, rel=0.05),
            pytest.approx(sd, rel=0.05),
        )


def test_lesions_of_the_default_cohort_fit_into_a_brain():
    lesions = measure(draw_patients(), "t2_lesion_volume")
    assert lesions.size == 95
    assert 0 < lesions.min() < lesions.max() <= 100
    assert lesions.mean() == pytest.approx(11.0, abs=3 * 15.8 / np.sqrt(95))


def test_regressions_return_their_coefficients(patients):
    """Ordinary least squares in many patients, within three standard errors."""
    chi = measure(patients, "relative_susceptibility")
    predictors = ("age", "enhancing_lesions", "disease_duration", "therapy")
    columns = [
        np.ones(len(chi)),
        *(np.array([getattr(p, x) for p in patients], float) for x in predictors),
    ]
    x = np.stack(columns, axis=1)
    slopes, residual, *_ = np.linalg.lstsq(x, chi, rcond=None)
    errors = np.sqrt(residual / (len(chi) - x.shape[1]) * np.diag(np.linalg.inv(x.T @ x)))
    true = population()["regressions"]["relative_susceptibility"]["coefficients"]
    for name, slope, error in zip(predictors, slopes[1:], errors[1:], strict=True):
        assert abs(slope - true.get(name, 0)) < 3 * error, name
    line = stats.linregress(chi, np.log(measure(patients, "t2_lesion_volume")))
    assert abs(line.slope - 0.029) < 3 * line.stderr


def test_fewer_patients_are_the_first_of_more(patients):
    assert draw_patients(7) == patients[:7]
    assert draw_patients(7, seed=1) != patients[:7]
    assert all(0 <= p.disease_duration <= p.age - 16 for p in patients)
