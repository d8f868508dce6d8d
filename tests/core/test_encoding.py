"""Stored phase is decoded to radians if its encoding is recognised, and refused otherwise."""

import re

import nibabel as nib
import numpy as np
import pytest

from multiqsm.core.phase.encoding import (
    PhaseEncodingError,
    apply_sign,
    decode_phase,
    default_sign,
    from_real_imaginary,
    ppm_to_hz,
    wrap_phase,
)
from multiqsm.core.phase.encodings import (
    BOTH_RADIANS,
    DEGREES,
    MILLIRADIANS,
    PHILIPS_UNSIGNED,
    POSITIVE_DEGREES,
    POSITIVE_MILLIRADIANS,
    POSITIVE_RADIANS,
    RADIANS,
    SIEMENS_SIGNED,
    SIEMENS_UNSIGNED,
)
from multiqsm.core.phase.vendors import vendor

SIEMENS = {"units": "arbitrary", "manufacturer": "Siemens Healthineers"}


@pytest.fixture
def true_phase():
    return np.random.default_rng(0).uniform(-np.pi, np.pi, (11, 9, 7, 3))


def test_radians_stay_as_they_are(true_phase):
    # 0 and ±π are not special.
    true_phase.flat[:3] = 0, np.pi, -np.pi
    phase, encoding = decode_phase(true_phase.astype(np.float32), units="rad")
    assert encoding == RADIANS
    assert phase.dtype == np.float32
    np.testing.assert_array_equal(phase, true_phase.astype(np.float32))


@pytest.mark.parametrize("span", [2.5, 0.6])
def test_partial_range_is_not_stretched(true_phase, span):
    narrow = (true_phase * span / np.pi).astype(np.float32)
    np.testing.assert_array_equal(decode_phase(narrow, units="rad")[0], narrow)


def test_radians_may_exceed_pi_by_a_rounding_error(true_phase):
    true_phase.flat[0] = np.pi + 1e-3
    assert decode_phase(true_phase, units="rad")[1] == RADIANS


def test_radians_from_0_to_2pi(true_phase):
    phase, encoding = decode_phase(true_phase + np.pi, units="rad")
    assert encoding == POSITIVE_RADIANS
    # Values are not shifted to -π to π, although that would also be right.
    np.testing.assert_allclose(phase, true_phase + np.pi, atol=1e-6)


def test_some_echoes_may_range_from_0_to_2pi(true_phase):
    stored = np.where(np.arange(3) == 1, true_phase % (2 * np.pi), true_phase)
    phase, encoding = decode_phase(stored, units="rad", echo_axis=-1)
    assert encoding == BOTH_RADIANS
    np.testing.assert_allclose(np.exp(1j * phase), np.exp(1j * true_phase), atol=1e-6)
    assert decode_phase(np.moveaxis(stored, -1, 0), units="rad", echo_axis=0)[1] == BOTH_RADIANS
    with pytest.raises(PhaseEncodingError, match="such a range"):  # a single image has one range
        decode_phase(stored, units="rad")
    with pytest.raises(PhaseEncodingError, match="such a range"):
        decode_phase(1.5 * true_phase, units="rad", echo_axis=-1)


@pytest.mark.parametrize(
    ("encoding", "dtype"),
    [(SIEMENS_UNSIGNED, np.uint16), (SIEMENS_SIGNED, np.int16), (SIEMENS_SIGNED, np.float32)],
)
@pytest.mark.parametrize("span", [np.pi, 2.5])
def test_siemens_integers_round_trip(true_phase, encoding, dtype, span):
    true = true_phase * span / np.pi
    low, high = (0, 4095) if encoding is SIEMENS_UNSIGNED else (-4096, 4095)
    stored = np.clip(np.rint((true - encoding.offset) / encoding.scale), low, high).astype(dtype)
    phase, recognised = decode_phase(stored, **SIEMENS)
    assert recognised == encoding
    # Half a step of rounding, a whole step at the ends of the range.
    np.testing.assert_allclose(phase, true, atol=encoding.scale * 1.01)


def test_converted_siemens_integers_are_even_numbers(true_phase):
    # dcm2niix writes 2 x - 4096 for x = 0..4095.
    stored = (
        2 * np.rint((true_phase + np.pi) / (2 * np.pi) * 4096).clip(0, 4095).astype(np.int16) - 4096
    )
    phase, encoding = decode_phase(stored, **SIEMENS)
    assert encoding == SIEMENS_SIGNED
    np.testing.assert_allclose(phase, true_phase, atol=2 * np.pi / 4096 * 1.01)


def test_one_scale_serves_all_echoes(true_phase):
    # The first echo uses only a part of the range, as at a short echo time.
    true_phase[..., 0] *= 0.3
    stored = np.rint(true_phase / SIEMENS_SIGNED.scale).clip(-4096, 4095).astype(np.int16)
    phase, _ = decode_phase(stored, **SIEMENS)
    np.testing.assert_allclose(phase, true_phase, atol=SIEMENS_SIGNED.scale * 1.01)


@pytest.mark.parametrize("encoding", [RADIANS, SIEMENS_UNSIGNED, SIEMENS_SIGNED])
def test_full_range_is_recognised_without_metadata(true_phase, encoding):
    stored = (true_phase - encoding.offset) / encoding.scale
    if encoding is not RADIANS:
        stored = np.rint(stored).clip(-4096, 4095)
    assert decode_phase(stored)[1] == encoding


@pytest.mark.parametrize(
    ("low", "high", "integer", "sidecar", "message"),
    [
        (
            -0.00367,
            0.00367,
            False,
            {"units": "rad"},
            "span of 0.0073.* rad, too little for a phase image.*scl_slope",
        ),
        (-4.71, 4.71, False, {"units": "rad"}, "-4.7.* to 4.7.*such a range"),
        (
            0,
            4095,
            True,
            {"units": "rad", "manufacturer": "Siemens"},
            "cannot be radians.*Siemens integers",
        ),
        (0, 4095, False, SIEMENS, "does not identify an encoding"),
        (0, 2000, True, SIEMENS, "does not identify an encoding"),
        (-2048, 2047, True, SIEMENS, "does not identify an encoding"),
        (0, 65535, True, SIEMENS, "does not identify an encoding"),
        (-3142, 3142, True, SIEMENS, "Siemens scanner's phase does not fill this range"),
        (-3142, 3142, False, {"units": "rad", "manufacturer": "Philips"}, "such a range"),
        (-3500, 3500, True, {"units": "mrad"}, "in these units does not have such a range"),
        (
            -2048,
            2047,
            True,
            {"units": "arbitrary", "manufacturer": "GE MEDICAL SYSTEMS"},
            "GE MEDICAL SYSTEMS",
        ),
        (-2500, 2500, True, {"manufacturer": "Canon"}, "does not identify an encoding"),
        (-3259, 3259, True, {"units": "arbitrary"}, "does not identify an encoding"),
        (
            -np.pi,
            np.pi,
            False,
            {"units": "arbitrary", "manufacturer": "Philips"},
            "convert to radians and pass units='rad'",
        ),
        (-2.5, 2.5, False, {}, "units=None, manufacturer=None"),
        (-200, 200, False, {"units": "Hz"}, "'Hz'.*cannot have these units.*'rad' or 'arbitrary'"),
    ],
)
def test_unrecognised_encodings_are_refused_with_a_description(
    low, high, integer, sidecar, message
):
    stored = np.linspace(low, high, 1001)
    with pytest.raises(PhaseEncodingError, match=message) as error:
        decode_phase(np.rint(stored) if integer else stored, **sidecar)
    assert re.search(r"from \S+ to \S+;", str(error.value)), "the range of values is not stated"
    assert "sidecar" not in str(error.value)  # an array has none
    assert "the sidecar has Units" in error.value.for_image


@pytest.mark.parametrize(
    ("units", "manufacturer", "span"),
    [
        ("arbitrary", "Philips Medical Systems", np.pi),
        ("arbitrary", "PHILIPS", 2.5),
        (None, "GE MEDICAL SYSTEMS", np.pi),
        ("arbitrary", "GE HealthCare", 2.5),
        ("mrad", "Siemens", np.pi),
        ("milliradians", None, 1.0),
        ("arbitrary", "CANON_MEC", np.pi),
        (None, None, np.pi),
    ],
)
@pytest.mark.parametrize("is_scaled", [True, False])
def test_milliradians(true_phase, units, manufacturer, span, is_scaled):
    true = true_phase * span / np.pi
    stored = np.rint(1000 * true)
    if is_scaled:  # 12 bits, as Philips stores them, scaled by the slope and intercept of DICOM
        stored = 1.53455 * np.rint((1000 * true + 3142) / 1.53455).clip(0, 4095) - 3142
    phase, encoding = decode_phase(stored, units=units, manufacturer=manufacturer)
    assert encoding == MILLIRADIANS
    # Half a step of rounding; the intercept is rounded by 0.4 milliradians.
    np.testing.assert_allclose(phase, true, atol=1.3e-3)


def test_milliradians_from_0(true_phase):
    stored = np.rint(1000 * (true_phase % (2 * np.pi)))
    phase, encoding = decode_phase(stored, manufacturer="GE MEDICAL SYSTEMS")
    assert encoding == POSITIVE_MILLIRADIANS
    np.testing.assert_allclose(phase, true_phase % (2 * np.pi), atol=6e-4)


def test_philips_integers_without_their_slope(true_phase):
    stored = np.rint((1000 * true_phase + 3142) / 1.53455).clip(0, 4095)
    phase, encoding = decode_phase(stored, units="arbitrary", manufacturer="Philips Healthcare")
    assert encoding == PHILIPS_UNSIGNED
    np.testing.assert_allclose(phase, true_phase, atol=1.3e-3)


@pytest.mark.parametrize(("shift", "encoding"), [(0, DEGREES), (np.pi, POSITIVE_DEGREES)])
def test_degrees(true_phase, shift, encoding):
    true = true_phase + shift
    phase, recognised = decode_phase(np.degrees(true), units="degrees")
    assert recognised == encoding
    np.testing.assert_allclose(phase, true, atol=1e-5)


def test_constant_phase_is_refused():
    with pytest.raises(PhaseEncodingError, match="too little for a phase image"):
        decode_phase(np.zeros((4, 4, 4)), units="rad")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_counted(true_phase, bad):
    true_phase.flat[:5] = bad
    with pytest.raises(PhaseEncodingError, match=f"5 of {true_phase.size} values"):
        decode_phase(true_phase, units="rad")
    with pytest.raises(PhaseEncodingError, match="5 of"):
        from_real_imaginary(true_phase, true_phase)


def test_real_and_imaginary(true_phase):
    magnitude, phase = from_real_imaginary(3 * np.cos(true_phase), 3 * np.sin(true_phase))
    np.testing.assert_allclose(magnitude, 3, rtol=1e-6)
    np.testing.assert_allclose(phase, true_phase, atol=1e-6)
    assert magnitude.dtype == phase.dtype == np.float32
    with pytest.raises(PhaseEncodingError, match="differ in shape"):
        from_real_imaginary(true_phase, true_phase[1:])


@pytest.mark.parametrize(
    ("manufacturer", "sign"),
    [
        ("GE", -1),
        ("GE MEDICAL SYSTEMS", -1),
        ("General Electric", -1),
        ("Siemens", 1),
        ("Philips", 1),
        ("Genoa", 1),
    ],
)
def test_default_sign_is_explained(manufacturer, sign):
    default, reason = default_sign(manufacturer)
    assert default == sign
    assert manufacturer in reason


def test_sign_without_manufacturer_is_an_assumption():
    sign, reason = default_sign()
    assert sign == 1
    assert "assumed" in reason


def test_sign_is_applied(true_phase):
    np.testing.assert_array_equal(apply_sign(true_phase, -1), -true_phase)
    np.testing.assert_array_equal(apply_sign(true_phase, 1), true_phase)
    with pytest.raises(ValueError, match="1 or -1"):
        apply_sign(true_phase, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wrapping_changes_phase_by_multiples_of_2pi(dtype):
    phase = np.linspace(-40, 40, 999).astype(dtype)
    wrapped = wrap_phase(phase)
    assert wrapped.dtype == dtype
    assert np.abs(wrapped).max() <= np.pi + 1e-5
    wraps = (phase - wrapped) / (2 * np.pi)
    np.testing.assert_allclose(wraps, np.rint(wraps), atol=1e-5)


def test_field_units():
    # 1 ppm of 123.2 MHz is 123.2 Hz.
    assert ppm_to_hz(1.0, 123.2) == pytest.approx(123.2)


def test_wrong_scale_factor_of_a_real_file_is_reported(shared):
    stored = nib.load(shared / "data" / "quirks" / "romeo_phase.nii.gz").get_fdata()
    with pytest.raises(PhaseEncodingError, match=r"span of 0\.00735 rad.*scl_slope"):
        decode_phase(stored, units="rad")


def test_nan_values_of_a_real_file_are_counted(shared):
    stored = nib.load(shared / "data" / "quirks" / "romeo_phase_with_nan.nii.gz").get_fdata()
    with pytest.raises(PhaseEncodingError, match="1280 of 163840"):
        decode_phase(stored, units="rad")


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("Siemens", ("SIEMENS", "SIEMENS Healthineers", "Siemens Healthcare GmbH", " siemens ")),
        ("GE", ("GE MEDICAL SYSTEMS", "GE Healthcare", "General Electric", "G.E. Medical")),
        ("Philips", ("Philips Medical Systems", "PHILIPS", "Philips_Healthcare")),
        ("Canon", ("TOSHIBA_MEC", "Canon Medical Systems")),
    ],
)
def test_names_of_one_manufacturer(name, others):
    assert {vendor(other) for other in others} == {name}


def test_unknown_manufacturers_are_compared_by_their_words():
    assert vendor("Maker  of Coils") == vendor("MAKER OF COILS") != vendor("Another maker")
    assert vendor("Gemini Scanners") != "GE"
    assert vendor(None) == vendor(" ") == ""
