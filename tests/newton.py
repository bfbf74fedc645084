"""The minimum of a small logistic regression by Newton's method with the whole Hessian: an oracle for the probe."""

import numpy as np


def minimum(features, labels, num_classes, penalty, intercept=True):
    """The minimum of the objective of one softmax over the classes, and ||g||^2 / (2 lambda) there, in float64.

    Rows are centered and rotated into the basis of their singular vectors; with a bias this does not change the
    objective.
    """
    rows = np.asarray(features, np.float64)
    rows = rows - rows.mean(axis=0) * intercept
    left, lengths, _ = np.linalg.svd(rows, full_matrices=False)
    kept = lengths > lengths[0] * 1e-14
    rows = np.c_[left[:, kept] * lengths[kept], np.full(len(rows), float(intercept))]
    width = rows.shape[1]
    shrink = np.r_[np.full(width - 1, penalty), 0.0]
    truth = np.eye(num_classes, dtype=bool)[labels]

    def objective(point):
        logits = rows @ point.T
        margins = np.where(truth, -np.inf, logits - logits[truth][:, None])
        top = np.maximum(margins.max(axis=1), 0)
        others = np.exp(margins - top[:, None]).sum(axis=1)
        loss = np.where(top > 0, top + np.log(others + np.exp(-top)), np.log1p(others))
        return loss.sum() + (shrink * point**2).sum() / 2

    point = np.zeros((num_classes, width))
    value, square = objective(point), np.inf
    for _ in range(300):
        gradient, hessian = _derivatives(rows, truth, point, shrink)
        square = np.square(gradient[:, :-1]).sum() / 2 / penalty
        scale = np.sqrt(np.diag(hessian)).clip(1e-150)
        scaled = hessian / scale[:, None] / scale
        step = -(np.linalg.lstsq(scaled, gradient.ravel() / scale, rcond=1e-15)[0] / scale).reshape(point.shape)
        length, slope = 1.0, (gradient * step).sum()
        while length > 1e-8 and objective(point + length * step) > value + 1e-4 * length * slope:
            length /= 2
        if length <= 1e-8:
            break
        point = point + length * step
        value = objective(point)
    return value, square


def _derivatives(rows, truth, point, shrink):
    logits = rows @ point.T
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    wrong = np.where(truth, 0, shares)
    residuals = np.where(truth, -wrong.sum(axis=1, keepdims=True), wrong)  # not p - 1, which would lose all digits
    num_classes, width = point.shape
    hessian = np.zeros((num_classes, width, num_classes, width))
    for one in range(num_classes):
        for other in range(num_classes):
            weights = -shares[:, one] * shares[:, other]
            if one == other:
                weights = shares[:, one] * np.where(truth[:, one], wrong.sum(axis=1), 1 - shares[:, one])
            hessian[one, :, other] = (rows * weights[:, None]).T @ rows
    hessian = hessian.reshape(num_classes * width, -1) + np.diag(np.tile(shrink, num_classes))
    return residuals.T @ rows + shrink * point, hessian
