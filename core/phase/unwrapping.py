"""Unwrap the phase of multi-echo scans, in space and in time.

The field is the rate at which phase changes with echo time. Its estimate must not depend on the
phase offset that receive coils add to all echoes alike. The difference of two echoes has no such
offset, but it has twice the noise variance, and where signal decays it suffers from the weak later
echo. The difference therefore only serves to estimate the offset, which is smooth in space. Spatial
unwrapping is done on the first echo, and later echoes are unwrapped in time: each is predicted from
the echoes before it. Voxels where this remains ambiguous are reported by
`multiqsm.core.phase.fieldfit.FieldFit`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from ..grid import neighbours
from .encoding import wrap_phase

UNWRAPPINGS = ("spatial", "temporal", "individual")

# Side lengths in voxels of the boxes over which offsets are averaged. Receive phase varies over
# many more voxels than that, and within a box the few wrong voxels near air are outnumbered.
_OFFSET_SMOOTHING = 9
_REMAINDER_SMOOTHING = 7

# An echo is predicted from all earlier ones, each weighted by this power of its echo time. A high
# power favours the latest echoes: where the signal dephases, phase is not linear in time, and the
# nearest echoes extrapolate best. Some averaging of noise remains.
_LATENESS = 8

_TREND_STEP = 7  # the trend's ten coefficients are fitted to every 7th voxel, which is enough

# The trend is removed before spatial unwrapping if the first echo time exceeds this many echo
# spacings: the fringes of the first echo are then that many times denser than the difference's.
_LATE = 1.5


def unwrap_echoes(
    phase: np.ndarray,
    mask: np.ndarray,
    echo_times: ArrayLike,
    *,
    unwrapping: Literal["spatial", "temporal", "individual"] = "spatial",
) -> np.ndarray:
    """Unwrap the phase of all echoes so that it is continuous in space and linear in time.

    1. Offset: the difference of the two echoes that are closest in time is unwrapped in space and
       extrapolated back to TE = 0. What this leaves of the earlier echo's phase is the phase
       offset. Only its smooth part is used, so errors in single voxels have no effect.
    2. First echo: it has most signal and fewest fringes. It is unwrapped in space after the offset
       has been subtracted, along a spanning tree. The tree prefers edges where the phase gradient
       is small and steady and agrees with the gradient of the difference. If the first echo comes
       late, the spatial trend of the difference is subtracted first, because its fringes are dense.
    3. Later echoes: each is predicted by extrapolating phase linearly in echo time, mostly from the
       echoes shortly before it, and moved by the multiple of 2π that brings it closest.

    With 'individual', which the study of Lin et al. used, all echoes are unwrapped in space
    instead, each on its own, and then made consistent in time.

    Parameters
    ----------
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians; a single echo is allowed.
    mask : ndarray of bool, shape (x, y, z)
        Voxels to unwrap. It may have several components and may touch the faces of the volume.
    echo_times : sequence of float, length n_echoes
        Echo times in s, all different, in any order; their spacing may vary.
    unwrapping : {'spatial', 'temporal', 'individual'}
        After extrapolating phase linearly in echo time, how the remainder of later echoes is
        unwrapped. 'spatial' unwraps the smooth part of the remainder in space and adds it to the
        prediction. This handles phase that is not linear in time, such as the alternating offset of
        bipolar readouts. 'temporal' assumes that the remainder lies within ±π. It is faster, and
        sufficient when phase is linear in time. 'individual' predicts nothing: every echo is
        unwrapped in space, and then each connected component of the mask is moved by the multiple
        of 2π that makes it consistent with the other echoes. Fringes of late echoes are dense, so
        this has more errors; a voxel in which an echo is a wrap off stays so.

    Returns
    -------
    ndarray of float32, shape (x, y, z, n_echoes)
        Unwrapped phase in radians: the input plus multiples of 2π inside the mask, 0 outside.

    Raises
    ------
    ValueError
        If shapes disagree, echo times repeat, the mask is empty, the way of unwrapping is unknown,
        or phase inside the mask is not finite.

    Notes
    -----
    Wrapped phase determines the result only up to a constant multiple of 2π in every connected
    component of the mask. It is chosen as follows. The median of the phase at TE = 0 lies within
    ±π. So does the median phase change over one echo spacing in the largest component; in every
    other component it lies within ±π of the largest component's.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015).

    Examples
    --------
    >>> field = np.linspace(-60, 60, 16)[:, None, None] * np.ones((16, 8, 8))  # Hz
    >>> times = [0.004, 0.012, 0.020]
    >>> true = 2 * np.pi * field[..., None] * times + 0.5
    >>> unwrapped = unwrap_echoes(wrap_phase(true), np.ones(field.shape, bool), times)
    >>> bool(np.allclose(unwrapped, true, atol=1e-4))
    True
    """
    phase, mask, times = _checked(phase, mask, echo_times, unwrapping)
    region = _Region(mask)
    # A row for each echo, a column for each voxel of the mask.
    echoes = np.ascontiguousarray(phase[mask].T, dtype=np.float32)

    if unwrapping == "individual":
        unwrapped = _individually(echoes, times, region)
    else:
        unwrapped = _predicted_in_time(echoes, times, region, unwrapping)

    result = np.zeros(phase.shape, np.float32)
    result[mask] = unwrapped.T
    return result


def _checked(phase, mask, echo_times, unwrapping):
    phase = np.asarray(phase)
    mask = np.asarray(mask, dtype=bool)
    times = np.asarray(echo_times, dtype=np.float64)
    if phase.ndim != 4 or phase.shape[:3] != mask.shape or times.shape != phase.shape[3:]:
        raise ValueError(
            f"shapes disagree: phase {phase.shape} must be (x, y, z, n_echoes), the mask "
            f"{mask.shape} must be (x, y, z), and there must be n_echoes echo times, not "
            f"{times.shape}"
        )
    if len(np.unique(times)) != len(times):
        raise ValueError(f"echo times must differ from each other: {times.tolist()}")
    if unwrapping not in UNWRAPPINGS:
        raise ValueError(f"unwrapping must be one of {UNWRAPPINGS}, not {unwrapping!r}")
    if not mask.any():
        raise ValueError("the mask is empty: there is no voxel to unwrap")
    if not np.isfinite(phase[mask]).all():
        raise ValueError("phase inside the mask is not finite: remove NaN and infinite values")
    return phase, mask, times


def _predicted_in_time(echoes, times, region, unwrapping):
    """Unwrap the first echo in space, and each later one after predicting it from those before.

    Rows of the array are replaced by unwrapped phase one after the other, in the order of echo
    times.
    """
    by_time = np.argsort(times)
    first = by_time[0]
    offset, echoes[first] = _first_echo(echoes, times, region)
    # Phase without any offset, that is, proportional to echo time where the field alone made it.
    linear = np.empty_like(echoes)
    linear[first] = echoes[first] - offset
    for n in range(1, len(by_time)):
        earlier = by_time[:n]
        echo = by_time[n]
        # The weighted mean of what each earlier echo alone, as a line through the origin, predicts.
        weight = times[earlier] ** _LATENESS
        line = (weight * (times[echo] / times[earlier]) / np.sum(weight)).astype(np.float32)
        predicted = line @ linear[earlier] + offset
        own_offset = np.float32(0)
        # The common offset is that of the first two echoes, so only later ones have one of their
        # own (even echoes of a bipolar readout differ from odd ones).
        if unwrapping == "spatial" and n > 1:
            remainder = region.smooth(echoes[echo] - predicted, _REMAINDER_SMOOTHING)
            own_offset = region.centre(region.unwrap(remainder))
        echoes[echo] = _closest_to(predicted + own_offset, echoes[echo])
        linear[echo] = echoes[echo] - offset - own_offset
    return echoes


def _individually(wrapped, times, region):
    """Unwrap every echo in space on its own, then make the echoes consistent in time.

    The multiple of 2π of a component is free in every echo. The two echoes that are closest in time
    fix two of them: their difference, and the phase at TE = 0 that it implies, as in the other
    ways. The other echoes are moved to the line through these two.
    """
    echoes = np.stack([region.unwrap(echo) for echo in wrapped])
    if len(times) == 1:
        return region.centre(echoes[0])[None]
    earlier, later = _closest_echoes(times)
    spacing = times[later] - times[earlier]
    difference = region.centre(echoes[later] - echoes[earlier], relative=True)
    change = difference * np.float32(times[earlier] / spacing)  # since TE = 0
    offset = region.centre(echoes[earlier] - change)
    echoes[earlier] = offset + change
    echoes[later] = echoes[earlier] + difference
    for echo in np.argsort(np.abs(times - times[earlier])):
        if echo not in (earlier, later):
            predicted = offset + difference * np.float32(times[echo] / spacing)
            echoes[echo] = predicted + region.centre(echoes[echo] - predicted)
    return echoes


def _closest_echoes(times):
    """Return the indices of the two echoes that are closest in time, the earlier first."""
    by_time = np.argsort(times)
    # Rounded, so that among equal spacings the first wins and not floating-point error decides.
    first = np.argmin(np.round(np.diff(times[by_time]), 9))
    return by_time[first : first + 2]


def _first_echo(wrapped, times, region):
    """Return the smooth phase offset (phase at TE = 0) and the unwrapped phase of the first echo.

    With a single echo the offset cannot be determined and is set to zero.
    """
    if len(times) == 1:
        return np.float32(0), region.centre(region.unwrap(wrapped[0]))
    earlier, later = _closest_echoes(times)
    first = np.argmin(times)
    spacing = times[later] - times[earlier]
    difference = wrap_phase(wrapped[later] - wrapped[earlier])
    unwrapped = region.centre(region.unwrap(difference), relative=True)
    at_zero = wrapped[earlier] - unwrapped * np.float32(times[earlier] / spacing)
    # Where the difference is noise, so is its extrapolation: a second pass fills these voxels in.
    offset = region.centre(region.unwrap(region.smooth(at_zero, _OFFSET_SMOOTHING, passes=2)))

    echo = wrap_phase(wrapped[first] - offset)
    time_ratio = np.float32(times[first] / spacing)  # of phase in the first echo to the difference
    if times[first] > _LATE * spacing:
        trend = region.trend(unwrapped)
        echo_trend = trend * time_ratio
        reference_phase = wrap_phase(difference - trend)
    else:
        echo_trend = np.float32(0)
        reference_phase = difference
    detrended = wrap_phase(echo - echo_trend)
    echo = echo_trend + region.unwrap(
        detrended, reference_phase=reference_phase, ratio=1 / time_ratio
    )
    # Each component may still be off by a multiple of 2π, which is determined by the difference,
    # scaled to the first echo time.
    scaled = unwrapped * time_ratio
    return offset, _closest_to(scaled + region.centre(echo - scaled) + offset, wrapped[first])


def _closest_to(estimate, wrapped):
    """Add the multiples of 2π to wrapped phase that bring it closest to an estimate."""
    return wrapped + np.float32(2 * np.pi) * np.rint(
        (estimate - wrapped) * np.float32(1 / (2 * np.pi))
    )


class _Region:
    """The voxels of a mask and their neighbours.

    Values are passed as one-dimensional arrays, one value for each voxel of the mask, in C order.
    """

    def __init__(self, mask: np.ndarray):
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        # With a margin of one voxel every voxel of the mask has six neighbours in the array, at
        # fixed distances in the flattened array.
        self.inside = np.pad(np.ascontiguousarray(mask[box]), 1)
        self.steps = [stride // self.inside.itemsize for stride in self.inside.strides]
        labels = ndimage.label(self.inside)[0][self.inside]
        by_label = np.argsort(labels, kind="stable")
        components = np.split(by_label, np.cumsum(np.bincount(labels)[1:])[:-1])
        self.components = sorted(components, key=len, reverse=True)

    def centre(self, values: np.ndarray, *, relative: bool = False) -> np.ndarray:
        """Shift every component by a multiple of 2π so that its median lies within ±π.

        With ``relative`` this holds for the largest component, and the medians of the others are
        brought within ±π of the largest component's.
        """
        values = values.copy()
        target = 0.0
        for component in self.components:
            part = values[component]
            part -= np.float32(2 * np.pi * np.rint((np.median(part) - target) / (2 * np.pi)))
            values[component] = part
            if relative and component is self.components[0]:
                target = np.median(part)
        return values

    def smooth(self, phase: np.ndarray, size: int, *, passes: int = 1) -> np.ndarray:
        """Average phase over boxes of ``size`` voxels, as the phase of the mean unit vector.

        Multiples of 2π have no effect on unit vectors, and a few wrong voxels have little. Where
        phase is noise the mean vector is short, so that in a second pass the surroundings dominate.
        """
        sine = self._volume(np.sin(phase))
        cosine = self._volume(np.cos(phase))
        for _ in range(passes):
            sine = ndimage.uniform_filter(sine, size)
            cosine = ndimage.uniform_filter(cosine, size)
        return np.arctan2(sine[self.inside], cosine[self.inside])

    def trend(self, values: np.ndarray) -> np.ndarray:
        """Fit a second-order polynomial in space, such as an imperfect shim adds to the field."""
        shape = self.inside.shape
        n_x, n_y, n_z = shape
        x, y, z = np.ogrid[-1 : 1 : n_x * 1j, -1 : 1 : n_y * 1j, -1 : 1 : n_z * 1j]
        terms = [np.ones((1, 1, 1)), x, y, z, x * y, y * z, x * z, x * x, y * y, z * z]
        sample = np.flatnonzero(self.inside)[::_TREND_STEP]
        columns = [np.broadcast_to(term, shape).ravel()[sample] for term in terms]
        design = np.stack(columns, axis=1)
        coefficients = np.linalg.lstsq(design, values[::_TREND_STEP], rcond=None)[0]
        total = np.zeros((1, 1, 1), np.float32)
        for coefficient, term in zip(coefficients, terms, strict=True):
            total = total + np.float32(coefficient) * term.astype(np.float32)
        return np.broadcast_to(total, shape)[self.inside]

    def unwrap(
        self, values: np.ndarray, *, reference_phase: np.ndarray | None = None, ratio: float = 1.0
    ) -> np.ndarray:
        """Unwrap in space along the most reliable paths.

        Between two neighbours, the true phase difference is taken to be the wrapped one. This is
        wrong where noise or a steep field exceed π, and then the result depends on the path along
        which differences are summed. The path should avoid the edges that are likely to be wrong.
        The minimum spanning tree achieves that: of all trees that connect the voxels, it is the one
        with the smallest total weight, and it also minimises the largest weight on the way between
        any two voxels. Sorting by reliability [1]_ arrives at the same tree.

        The weight of an edge, large where it is unreliable, is the sum of three squares: the second
        differences of phase at its two voxels; its wrapped gradient; and, with a reference phase,
        the disagreement of its gradient, as in [2]_. ``reference_phase`` should equal ``ratio``
        times the values: the phase difference of two echoes, for instance.

        A tree over all voxels would be slow. Most voxels are far from any wrap, so they are first
        merged: voxels that are connected without a large jump between them form a group, which is
        one node of the tree. The remaining (steep) voxels are nodes of their own.

        References
        ----------
        .. [1] Herráez MA, Burton DR, Lalor MJ, Gdeisat MA. Fast two-dimensional phase-unwrapping
           algorithm based on sorting by reliability following a noncontinuous path. Appl Opt
           2002;41:7437. doi:10.1364/AO.41.007437
        .. [2] Dymerska B, Eckstein K, Bachrata B, et al. Phase unwrapping with a rapid opensource
           minimum spanning tree algorithm (ROMEO). Magn Reson Med 2021;85:2294.
           doi:10.1002/mrm.28563
        """
        volume = self._volume(values)
        steep = self._steep(volume)
        if not steep.any():
            return values
        nodes, n_groups = ndimage.label(self.inside & ~steep)
        n_nodes = n_groups + np.count_nonzero(steep)
        nodes[steep] = np.arange(n_groups, n_nodes) + 1
        nodes = nodes.ravel() - 1

        tail, head = self._edges(steep.ravel())
        phase = volume.ravel()
        # Wraps at the head relative to the tail, if the true difference lies within ±π.
        step = np.rint((phase[tail] - phase[head]) * np.float32(1 / (2 * np.pi)))
        roughness = self._roughness(phase, np.union1d(tail, head))
        gradient = wrap_phase(phase[head] - phase[tail])
        weight = roughness[tail] + roughness[head] + gradient**2
        if reference_phase is not None:
            # Divided by the ratio, so that the disagreement is in radians of the values.
            scale = np.float32(ratio)
            reference = self._volume(reference_phase).ravel()
            disagreement = wrap_phase(reference[head] - reference[tail] - scale * gradient) / scale
            weight += disagreement**2
        wraps = _wraps_along_tree(nodes[tail], nodes[head], step, weight, n_nodes)
        return values + np.float32(2 * np.pi) * wraps[nodes[self.inside.ravel()]]

    def _volume(self, values):
        volume = np.zeros(self.inside.shape, np.float32)
        volume[self.inside] = values
        return volume

    def _steep(self, volume):
        """Mark voxels whose wrapped phase differs by more than π/2 from that of a neighbour.

        Across a wrap, wrapped phase jumps by more than π, so for clean data a threshold of π would
        suffice. But where the true difference exceeds π, the wrapped phase may jump by little: the
        surface along which phase wraps has a gap there, and a group would reach through it to the
        other side. Next to such a gap phase differences pass through π/2 to π, because a field is
        continuous. The lower threshold marks these voxels too and so closes the gap.
        """
        steep = np.zeros_like(self.inside)
        for axis in range(3):
            lower, upper = neighbours(axis)
            jump = np.abs(volume[upper] - volume[lower]) > np.float32(np.pi / 2)
            jump &= self.inside[upper] & self.inside[lower]
            steep[lower] |= jump
            steep[upper] |= jump
        return steep

    def _edges(self, steep):
        """Return flat indices of both ends of all edges at a steep voxel, each edge once."""
        inside = self.inside.ravel()
        source = np.flatnonzero(steep)
        tails = []
        heads = []
        for step in self.steps:
            for sign in (1, -1):
                target = source + sign * step
                # Two steep neighbours both come up as source. Keep the edge that leads upwards.
                is_new = inside[target] if sign > 0 else inside[target] & ~steep[target]
                tails.append(source[is_new])
                heads.append(target[is_new])
        return np.concatenate(tails), np.concatenate(heads)

    def _roughness(self, phase, voxels):
        """Return the mean square of wrapped second differences, for the voxels with these indices.

        Along an axis on which a voxel has no two neighbours in the mask, π² is assumed: voxels at
        the surface are the least reliable.
        """
        inside = self.inside.ravel()
        total = np.zeros(len(voxels), np.float32)
        for step in self.steps:
            before = voxels - step
            after = voxels + step
            second = wrap_phase(phase[after] - phase[voxels]) - wrap_phase(
                phase[voxels] - phase[before]
            )
            total += np.where(inside[before] & inside[after], second**2, np.float32(np.pi**2))
        roughness = np.zeros(phase.shape, np.float32)
        roughness[voxels] = total / 3
        return roughness


def _wraps_along_tree(
    tail: np.ndarray, head: np.ndarray, step: np.ndarray, weight: np.ndarray, n_nodes: int
) -> np.ndarray:
    """Return the number of wraps to add to each node, summed along the minimum spanning tree.

    Parameters
    ----------
    tail, head : ndarray of int, shape (n_edges,)
        The nodes that each edge connects; several edges may connect the same two.
    step : ndarray, shape (n_edges,)
        Wraps to add to the head relative to the tail.
    weight : ndarray, shape (n_edges,)
        Small where an edge is reliable.
    n_nodes : int
        Number of nodes.

    Returns
    -------
    ndarray of float32, shape (n_nodes,)
        Zero for the first node of each connected component.
    """
    # An edge may be given in either direction. Direct all from the lower to the higher node, and
    # encode the pair as one integer, so that parallel edges are equal numbers.
    step = np.where(tail < head, step, -step)
    pair = np.minimum(tail, head).astype(np.int64) * n_nodes + np.maximum(tail, head)
    # Only the order of weights matters to the tree. Replaced by ranks, no two weights are equal, so
    # the tree does not depend on how an implementation breaks ties. Of parallel edges, `np.unique`
    # returns the first, which is the most reliable.
    by_weight = np.argsort(weight, kind="stable")
    pair, rank = np.unique(pair[by_weight], return_index=True)
    step = step[by_weight][rank]
    # Ranks begin at 1, since a sparse matrix has no edge where it stores 0.
    graph = coo_matrix((rank + 1.0, np.divmod(pair, n_nodes)), shape=(n_nodes, n_nodes))
    tree = minimum_spanning_tree(graph.tocsr())
    parent = _parents(tree)
    child = np.flatnonzero(parent >= 0)
    lower = np.minimum(child, parent[child])
    higher = np.maximum(child, parent[child])
    upward = step[np.searchsorted(pair, lower.astype(np.int64) * n_nodes + higher)]
    wraps = np.zeros(n_nodes, np.float32)  # of each node relative to its parent
    wraps[child] = np.where(parent[child] < child, upward, -upward)

    # Sum these on the way to the root by pointer doubling. In every round a node adds the sum of
    # its current ancestor and then skips to that one's ancestor, so the distance covered doubles.
    # A tree of depth d takes log2(d) rounds instead of a loop over its nodes.
    ancestor = np.where(parent < 0, np.arange(n_nodes), parent)
    while not np.array_equal(further := ancestor[ancestor], ancestor):
        wraps += wraps[ancestor]
        ancestor = further
    return wraps


def _parents(forest):
    """Return the parent of every node, each tree being rooted at its first node; -1 for the roots.

    An additional node is connected to all roots. That makes the forest one tree, and a single
    breadth-first search finds all parents.
    """
    n_nodes = forest.shape[0]
    _, trees = connected_components(forest, directed=False)
    roots = np.unique(trees, return_index=True)[1]
    links = forest.tocoo()
    rows = np.concatenate([links.row, np.full(len(roots), n_nodes)])
    columns = np.concatenate([links.col, roots])
    rooted = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_nodes + 1, n_nodes + 1))
    _, parent = breadth_first_order(rooted.tocsr(), n_nodes, directed=False)
    return np.where(parent[:-1] == n_nodes, -1, parent[:-1])
