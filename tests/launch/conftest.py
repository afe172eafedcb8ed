"""Recorded play for the tests of the quickstart."""

import pytest

from jowa_jax.collect.collect import collect


@pytest.fixture(scope='session')
def record(once):
  """Records so many decisions of random play of three games, two checkpoints.

  Carnival's episodes end within some 450 decisions.
  """

  def make(steps):
    def play(path):
      path.mkdir()
      collect(
        *(None, 'Assault,Carnival,Robotank', (1.0, 1.0), steps),
        num_processes=2,
        progress=False,
        record=path / 'play.npz',
      )

    return once(f'recorded_{steps}', play) / 'play.npz'

  return make
