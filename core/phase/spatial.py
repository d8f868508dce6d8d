"""Unwrap phase in space, over the voxels of a mask."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from ..grid import neighbours
from .encoding import wrap_phase

_BULK = 5  # side length in voxels of a box that a region has to contain to be moved by 2π
_TREND_STEP = 7  # the trend's ten coefficients are fitted to every 7th voxel, which is enough


class Region:
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

    def in_bulk(self, wraps: np.ndarray) -> np.ndarray:
        """Return multiples of 2π in compact regions, and 0 elsewhere.

        A region is of connected voxels with the same multiple, and contains a box of voxels. In
        noise the multiples differ from voxel to voxel.
        """
        volume = self._volume(wraps)
        bulk = np.zeros_like(volume)
        for value in np.unique(wraps[wraps != 0]):
            is_equal = volume == value
            is_core = ndimage.binary_erosion(is_equal, np.ones((_BULK,) * 3, bool))
            if is_core.any():
                bulk[ndimage.binary_propagation(is_core, mask=is_equal)] = value
        return bulk[self.inside]

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
