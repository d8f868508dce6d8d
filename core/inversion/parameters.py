"""Fixed parameters of the inversions that sidecars and methods texts state, and the record of λ.

Nothing is imported from the numerics, so that the options of a command are known without loading
them.
"""

from dataclasses import dataclass

# A difference of the magnitude is an edge if it exceeds this many standard deviations. The error on
# a noisy phantom hardly depends on it from 1.5 to 5. Of a head, the squared-gradient map is best
# with more edges (1.5), and its nuclei with 2.
EDGE_SDS = 2.0

# A difference of a first map of χ is a jump, as at a haemorrhage or a calcification, if it exceeds
# this many standard deviations; steps between tissues reach about 10. With 20 to 40, heads with
# both lesions lose no accuracy, and heads without do not change.
JUMP_SDS = 30.0

# Least weight of a measured voxel. A standard error of ten times the median or more comes from
# phase that is not linear in echo time, as around a haemorrhage, and is no good measure of the
# field's error. In simulated heads with a haemorrhage of R2* 15 to 200/s, a least weight of 0.1
# recovers its susceptibility within 10 %; without one it comes out 5 to 15 % too low, and with 0.2
# too high. Heads without a haemorrhage do not change.
SMALLEST_WEIGHT = 0.1

# Weighted residual that halves a weight of MERIT, in robust standard deviations.
MERIT_THRESHOLD = 3.0


@dataclass(frozen=True)
class LambdaChoice:
    """A regularisation parameter and how it was chosen.

    Attributes
    ----------
    value : float
        λ, in mm, as it multiplies a gradient in 1/mm; of MEDI in ppm·mm.
    rule : str
        ``whitened``, ``gcv``, ``discrepancy``, ``scaled`` or ``fixed``.
    at_bound : bool
        Whether the rule's optimum lies outside the range of sensible values; λ is then a bound.
    tried : tuple of (float, float)
        Every λ that was tried, with its GCV score or its mean squared residual in ppm². Of the
        iterative inversion's ``whitened`` rule: λ and scores of the closed form.
    error_amplitudes : tuple of (float, float), optional
        Of the ``whitened`` rule: amplitudes of the field's error at the lowest and at the highest
        spatial frequencies, ppm; see `multiqsm.core.inversion.error_spectrum.ErrorSpectrum`.
    """

    value: float
    rule: str
    at_bound: bool = False
    tried: tuple[tuple[float, float], ...] = ()
    error_amplitudes: tuple[float, float] | None = None
