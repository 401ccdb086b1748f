"""Computes the figures of `lift-trainer calibrate` with numpy alone, from the logits and the parts of the images.

Arguments: the file of logits, the CSV of parts, the wanted coverage, the score, and a target distribution as JSON or `null`.
Prints the figures as JSON, under the names of `result.json`; ends with code 77 without numpy.
"""

import csv
import json
import sys

try:
    import numpy as np
except ImportError:
    sys.exit(77)

logits_path, parts_path, coverage, score, ratio = sys.argv[1:]
with open(logits_path, "rb") as file:
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    data = file.read()


def tensor(name, dtype):
    start, end = header[name]["data_offsets"]
    return np.frombuffer(data[start:end], dtype).reshape(header[name]["shape"])


z, y = tensor("logits", "<f4").astype(np.float64), tensor("labels", "<i8")
recorded = json.loads(header["__metadata__"]["recorded"])
counts = np.array(recorded["train_counts"])
part = np.array([row["part"] for row in csv.DictReader(open(parts_path))])
assert len(part) == len(y)
target_over_source, target = json.loads(ratio) if ratio != "null" else (None, None)
offset = 0 if target is None else np.log(np.array(target_over_source))
weight_of = np.ones(len(counts))
if target is not None:
    own = np.bincount(y, minlength=len(counts))
    weight_of = np.where(own > 0, np.array(target) * len(y) / np.maximum(own, 1), 0)
coverage = float(coverage)


def softmax(x):
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def nll(p, labels, weights):
    return -(weights * np.log(p[np.arange(len(labels)), labels])).sum() / weights.sum()


# Golden section over the logarithm of the inverse temperature.
fit = part == "temperature"
loss = lambda log: nll(softmax(np.exp(log) * z[fit] + offset), y[fit], weight_of[y[fit]])
low, high, gold = np.log(1e-3), np.log(1e3), (np.sqrt(5) - 1) / 2
for _ in range(200):
    a, b = high - gold * (high - low), low + gold * (high - low)
    low, high = (low, b) if loss(a) < loss(b) else (a, high)
scale = np.exp((low + high) / 2)

group_of = np.where(counts > 100, 0, np.where(counts < 20, 2, 1))
reported = part == "reported"


def groups(figure):
    labels = y[reported]
    chosen = {"all": labels >= 0}
    chosen |= {name: group_of[labels] == i for i, name in enumerate(["many", "medium", "few"])}
    return {name: figure(rows) if rows.any() else None for name, rows in chosen.items()}


def figures(p):
    p, labels = p[reported], y[reported]

    def of(rows):
        best, own, w = p[rows].max(1), labels[rows], weight_of[labels[rows]]
        right = p[rows].argmax(1) == own
        bins = np.clip(np.ceil(best * 15), 1, 15).astype(int)
        gaps = [abs((w * (right - best))[bins == b].sum()) for b in range(1, 16)]
        variances = [(w**2 * best * (1 - best))[bins == b].sum() for b in range(1, 16)]
        return {
            "images": int(rows.sum()),
            "accuracy": 100 * (w * right).sum() / w.sum(),
            "nll": nll(p[rows], own, w),
            "ece": 100 * sum(gaps) / w.sum(),
            "ece_by_chance": 100 * np.sqrt(2 / np.pi * np.array(variances)).sum() / w.sum(),
        }

    return groups(of)


def scores(p):
    if score == "lac":
        return 1 - p
    order = np.argsort(-p, 1, kind="stable")
    total = np.cumsum(np.take_along_axis(p, order, 1), 1)
    if score == "raps":
        total = total + 0.01 * np.maximum(np.arange(1, p.shape[1] + 1) - 5, 0)
    out = np.empty_like(p)
    np.put_along_axis(out, order, total, 1)
    return out


def sets(s, cell_of):
    fit = part == "thresholds"
    own, labels = s[fit][np.arange(fit.sum()), y[fit]], y[fit]
    thresholds = np.full(len(counts), np.inf)
    for c in range(len(counts)):
        chosen = cell_of[labels] == cell_of[c]
        order = np.argsort(own[chosen], kind="stable")
        sums = np.cumsum(weight_of[labels[chosen]][order])
        needed = coverage * ((sums[-1] if len(sums) else 0) + weight_of[c])
        enough = np.nonzero(sums >= needed - 1e-9)[0]
        if len(enough):
            thresholds[c] = own[chosen][order][enough[0]]
    within, labels = s[reported] <= thresholds, y[reported]

    def of(rows):
        w = weight_of[labels[rows]]
        covered = within[rows, :][np.arange(rows.sum()), labels[rows]]
        size = within[rows].sum(1)
        mean = lambda x: (w * x).sum() / w.sum()
        return {"coverage": 100 * mean(covered), "mean_size": mean(size), "empty": 100 * mean(size == 0)}

    return {**groups(of), "without_threshold": int(np.isinf(thresholds).sum())}


p = softmax(scale * z + offset)
s = scores(p)
print(json.dumps({
    "temperature": 1 / scale,
    "before": figures(softmax(z)),
    "after": figures(p),
    "marginal": sets(s, np.zeros(len(counts), int)),
    "by_group": sets(s, group_of),
    "by_class": sets(s, np.arange(len(counts))),
}))
