"""The bar of an evaluation: its pace, the time left and the scores so far."""

import time
from collections.abc import Sequence

import numpy as np
import tqdm

from jowa_jax.eval.records import Rollout


class Progress:
  """A bar of decisions, with the pace, the time left and mean scores.

  How long an episode will be is not known: see `expected_decisions`.
  """

  def __init__(self, agent: str, total: int, limit: int, enabled: bool):
    self._bar = tqdm.tqdm(
      desc=f'evaluate {agent}',
      unit='decision',
      disable=not enabled,
      dynamic_ncols=True,
    )
    self._episodes, self._limit = total, limit
    self._finished: list[Rollout] = []
    self._shown = time.monotonic()

  def __enter__(self):
    return self

  def __exit__(self, failure, *unused):
    if failure is None:
      self._bar.total = self._bar.n
    self._bar.close()

  def count(self, running: np.ndarray):
    """Counts one more decision of the running episodes of given lengths."""
    self._bar.n += len(running)
    if time.monotonic() - self._shown > 1:
      self._shown = time.monotonic()
      self._bar.total = expected_decisions(
        [rollout.decisions for rollout in self._finished],
        running,
        self._episodes,
        self._limit,
      )
      self._bar.refresh()

  def finish(self, rollout: Rollout):
    self._finished.append(rollout)
    scores: dict[str, list[float]] = {}
    for done in self._finished:
      scores.setdefault(done.game, []).append(done.score)
    means = [f'{game} {np.mean(s):.0f}' for game, s in list(scores.items())[:4]]
    ended = f'{len(self._finished)}/{self._episodes} episodes'
    self._bar.set_postfix_str(', '.join([ended, *means]), refresh=False)


def expected_decisions(
  finished: Sequence[int], running: Sequence[int], episodes: int, limit: int
) -> int:
  """A guess at the decisions of all episodes.

  An unfinished episode is taken to be as long as the finished ones on average,
  or twice as long when it is longer already, and so on; before one has
  finished, to last as long again as it has so far. None is longer than allowed.

  Args:
    finished: decisions of the finished episodes.
    running: decisions so far of the running ones.
    episodes: how many there will be, those not begun included.
    limit: decisions after which an episode is cut off.
  """
  running = np.asarray(running, float)
  if len(finished):
    typical = np.mean(finished)
    expected = np.minimum((running // typical + 1) * typical, limit)
  else:
    expected = np.minimum(2 * running, limit)
    typical = np.mean(expected)
  waiting = episodes - len(finished) - len(running)
  return round(sum(finished) + expected.sum() + waiting * typical)
