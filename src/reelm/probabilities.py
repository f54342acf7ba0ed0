"""How good probabilities of single places are, and what makes them better, as pure functions.

- auc: the chance that a place that was liked scores above one that was not; ties count half.
- gauc: auc within each user, mean over users weighted by their places; users all of whose places
  went alike have none and are left out. uauc: the same with users weighted alike.
- logloss: mean of -ln of the probability given to what happened, in nats.
- ece: places are put into bins of equal width by their probability; the mean distance between what
  a bin was given and what happened in it, weighted by its places.

Source: Zhou et al. 2018, arXiv:1706.06978, section 6.2 (gauc); Guo et al. 2017, "On Calibration of
Modern Neural Networks", arXiv:1706.04599 (ece, temperature); Platt 1999 (slope and shift).
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int

from reelm.errors import NonFinite

LEAST = 1e-7  # no probability is taken to be nearer to 0 or 1: one sure error is not infinite

Labels = Float[np.ndarray, "places"]
Numbers = Float[np.ndarray, "places"]


def rate(
    label: Labels, score: Numbers, probability: Numbers, user: Int[np.ndarray, "places"]
) -> dict[str, float]:
    """auc, gauc, uauc, logloss, ece, the mean label and the mean probability; NaN where there is
    nothing to say.

    Raises:
        NonFinite: a score or a probability is NaN or infinite.
    """
    if not (np.isfinite(score).all() and np.isfinite(probability).all()):
        raise NonFinite("the model gave a score that is NaN or infinite; train it again.")
    if not len(label):
        return {}
    gauc, uauc = grouped_auc(label, score, user)
    return {
        "auc": auc(label, score),
        "gauc": gauc,
        "uauc": uauc,
        "logloss": log_loss(label, probability),
        "ece": ece(reliability(label, probability)),
        "liked": float(label.mean()),
        "predicted": float(probability.mean(dtype=np.float64)),
    }


def sigmoid(score: Numbers) -> Float64[np.ndarray, "places"]:
    """Probabilities of logits of any size."""
    return 1 / (1 + np.exp(-np.clip(score.astype(np.float64), -500, 500)))


def auc(label: Labels, score: Numbers) -> float:
    """NaN if all labels are alike."""
    return float(_aucs(label, score, np.zeros(len(label), np.int64))[0][0])


def grouped_auc(
    label: Labels, score: Numbers, group: Int[np.ndarray, "places"]
) -> tuple[float, float]:
    """auc within each group: mean weighted by places, and plain mean."""
    found, size = _aucs(label, score, np.unique(group, return_inverse=True)[1])
    some = ~np.isnan(found)
    if not some.any():
        return float("nan"), float("nan")
    return float(np.average(found[some], weights=size[some])), float(found[some].mean())


def log_loss(label: Labels, probability: Numbers) -> float:
    """Mean over places, in nats."""
    p = np.clip(probability.astype(np.float64), LEAST, 1 - LEAST)
    return float(-(label * np.log(p) + (1 - label) * np.log1p(-p)).mean())


def reliability(label: Labels, probability: Numbers, bins: int = 10) -> list[dict[str, Any]]:
    """Per bin that holds any place: from, to, places, mean probability, share that was liked."""
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    size = np.bincount(place, minlength=bins)
    given = np.bincount(place, probability.astype(np.float64), minlength=bins)
    liked = np.bincount(place, label.astype(np.float64), minlength=bins)
    return [
        {
            "from": n / bins,
            "to": (n + 1) / bins,
            "places": int(size[n]),
            "predicted": float(given[n] / size[n]),
            "liked": float(liked[n] / size[n]),
        }
        for n in np.flatnonzero(size)
    ]


def ece(bins: list[dict[str, Any]]) -> float:
    """Of a table that `reliability` made."""
    places = sum(part["places"] for part in bins)
    return sum(part["places"] * abs(part["predicted"] - part["liked"]) for part in bins) / places


def fitted(label: Labels, score: Numbers, shift: bool = True) -> tuple[float, float]:
    """Slope and shift that make sigmoid(slope * score + shift) likeliest; without `shift` it is 0.

    The slope stays above zero, so that no order of scores changes. With labels all alike there is
    nothing to fit: (1, 0).

    By Newton's method; a ridge of 1e-6 per place keeps scores that part the labels finite.
    """
    if label.max(initial=0) <= label.min(initial=1):
        return 1.0, 0.0
    x = np.stack([score, np.ones(len(score))][: 1 + shift], axis=1).astype(np.float64)
    start = np.array([1.0, 0.0][: 1 + shift])
    found = _newton(x, label.astype(np.float64), start)
    if found[0] <= 0:
        rest = _newton(x[:, 1:], label.astype(np.float64), np.zeros(1)) if shift else [0.0]
        return 1e-3, float(rest[0])
    return float(found[0]), float(found[1]) if shift else 0.0


def _newton(
    x: Float64[np.ndarray, "places terms"],
    label: Float64[np.ndarray, "places"],
    weight: Float64[np.ndarray, "terms"],
) -> Float64[np.ndarray, "terms"]:
    """Logistic regression; a step that makes things worse is halved until it does not."""
    ridge = 1e-6 * len(x)

    def cost(w: np.ndarray) -> float:
        z = x @ w
        return float((np.logaddexp(0, z) - label * z).sum() + ridge * (w @ w) / 2)

    for _ in range(100):
        p = sigmoid(x @ weight)
        slope = x.T @ (p - label) + ridge * weight
        bend = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(weight))
        step = np.linalg.solve(bend, slope)
        now, share = cost(weight), 1.0
        while cost(weight - share * step) > now and share > 1e-6:
            share /= 2
        weight = weight - share * step
        if np.abs(share * step).max() < 1e-9:
            break
    return weight


def _aucs(
    label: Labels, score: Numbers, group: Int[np.ndarray, "places"]
) -> tuple[Float64[np.ndarray, "groups"], Int[np.ndarray, "groups"]]:
    """auc within each group, NaN where all labels are alike, and places; groups are 0, 1, ...

    By ranks: the mean rank of ties is what counting them half comes to.
    """
    count = int(group.max(initial=-1)) + 1
    order = np.lexsort((score, group))
    ordered, by = score[order], group[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]) | (by[1:] != by[:-1])
    tie = np.cumsum(new) - 1
    first, size = np.flatnonzero(new), np.bincount(tie)
    places = np.bincount(by, minlength=count)
    start = np.cumsum(places) - places
    rank = (first + (size + 1) / 2)[tie] - start[by]
    liked = label[order] > 0
    ups = np.bincount(by[liked], minlength=count)
    downs = places - ups
    above = np.bincount(by[liked], rank[liked], minlength=count) - ups * (ups + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return above / (ups * downs), places
