"""A run whose data grows by playing: when it plays, and how it is resumed."""

import json

import jax
import numpy as np
import pytest

from jowa_jax.train.run import Run
from tests.train import helpers

EVERY = 3


class PlayingFeed:
  """Recorded play whose rewards say how often, and by whom, was played."""

  def __init__(self, run):
    self._data = run.load_data()
    self.identity, self.statistics = self._data.identity, self._data.statistics
    self.asked, self.interactions, self.played = [], [], []
    self.made = []

  def next_interaction(self, step):
    return -(-step // EVERY) * EVERY

  def interact(self, step, variables):
    self.interactions.append(step)
    heads = jax.tree.leaves(variables.params['policy_heads'])
    self.played.append(float(sum(abs(np.asarray(x)).sum() for x in heads)))
    return {'play/sum': self.played[-1], 'play/count': len(self.played)}

  def batches(self, start, stop, put, process=0, num_processes=1):
    self.asked.append((start, stop))
    seen = np.array(self.played)

    def place(rows):
      # What is learned depends on all that was played so far.
      actions = (rows.actions + int(1e4 * seen.sum())) % 18
      return put(rows.replace(actions=actions.astype(np.int32)))

    yield from self._data.batches(start, stop, place, process, num_processes)

  def held_out_batches(self, count):
    return self._data.held_out_batches(count)

  def save(self, folder, step):
    folder.mkdir(exist_ok=True)
    (folder / f'{step}.json').write_text(json.dumps(self.played))

  def restore(self, folder, step):
    self.played = json.loads((folder / f'{step}.json').read_text())


@pytest.fixture
def config(atari_data_dir):
  return helpers.tiny_config(atari_data_dir, 'mtbc')


class Interrupt(Exception):
  """As a lost machine is."""


@pytest.mark.slow
def test_a_run_that_plays_and_is_interrupted(config, tmp_path):
  run = Run(config, tmp_path / 'whole')
  feed = PlayingFeed(run)
  whole = helpers.flat(run.train(progress=False, data=feed))
  # Seven steps in two stages, of which the first has three.
  assert feed.interactions == [0, 3, 6]
  assert feed.asked == [(0, 3), (3, 6), (6, 7)]
  # By the agent as it was then.
  assert len(set(feed.played)) == 3
  records = helpers.read_metrics(tmp_path / 'whole')
  played = {r['step']: r['play/count'] for r in records if 'play/count' in r}
  assert played == {1: 1, 4: 2, 7: 3}

  def on_step(step):
    if step == 5:
      raise Interrupt

  with pytest.raises(Interrupt):
    run = Run(config, tmp_path / 'cut')
    run.train(progress=False, data=PlayingFeed(run), on_step=on_step)
  run = Run(config, tmp_path / 'cut')
  again = PlayingFeed(run)
  cut = helpers.flat(run.train(progress=False, data=again))
  # From the checkpoint of step 4, with what was played before it.
  assert again.interactions == [6] and again.played == feed.played
  assert cut.keys() == whole.keys()
  for path, value in whole.items():
    np.testing.assert_array_equal(cut[path], value, err_msg=path)


def test_recorded_play_is_never_interacted_with(config, tmp_path):
  data = Run(config, tmp_path).load_data()
  assert data.next_interaction(0) is None
  with pytest.raises(NotImplementedError, match='Recorded play'):
    data.interact(0, None)
