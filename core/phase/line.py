"""Weighted least-squares fit of a line in echo time to each voxel."""

import numpy as np


def weighted_line(
    y: np.ndarray, w: np.ndarray, te: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit y = a + b·te to each row by weighted least squares; with a single echo a = 0.

    Parameters
    ----------
    y, w : ndarray, shape (n_voxels, n_echoes)
        Values and their weights.
    te : ndarray, shape (n_echoes,)
        Echo times, s.

    Returns
    -------
    intercept, slope : ndarray, shape (n_voxels,)
        a and b; 0 in rows without weight.
    information : ndarray, shape (n_voxels,)
        Σ w (te - t̄)², with which the variance of the slope is σ² / Σ w (te - t̄)².
    """
    t = te.astype(np.float32)
    if te.size == 1:
        return np.zeros(len(y), np.float32), y[:, 0] / t[0], w[:, 0] * t[0] ** 2
    total = w.sum(axis=1)
    scale = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    t_mean = (w @ t) * scale
    y_mean = np.einsum("ij,ij->i", w, y) * scale
    dt = t - t_mean[:, None]
    information = np.einsum("ij,ij,ij->i", w, dt, dt)
    covariance = np.einsum("ij,ij,ij->i", w, dt, y - y_mean[:, None])
    slope = np.divide(covariance, information, out=np.zeros_like(total), where=information > 0)
    return y_mean - slope * t_mean, slope, information


def remainders(w: np.ndarray, te: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Return 1 - leverage of each echo in `weighted_line`: the variance of its residual over that
    of its noise.

    Parameters
    ----------
    w, te, information
        As of `weighted_line`.

    Returns
    -------
    ndarray, shape (n_voxels, n_echoes)
        1 in rows without weight.
    """
    total = w.sum(axis=1)
    has_signal = (total > 0) & (information > 0)
    scale = np.divide(1, total, out=np.zeros_like(total), where=has_signal)
    slope_scale = np.divide(1, information, out=np.zeros_like(total), where=has_signal)
    t = te.astype(np.float32)
    dt = t - ((w @ t) * scale)[:, None]
    return 1 - w * (scale[:, None] + dt**2 * slope_scale[:, None])
