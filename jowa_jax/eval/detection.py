"""How well rare events are told from the rest, by a score of each step.

The likeliest class of a head whose events are rare may never be one of them,
though their scores stand out: beside what it says itself stand measures over
all thresholds.
"""

import numpy as np


def detection_metrics(
  scores: np.ndarray, right: np.ndarray, fired: np.ndarray, real: np.ndarray
) -> dict[str, float]:
  """Figures of events, those that have a meaning.

  - `share` of steps with an event, which is also the average precision of
    guessing.
  - `recall` of the events that were foreseen, and `precision` of what was
    foreseen that came; absent if there was none.
  - `average_precision` (mean precision over the recalls of all thresholds),
    `recall_at_half` (the largest recall at a precision of at least a half), and
    `best_f1` at the score `best_threshold`; absent without events.

  Args:
    scores: of an event at each step, the higher the likelier, [N].
    right: steps at which what was predicted came, [N] bool.
    fired: steps at which an event was predicted, [N] bool.
    real: steps at which there was one, [N] bool.
  """
  metrics = {'share': float(real.mean())} if len(real) else {}
  if fired.any():
    metrics['precision'] = float(right[fired].mean())
  if real.any():
    metrics['recall'] = float(right[real].mean())
    metrics |= over_thresholds(scores, real)
  return metrics


def over_thresholds(scores: np.ndarray, real: np.ndarray) -> dict[str, float]:
  """What `detection_metrics` says of all thresholds, given events."""
  order = np.argsort(-scores, kind='stable')
  ordered, hits = scores[order], np.cumsum(real[order])
  # Steps of one score come together: a threshold cannot part them.
  last = np.append(ordered[1:] != ordered[:-1], True)
  ordered, hits = ordered[last], hits[last]
  named = np.flatnonzero(last) + 1
  precision, recall = hits / named, hits / hits[-1]
  f1 = 2 * hits / (named + hits[-1])
  best = int(f1.argmax())
  half = precision >= 0.5
  return {
    'average_precision': float((np.diff(recall, prepend=0) * precision).sum()),
    'recall_at_half': float(recall[half].max()) if half.any() else 0.0,
    'best_f1': float(f1[best]),
    'best_threshold': float(ordered[best]),
  }
