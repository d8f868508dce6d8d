"""Means of transforms agree with matrix functions, and ITK's text is read as by nitransforms."""

import numpy as np
import pytest
from helpers.analytic_head import POSES, motion
from scipy import linalg

from multiqsm.core.registration.transforms import itk_text, read_itk_text, rigid_mean


def test_mean_of_rigid_transforms():
    a = motion((10, 0, -20), (3, 4, 5))
    b = motion((-5, 8, 30), (-2, 0, 9))
    half = a @ linalg.expm(linalg.logm(np.linalg.inv(a) @ b).real / 2)
    np.testing.assert_allclose(rigid_mean([a, b]), half, atol=1e-9)
    c = motion((0, 30, 0), (1, 1, 1))
    mean = rigid_mean([a, b, c])
    change = motion((40, 20, 10), (100, 50, 20))
    total = sum(linalg.logm(np.linalg.inv(mean) @ t).real for t in (a, b, c))
    np.testing.assert_allclose(total, 0, atol=1e-8)
    np.testing.assert_allclose(
        rigid_mean([change @ a, change @ b, change @ c]), change @ mean, atol=1e-8
    )
    inverses = list(map(np.linalg.inv, (a, b, c)))
    np.testing.assert_allclose(rigid_mean(inverses), np.linalg.inv(mean), atol=1e-8)


def test_itk_text_of_a_rotation_by_hand():
    """A rotation about z is the same in LPS, and one about x has the opposite sense there."""
    quarter = motion((90, 0, 0), (1, 2, 3))
    numbers = [float(v) for v in itk_text(quarter).splitlines()[3].split()[1:]]
    np.testing.assert_allclose(numbers, [1, 0, 0, 0, 0, 1, 0, -1, 0, -1, -2, 3], atol=1e-12)
    assert itk_text(np.eye(4)).startswith(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform"
    )


def test_itk_text_is_read_back():
    np.testing.assert_allclose(read_itk_text(itk_text(POSES[0])), POSES[0], atol=1e-14)
    text = itk_text(POSES[0]).replace("FixedParameters: 0.0 0.0 0.0", "FixedParameters: 10 20 30")
    # About a centre c: y = A (x - c) + c + t.
    rotation = POSES[0][:3, :3]
    centre = np.array([-10, -20, 30])
    np.testing.assert_allclose(
        read_itk_text(text)[:3, 3], POSES[0][:3, 3] + centre - rotation @ centre, atol=1e-12
    )


def test_nitransforms_reads_the_same_transform(tmp_path):
    linear = pytest.importorskip("nitransforms.linear")
    path = tmp_path / "transform.txt"
    path.write_text(itk_text(POSES[0]))
    np.testing.assert_allclose(linear.load(path, fmt="itk").matrix, POSES[0], atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 0 0 0",
        itk_text(np.eye(4)).replace("AffineTransform_double_3_3", "Euler3DTransform_double_3_3"),
        itk_text(np.eye(4)).replace("Parameters: 1.0 0.0", "Parameters: 1.0"),
        itk_text(np.eye(4)).replace(
            "#Transform 0\n", "#Transform 0\nTransform: TranslationTransform_double_3_3\n"
        ),
    ],
)
def test_text_that_is_no_itk_affine_is_refused(text):
    with pytest.raises(ValueError, match=r"ITK|parameters"):
        read_itk_text(text)
