"""Phase unwrapping of multi-echo scans, in space and in time.

Field is the change of phase per time, and its estimate must not depend on what the receive coils added to
every echo alike. So the echo-to-echo difference, which has no such offset, is unwrapped in space first. It
predicts the phase of every echo, and what remains of an echo after subtraction of its prediction is smooth:
nearly free of wraps even at echo times where the phase itself has fringes that are too dense to resolve.
"""

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from .grid import neighbours
from .phase import wrap_phase

MODES = ("spatial", "temporal")


def unwrap_echoes(phase, mask, echo_times, *, mode="spatial"):
    """Unwrap the phase of all echoes so that it is continuous in space and linear in time.

    The two echoes that lie closest in time are unwrapped in space: their difference first, then what is left
    of the earlier one once the difference has predicted it (the phase at TE = 0). Each further echo, the
    nearest in time first, is predicted by the least-squares line (slope and intercept) through the echoes
    done so far.

    Parameters
    ----------
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians; one echo is allowed.
    mask : ndarray of bool, shape (x, y, z)
        Voxels to unwrap. May consist of several components and touch the volume's ends.
    echo_times : sequence of float, length n_echoes
        Echo times in s, all different; their spacing may vary.
    mode : {'spatial', 'temporal'}
        'spatial' unwraps the remainder of every echo in space. It stands phase that is not linear in time,
        such as the alternating offset of bipolar readouts, up to what changes by less than π between voxels.
        'temporal' takes the remainder to lie within ±π of the prediction: cheaper, and all that is needed
        when phase is linear in time.

    Returns
    -------
    ndarray of float32, shape (x, y, z, n_echoes)
        Unwrapped phase in radians: the input plus multiples of 2π inside the mask, 0 outside.

    Raises
    ------
    ValueError
        If shapes disagree, echo times repeat, the mask is empty, the mode is unknown, or phase inside the
        mask is not finite.

    Notes
    -----
    Phase leaves a global multiple of 2π open. In every connected component of the mask the median frequency
    is taken to lie within half a turn per echo spacing of the largest component's, the largest component's
    own and the phase at TE = 0 within half a turn of zero.

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
    wrapped = np.ascontiguousarray(phase[mask].T, dtype=np.float32)  # one row an echo, one column a voxel
    unwrapped = np.empty_like(wrapped)

    order = _order_of_echoes(times)
    unwrapped[order[:2]] = _first_echoes(wrapped[order[:2]], times[order[:2]], region)
    for n in range(2, len(order)):
        done, echo = order[:n], order[n]
        predicted = _line_weights(times[done], times[echo]) @ unwrapped[done]
        remainder = wrap_phase(wrapped[echo] - predicted)
        if mode == "spatial":
            remainder = region.centre(region.unwrap(remainder))
        unwrapped[echo] = _nearest_turn(wrapped[echo], predicted + remainder)

    result = np.zeros(phase.shape, np.float32)
    result[mask] = unwrapped.T
    return result


def _checked(phase, mask, echo_times, mode):
    phase, mask = np.asarray(phase), np.asarray(mask, dtype=bool)
    times = np.asarray(echo_times, dtype=np.float64)
    if phase.ndim != 4 or phase.shape[:3] != mask.shape or times.shape != phase.shape[3:]:
        raise ValueError(
            f"phase {phase.shape} must be (x, y, z, n_echoes), mask {mask.shape} must be (x, y, z), "
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


def _order_of_echoes(times):
    """Indices of echoes: the pair that lies closest in time, then the others by distance from it."""
    if len(times) == 1:
        return np.array([0])
    by_time = np.argsort(times)
    first = np.argmin(np.round(np.diff(times[by_time]), 9))  # rounded: equal spacings must not be told apart
    pair = by_time[first : first + 2]
    others = np.setdiff1d(by_time, pair)
    distance = np.abs(times[others] - times[pair].mean())
    return np.concatenate([pair, others[np.argsort(distance, kind="stable")]])


def _first_echoes(wrapped, times, region):
    """Unwrap one echo, or two whose difference comes first: the difference holds no phase offset."""
    if len(times) == 1:
        return region.centre(region.unwrap(wrapped[0]))[None]
    difference = region.centre(region.unwrap(wrap_phase(wrapped[1] - wrapped[0])), relative=True)
    predicted = difference * np.float32(times[0] / (times[1] - times[0]))
    at_zero = region.centre(region.unwrap(wrap_phase(wrapped[0] - predicted)))
    earlier = _nearest_turn(wrapped[0], predicted + at_zero)
    return np.stack([earlier, _nearest_turn(wrapped[1], earlier + difference)])


def _line_weights(times, at):
    """Weights that carry samples at ``times`` to their least-squares line's value at ``at``."""
    design = np.vander(times - at, 2)  # the constant term is then the value sought
    return np.linalg.pinv(design)[1].astype(np.float32)


def _nearest_turn(wrapped, estimate):
    return wrapped + np.float32(2 * np.pi) * np.rint((estimate - wrapped) * np.float32(1 / (2 * np.pi)))


class _Region:
    """The mask as a lattice. Values on it are given one a mask voxel, in C order."""

    def __init__(self, mask):
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        # A margin of one voxel: then every voxel has all its neighbours, and flat indices reach them.
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

    def unwrap(self, values):
        """Unwrap in space along the most reliable paths.

        Voxels that no wrap can lie between are taken together; the groups and the voxels left over are then
        joined by the spanning tree of the most reliable edges, which is what sorting by reliability [1]_
        arrives at. An edge's reliability is that of its two voxels: small second differences.

        References
        ----------
        .. [1] Herráez MA, Burton DR, Lalor MJ, Gdeisat MA. Fast two-dimensional phase-unwrapping algorithm
           based on sorting by reliability following a noncontinuous path. Appl Opt 2002;41:7437.
           doi:10.1364/AO.41.007437
        """
        volume = np.zeros(self.inside.shape, np.float32)
        volume[self.inside] = values
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
        turns = _turns_along_tree(nodes[tail], nodes[head], step, roughness[tail] + roughness[head], n_nodes)
        return values + np.float32(2 * np.pi) * turns[nodes[self.inside.ravel()]]

    def _steep(self, volume):
        """Voxels whose stored value differs from a neighbour's by more than π/2.

        A wrap front differs by more than π, so half of that would do for clean data. But where the true
        difference exceeds π the stored one may look small, and a front that ends there would be bypassed.
        Phase that is continuous passes through π/2 to π on the way, and these voxels close the gap.
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
        tails, heads = [], []
        for step in self.steps:
            for sign in (1, -1):
                target = source + sign * step
                # An edge between two steep voxels is met from both ends: keep the upward one.
                keep = inside[target] if sign > 0 else inside[target] & ~steep[target]
                tails.append(source[keep])
                heads.append(target[keep])
        return np.concatenate(tails), np.concatenate(heads)

    def _roughness(self, phase, voxels):
        """Mean square of the given voxels' wrapped second differences; π² along axes that the mask cuts."""
        inside = self.inside.ravel()
        total = np.zeros(len(voxels), np.float32)
        for step in self.steps:
            before, after = voxels - step, voxels + step
            second = wrap_phase(phase[after] - phase[voxels]) - wrap_phase(phase[voxels] - phase[before])
            total += np.where(inside[before] & inside[after], second**2, np.float32(np.pi**2))
        roughness = np.zeros(phase.shape, np.float32)
        roughness[voxels] = total / 3
        return roughness


def _turns_along_tree(tail, head, step, weight, n_nodes):
    """Whole turns to add to each node for the minimum spanning tree's edges to jump by half a turn at most.

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
    below, above = np.minimum(child, parent[child]), np.maximum(child, parent[child])
    upward = step[np.searchsorted(pair, below.astype(np.int64) * n_nodes + above)]
    turns = np.zeros(n_nodes, np.float32)
    turns[child] = np.where(parent[child] < child, upward, -upward)

    # Sum the steps on the way to the root by pointer doubling: as many rounds as the depth has binary digits.
    ancestor = np.where(parent < 0, np.arange(n_nodes), parent)
    while not np.array_equal(further := ancestor[ancestor], ancestor):
        turns += turns[ancestor]
        ancestor = further
    return turns


def _parents(forest):
    """Parent of every node when each tree of the forest hangs from its first node; -1 for that one."""
    n_nodes = forest.shape[0]
    _, trees = connected_components(forest, directed=False)
    roots = np.unique(trees, return_index=True)[1]
    links = forest.tocoo()
    rows = np.concatenate([links.row, np.full(len(roots), n_nodes)])
    columns = np.concatenate([links.col, roots])
    hung = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_nodes + 1, n_nodes + 1))
    _, parent = breadth_first_order(hung.tocsr(), n_nodes, directed=False)
    return np.where(parent[:-1] == n_nodes, -1, parent[:-1])
