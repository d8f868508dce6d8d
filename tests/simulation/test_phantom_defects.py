"""A phantom's tilted tubes, bubbles, ghosts and temperature."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from multiqsm.simulation.acquisition import acquire
from multiqsm.simulation.effects import ROUGH, Effects, effect_generator
from multiqsm.simulation.effects.phantom_defects import PhantomDefects, add_ghosts, draw_build
from multiqsm.simulation.effects.temperature import Temperature, thermal_state
from multiqsm.simulation.grid import block_mean, scan_affine
from multiqsm.simulation.phantom import (
    AIR,
    BUBBLE_LABEL,
    PERFECT,
    TUBE_SUSCEPTIBILITY,
    Bubble,
    Build,
    label_names,
    phantom_model,
    tube_centres,
)
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.protocol import Protocol
from multiqsm.simulation.specimen import magnetize
from multiqsm.simulation.study import make_design

SHAPE, VOXEL = (70, 70, 72), (3.0, 3.0, 3.0)
AFFINE = scan_affine(SHAPE, VOXEL)


def points(shape=SHAPE, affine=AFFINE):
    """Coordinates of all voxels, mm."""
    return (
        np.einsum("ij,jxyz->ixyz", affine[:3, :3], np.indices(shape))
        + affine[:3, 3, None, None, None]
    )


def test_tilt_moves_tube_and_label_by_its_angle():
    """The axis of a tube, as the line through the centres of its slices."""
    tilts = [(0.0, 0.0)] * 6
    tilts[2] = (3.0, 0.0)  # about x: the upper end moves to -y
    tilts[4] = (0.0, 2.0)  # about y: the upper end moves to +x
    tissue = phantom_model(SHAPE, AFFINE, build=Build(tilts=tuple(tilts)))
    x, y, z = points()
    for label, tilt in enumerate(tilts, start=1):
        inside = (tissue.labels == label) & (np.abs(z) < 75)
        heights = np.unique(z[inside])
        slopes = []
        for coordinate in (x, y):
            means = [coordinate[inside & (z == height)].mean() for height in heights]
            slopes.append(np.polyfit(heights, means, 1)[0])
        # Whole voxels of 3 mm: the mean of some thirty of them is off by 0.2 mm, over 150 mm.
        expected = np.tan(np.deg2rad([tilt[1], -tilt[0]]))
        np.testing.assert_allclose(slopes, expected, atol=np.deg2rad(0.15))
        core = inside & (np.abs(tissue.chi - TUBE_SUSCEPTIBILITY[label - 1]) < 1e-4)
        assert core.sum() > 0.5 * inside.sum()


def test_field_of_a_bubble_is_that_of_a_ball_of_air():
    """χ/3 (r/d)³ (3 cos² - 1) with the phantom less the same without the bubble."""
    bubble = Bubble((3.0, 60.0, -6.0), 6.0)
    fields = []
    for build in (PERFECT, Build(bubbles=(bubble,))):

        def model(shape, affine, build=build):
            return phantom_model(shape, affine, build=build)

        specimen = magnetize(model, AFFINE, SHAPE)
        field = np.zeros(SHAPE, np.float32)
        low = np.floor_divide(specimen.corner, specimen.oversampling)
        mean = block_mean(specimen.total_field, specimen.oversampling)
        field[tuple(map(slice, low, low + mean.shape))] = mean
        fields.append(field)
    own = fields[1] - fields[0]
    offset = points() - np.array(bubble.centre)[:, None, None, None]
    distance = np.linalg.norm(offset, axis=0)
    expected = AIR / 3 * (6.0 / distance) ** 3 * (3 * (offset[2] / distance) ** 2 - 1)
    around = (distance > 12) & (distance < 25) & (fields[0] != 0)
    # Tubes are not displaced here, and the ball's volume on voxels of 1.5 mm is exact to 3 %.
    scale = (own[around] @ expected[around]) / (expected[around] @ expected[around])
    assert scale == pytest.approx(1, abs=0.03)
    assert np.abs(own - expected)[around].max() < 0.05 * np.abs(expected[around]).max()


def test_bubble_is_air_outside_the_region_of_interest():
    bubble = Bubble((0.0, 90.0, 0.0), 9.0)
    build = Build(bubbles=(bubble,))
    tissue = phantom_model(SHAPE, AFFINE, build=build)
    assert label_names(build)[BUBBLE_LABEL] == "bubble"
    assert BUBBLE_LABEL not in label_names()
    assert (tissue.labels == BUBBLE_LABEL).any()
    lost = phantom_model(SHAPE, AFFINE).region.sum() - tissue.region.sum()
    volume = lost * np.prod(VOXEL)
    assert volume == pytest.approx(4 / 3 * np.pi * bubble.radius**3, rel=0.03)
    full = np.linalg.norm(points() - np.array(bubble.centre)[:, None, None, None], axis=0) < 5
    np.testing.assert_allclose(tissue.chi[full], AIR, rtol=1e-5)
    assert tissue.pd[full].max() == 0
    assert tissue.region[full].max() == 0


def test_bubbles_lie_at_the_top_of_water_and_tubes():
    defects = PhantomDefects(bubbles=5.0, tube_bubbles=1.0)
    for seed in range(5):
        build = draw_build(defects, np.random.default_rng(seed))
        centres = tube_centres()
        for bubble in build.bubbles:
            x, y, z = bubble.centre
            at_wall = np.isclose(np.hypot(x, y) + bubble.radius, 100.0) and y > 95
            at_tube = np.isclose(y + bubble.radius, centres[:, 1] + 9.0) & np.isclose(
                x, centres[:, 0]
            )
            assert at_wall or (at_tube.any() and abs(z) > 65)


@pytest.fixture(scope="module")
def plain():
    """A coarse scan of the perfect phantom, nearly without noise."""
    protocol = Protocol(SHAPE, VOXEL, (0.005, 0.015), 0.03, 30, snr=1e5, oversampling=(1, 1, 1))
    specimen = magnetize(phantom_model, AFFINE, SHAPE, oversampling=(1, 1, 1))
    return protocol, specimen, acquire(specimen, protocol, seed=3)


def test_ghosts_are_the_shifted_phantom(plain):
    """Of gain: half its amplitude on either side, at every echo, nothing else."""
    _, _, scan = plain
    images = np.moveaxis(scan.signal, -1, 0).copy()
    defects = PhantomDefects(gain=0.02, vibration=0.0)
    rng = np.random.default_rng(1)
    shift = add_ghosts(images, (0.005, 0.015), defects, rng)["GhostShift"]
    assert 0.1 * SHAPE[0] <= shift <= 0.5 * SHAPE[0]
    ghosts = images - np.moveaxis(scan.signal, -1, 0)
    for ghost, image in zip(ghosts, np.moveaxis(scan.signal, -1, 0), strict=True):
        power = np.sum(np.abs(ghost) ** 2) / np.sum(np.abs(image) ** 2)
        # Two ghosts of 0.01 each; where they overlap they interfere.
        assert power == pytest.approx(2 * 0.01**2, rel=0.5)


def test_ghosts_of_vibration_grow_with_the_echo_time(plain):
    _, _, scan = plain
    images = np.moveaxis(scan.signal, -1, 0).copy()
    add_ghosts(
        images, (0.005, 0.015), PhantomDefects(gain=0.0, vibration=0.1), np.random.default_rng(1)
    )
    ghosts = np.linalg.norm(
        (images - np.moveaxis(scan.signal, -1, 0)).reshape(2, -1), axis=1
    ) / np.linalg.norm(scan.signal.reshape(-1, 2), axis=0)
    assert ghosts[1] / ghosts[0] == pytest.approx(3, rel=0.05)


def test_frequency_falls_by_10_ppb_for_each_degree():
    """Also between the runs of a session, whose temperatures approach the room's."""
    temperature = Temperature(start_sd=2.0)
    protocol = Protocol()
    states = []
    for run in (1, 2, 5):
        rng = effect_generator(7, "temperature")
        states.append(thermal_state(temperature, protocol, run, rng))
    for one, other in pairwise(states):
        warming = other.excess - one.excess
        assert other.offset - one.offset == pytest.approx(-0.01 * warming)
        assert abs(other.excess) < abs(one.excess) < abs(one.start)
    assert states[0].drift == pytest.approx(-0.01 * states[0].change)


def test_axis_is_warmer_than_the_rim_and_the_mean_is_the_offset(plain):
    """-0.01 ppm/K times the difference; averaged over a slice there is none."""
    _, specimen, _ = plain
    state = thermal_state(
        Temperature(core_excess=0.5), Protocol(), 1, effect_generator(7, "temperature")
    )
    warmed = state.warm(specimen, np.eye(4))
    change = warmed.total_field - specimen.total_field
    water = specimen.tissue.region > 0.99
    across = water[:, :, water.shape[2] // 2]
    slice_change = change[:, :, water.shape[2] // 2]
    assert abs(slice_change[across].mean()) < 0.1 * np.abs(slice_change[across]).max()
    difference = slice_change[across].max() - slice_change[across].min()
    assert difference == pytest.approx(0.01 * 0.5 * abs(state.excess), rel=0.1)
    assert np.ptp(change[specimen.tissue.pd == 0]) == 0


def test_drift_within_a_scan_shifts_no_phase_on_average(plain):
    """Water's phase is that of the middle of the scan, when the centre of k-space is acquired."""
    protocol, specimen, still = plain
    drifting = acquire(specimen, protocol, seed=3, field_drift=0.01)
    inner = np.zeros(SHAPE, bool)
    inner[25:45, 25:45, 30:40] = True
    inner &= still.labels == 7
    angle = np.angle(drifting.signal * still.signal.conj())[inner]
    # 0.01 ppm are 0.1 rad over the scan at 15 ms.
    assert np.abs(angle.mean(axis=0)).max() < 0.005
    assert not np.array_equal(drifting.signal, still.signal)


def test_a_phantom_is_the_same_in_all_its_scans_and_a_head_has_none_of_this():
    """Tilt and bubbles: everywhere; temperature: one course in a session; no defect of a head."""
    effects = Effects(phantom_defects=PhantomDefects(bubbles=3.0), temperature=Temperature())
    design = make_design("study", subjects=1, runs=2, voxel_size=(6, 6, 6), effects=effects)
    phantoms = [plan for plan in design.plans if plan.participant.model == "phantom"]
    builds = {replace(plan.build, susceptibility_factor=1.0) for plan in phantoms}
    assert len(builds) == 1
    assert builds != {PERFECT}
    starts = {plan.scanner.site: set() for plan in phantoms}
    for plan in phantoms:
        starts[plan.scanner.site].add(plan.thermal_state.start)
    assert [len(values) for values in starts.values()] == [1, 1, 1]
    head = design.plans[0]
    assert head.thermal_state is None
    assert head.effects.of("head") == Effects()
    scan = simulate(phantoms[1])
    assert scan.effects["temperature"]["TemperatureAboveRoom"] == phantoms[1].thermal_state.excess
    assert len(scan.effects["phantom_defects"]["TubeTilts"]) == 6
    again = simulate(phantoms[1], workers=2)
    np.testing.assert_array_equal(scan.signal, again.signal)


def test_rough_has_both():
    assert ROUGH.phantom_defects is not None
    assert ROUGH.temperature is not None
