"""Phase unwrapping of multi-echo scans, in space and in time.

Field is the change of phase per time, and its estimate must not depend on what the receive coils
added to every echo alike. The difference of two echoes has no such offset, but twice the noise, and
of the later one all the dephasing. So it only serves to find the offset, which is smooth; space is
left to the first echo, and what follows is carried by time. What neither settles is told by
`multiqsm.core.phase.fieldfit.FieldFit`.
"""

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from ..grid import neighbours
from .encoding import wrap_phase

MODES = ("spatial", "temporal")

# Voxels: receive phase changes over many more, and what is wrong near air is outnumbered.
_OFFSET_SMOOTHING, _OWN_SMOOTHING = 9, 7

# Weight of echoes in a prediction goes by this power of time: phase bends where it dephases, and
# noise is averaged yet.
_LATENESS = 8
_TREND_STEP = 7  # every so many voxels are enough for ten coefficients

# Where the first echo comes later than this many echo spacings, its fringes are that much denser
# than the difference's.
_LATE = 1.5


def unwrap_echoes(phase, mask, echo_times, *, mode="spatial"):
    """Unwrap the phase of all echoes so that it is continuous in space and linear in time.

    1. The difference of the two echoes that lie closest in time is unwrapped in space. Carried back
       to TE = 0 it leaves the phase offset, of which only the smooth part is kept: what is wrong in
       a few voxels does not count.
    2. The first echo, which has most signal and fewest fringes, is unwrapped in space without the
       offset. The tree prefers edges along which its gradient is small, steady and agrees with that
       of the difference. Where the first echo comes late, its dense fringes are thinned by the
       difference's trend.
    3. Each further echo is predicted by a line from the offset, mostly through the last echoes
       before it.

    Parameters
    ----------
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians; one echo is allowed.
    mask : ndarray of bool, shape (x, y, z)
        Voxels to unwrap. May consist of several components and touch the volume's ends.
    echo_times : sequence of float, length n_echoes
        Echo times in s, all different; their spacing may vary.
    mode : {'spatial', 'temporal'}
        What is left of an echo after its prediction. 'spatial' unwraps its smooth part in space and
        adds it to the prediction. It stands phase that is not linear in time, such as the
        alternating offset of bipolar readouts. 'temporal' takes it to lie within ±π: cheaper, and
        all that is needed when phase is linear in time.

    Returns
    -------
    ndarray of float32, shape (x, y, z, n_echoes)
        Unwrapped phase in radians: the input plus multiples of 2π inside the mask, 0 outside.

    Raises
    ------
    ValueError
        If shapes disagree, echo times repeat, the mask is empty, the mode is unknown, or phase
        inside the mask is not finite.

    Notes
    -----
    Phase leaves a global multiple of 2π open. In every connected component of the mask the median
    frequency is taken to lie within half a turn per echo spacing of the largest component's, the
    largest component's own and the phase at TE = 0 within half a turn of zero.

    Examples
    --------
    >>> field = np.linspace(-60, 60, 16)[:, None, None] * np.ones((16, 8, 8))  # Hz
    >>> times = [0.004, 0.012, 0.020]
    >>> true = 2 * np.pi * field[..., None] * times + 0.5
    >>> unwrapped = unwrap_echoes(wrap_phase(true), np.ones(field.shape, bool), times)
    >>> bool(np.allclose(unwrapped, true, atol=1e-4))
    True
    """
    phase, mask, times = _checked(phase, mask, echo_times, mode)
    region = _Region(mask)
    # One row an echo, one column a voxel; a row is wrapped until its echo's turn comes.
    echoes = np.ascontiguousarray(phase[mask].T, dtype=np.float32)

    by_time = np.argsort(times)
    first = by_time[0]
    offset, echoes[first] = _first_echo(echoes, times, region)
    linear = np.empty_like(echoes)  # phase less what each echo has at TE = 0
    linear[first] = echoes[first] - offset
    for n in range(1, len(by_time)):
        done = by_time[:n]
        echo = by_time[n]
        weight = times[done] ** _LATENESS
        line = (weight * (times[echo] / times[done]) / np.sum(weight)).astype(np.float32)
        predicted = line @ linear[done] + offset
        own = np.float32(0)
        if mode == "spatial" and n > 1:  # the offset of the first two is that found above
            own = region.centre(
                region.unwrap(region.smooth(echoes[echo] - predicted, _OWN_SMOOTHING))
            )
        echoes[echo] = _nearest_turn(echoes[echo], predicted + own)
        linear[echo] = echoes[echo] - offset - own
    del linear

    result = np.zeros(phase.shape, np.float32)
    result[mask] = echoes.T
    return result


def _checked(phase, mask, echo_times, mode):
    phase = np.asarray(phase)
    mask = np.asarray(mask, dtype=bool)
    times = np.asarray(echo_times, dtype=np.float64)
    if phase.ndim != 4 or phase.shape[:3] != mask.shape or times.shape != phase.shape[3:]:
        raise ValueError(
            f"phase {phase.shape} must be (x, y, z, n_echoes), mask {mask.shape} must be (x, y, "
            "z), "
            f"and there must be one echo time an echo, not {times.shape}"
        )
    if len(np.unique(times)) != len(times):
        raise ValueError(f"echo times must differ from each other: {times.tolist()}")
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, not {mode!r}")
    if not mask.any():
        raise ValueError("the mask is empty: there is nothing to unwrap")
    if not np.isfinite(phase[mask]).all():
        raise ValueError("phase inside the mask is not finite")
    return phase, mask, times


def _closest_echoes(times):
    """Indices of the two echoes that lie closest in time, the earlier first."""
    by_time = np.argsort(times)
    # rounded: equal spacings must not be told apart
    first = np.argmin(np.round(np.diff(times[by_time]), 9))
    return by_time[first : first + 2]


def _first_echo(wrapped, times, region):
    """Smooth part of the phase at TE = 0, and the first echo's unwrapped phase; a single echo has
    no offset.
    """
    if len(times) == 1:
        return np.float32(0), region.centre(region.unwrap(wrapped[0]))
    earlier, later = _closest_echoes(times)
    first = np.argmin(times)
    spacing = times[later] - times[earlier]
    start = times[first]
    difference = wrap_phase(wrapped[later] - wrapped[earlier])
    unwrapped = region.centre(region.unwrap(difference), relative=True)
    at_zero = wrapped[earlier] - unwrapped * np.float32(times[earlier] / spacing)
    offset = region.centre(region.unwrap(region.smooth(at_zero, _OFFSET_SMOOTHING, passes=2)))

    echo = wrap_phase(wrapped[first] - offset)
    time_ratio = np.float32(start / spacing)
    if start > _LATE * spacing:
        field = region.trend(unwrapped)
        known = field * time_ratio
        witness = wrap_phase(difference - field)
    else:
        known = np.float32(0)
        witness = difference
    carried = unwrapped * time_ratio
    echo = known + region.unwrap(wrap_phase(echo - known), witness=witness, ratio=1 / time_ratio)
    return offset, _nearest_turn(wrapped[first], carried + region.centre(echo - carried) + offset)


def _nearest_turn(wrapped, estimate):
    return wrapped + np.float32(2 * np.pi) * np.rint(
        (estimate - wrapped) * np.float32(1 / (2 * np.pi))
    )


class _Region:
    """The mask as a lattice. Values on it are given one a mask voxel, in C order."""

    def __init__(self, mask):
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        # A margin of one voxel: then every voxel has all its neighbours, and flat indices reach
        # them.
        self.inside = np.pad(np.ascontiguousarray(mask[box]), 1)
        self.steps = [stride // self.inside.itemsize for stride in self.inside.strides]
        labels = ndimage.label(self.inside)[0][self.inside]
        by_label = np.argsort(labels, kind="stable")
        components = np.split(by_label, np.cumsum(np.bincount(labels)[1:])[:-1])
        self.components = sorted(components, key=len, reverse=True)

    def centre(self, values, *, relative=False):
        """Move every component by whole turns, so that its median lies within half a turn of zero.

        With ``relative`` only the largest is moved towards zero, and the others towards its median.
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

    def smooth(self, phase, size, *, passes=1):
        """Phase of the mean of unit vectors around each voxel: turns and the odd wrong voxel do not
        count.

        Where phase is noise the mean is short, and a second pass fills it from around.
        """
        parts = [self._volume(part) for part in (np.sin(phase), np.cos(phase))]
        for _ in range(passes):
            parts = [ndimage.uniform_filter(part, size) for part in parts]
        return np.arctan2(*(part[self.inside] for part in parts))

    def trend(self, values):
        """Least-squares polynomial of second order in space, what a shim leaves."""
        x, y, z = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in self.inside.shape)]
        terms = [np.ones((1, 1, 1)), x, y, z, x * y, y * z, x * z, x * x, y * y, z * z]
        sample = np.flatnonzero(self.inside)[::_TREND_STEP]
        design = np.stack(
            [np.broadcast_to(term, self.inside.shape).ravel()[sample] for term in terms], axis=1
        )
        coefficients = np.linalg.lstsq(design, values[::_TREND_STEP], rcond=None)[0]
        total = sum(
            np.float32(c) * term.astype(np.float32)
            for c, term in zip(coefficients, terms, strict=True)
        )
        return np.broadcast_to(total, self.inside.shape)[self.inside]

    def unwrap(self, values, *, witness=None, ratio=1.0):
        """Unwrap in space along the most reliable paths.

        Voxels that no wrap can lie between are taken together; the groups and the voxels left over
        are then joined by the spanning tree of the most reliable edges, which is what sorting by
        reliability [1]_ arrives at. An edge is the more reliable, the smaller its two voxels'
        second differences are and its gradient, and with a ``witness``, phase that should be
        ``ratio`` times the values, the better that agrees, as in [2]_.

        References
        ----------
        .. [1] Herráez MA, Burton DR, Lalor MJ, Gdeisat MA. Fast two-dimensional phase-unwrapping
        algorithm
           based on sorting by reliability following a noncontinuous path. Appl Opt 2002;41:7437.
           doi:10.1364/AO.41.007437
        .. [2] Dymerska B, Eckstein K, Bachrata B, et al. Phase unwrapping with a rapid opensource
        minimum spanning
           tree algorithm (ROMEO). Magn Reson Med 2021;85:2294. doi:10.1002/mrm.28563
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
        step = np.rint((phase[tail] - phase[head]) * np.float32(1 / (2 * np.pi)))
        roughness = self._roughness(phase, np.union1d(tail, head))
        gradient = wrap_phase(phase[head] - phase[tail])
        weight = roughness[tail] + roughness[head] + gradient**2
        if witness is not None:
            seen = self._volume(witness).ravel()
            weight += (
                wrap_phase(seen[head] - seen[tail] - np.float32(ratio) * gradient)
                / np.float32(ratio)
            ) ** 2
        turns = _turns_along_tree(nodes[tail], nodes[head], step, weight, n_nodes)
        return values + np.float32(2 * np.pi) * turns[nodes[self.inside.ravel()]]

    def _volume(self, values):
        volume = np.zeros(self.inside.shape, np.float32)
        volume[self.inside] = values
        return volume

    def _steep(self, volume):
        """Voxels whose stored value differs from a neighbour's by more than π/2.

        A wrap front differs by more than π, so half of that would do for clean data. But where the
        true difference exceeds π the stored one may look small, and a front that ends there would
        be bypassed. Phase that is continuous passes through π/2 to π on the way, and these voxels
        close the gap.
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
        """Flat indices of both ends of all edges that have a steep voxel, each once."""
        inside = self.inside.ravel()
        source = np.flatnonzero(steep)
        tails = []
        heads = []
        for step in self.steps:
            for sign in (1, -1):
                target = source + sign * step
                # An edge between two steep voxels is met from both ends: keep the upward one.
                keep = inside[target] if sign > 0 else inside[target] & ~steep[target]
                tails.append(source[keep])
                heads.append(target[keep])
        return np.concatenate(tails), np.concatenate(heads)

    def _roughness(self, phase, voxels):
        """Mean square of the given voxels' wrapped second differences; π² along axes that the mask
        cuts.
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


def _turns_along_tree(tail, head, step, weight, n_nodes):
    """Whole turns to add to each node for the minimum spanning tree's edges to jump by half a turn
    at most.

    Parameters
    ----------
    tail, head : ndarray of int, shape (n_edges,)
        The nodes that each edge connects; several edges may connect the same two.
    step : ndarray, shape (n_edges,)
        Turns of the head relative to the tail.
    weight : ndarray, shape (n_edges,)
        The smaller, the sooner an edge is used.
    n_nodes : int

    Returns
    -------
    ndarray of float32, shape (n_nodes,)
    """
    step = np.where(tail < head, step, -step)
    pair = np.minimum(tail, head).astype(np.int64) * n_nodes + np.maximum(tail, head)
    # Only the order of weights matters to the tree; ranks settle ties once and for all.
    by_weight = np.argsort(weight, kind="stable")
    pair, best = np.unique(pair[by_weight], return_index=True)
    step = step[by_weight][best]
    graph = coo_matrix((best + 1.0, np.divmod(pair, n_nodes)), shape=(n_nodes, n_nodes))
    tree = minimum_spanning_tree(graph.tocsr())
    parent = _parents(tree)
    child = np.flatnonzero(parent >= 0)
    below = np.minimum(child, parent[child])
    above = np.maximum(child, parent[child])
    upward = step[np.searchsorted(pair, below.astype(np.int64) * n_nodes + above)]
    turns = np.zeros(n_nodes, np.float32)
    turns[child] = np.where(parent[child] < child, upward, -upward)

    # Sum the steps on the way to the root by pointer doubling: as many rounds as the depth has
    # binary digits.
    ancestor = np.where(parent < 0, np.arange(n_nodes), parent)
    while not np.array_equal(further := ancestor[ancestor], ancestor):
        turns += turns[ancestor]
        ancestor = further
    return turns


def _parents(forest):
    """Parent of every node when each tree of the forest hangs from its first node; -1 for that
    one.
    """
    n_nodes = forest.shape[0]
    _, trees = connected_components(forest, directed=False)
    roots = np.unique(trees, return_index=True)[1]
    links = forest.tocoo()
    rows = np.concatenate([links.row, np.full(len(roots), n_nodes)])
    columns = np.concatenate([links.col, roots])
    hung = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_nodes + 1, n_nodes + 1))
    _, parent = breadth_first_order(hung.tocsr(), n_nodes, directed=False)
    return np.where(parent[:-1] == n_nodes, -1, parent[:-1])
