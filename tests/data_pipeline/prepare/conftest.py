"""Real play of Carnival, in every format that is read."""

import pytest

from jowa_jax.data.prepare import export
from jowa_jax.data.source import Split
from jowa_jax.data.store import formats, writer
from tests.data_pipeline.prepare.carnival import GAME
from tests.data_pipeline.sources import raw_logs


@pytest.fixture(scope='module')
def played():
  """Two checkpoints of real play, full episodes only."""
  episodes = raw_logs.random_play(GAME, 2600)
  full = [episode for episode in episodes if episode.terminated]
  assert len(full) >= 4
  return {0: full[:2], 1: full[2:]}


@pytest.fixture(scope='module')
def sources(played, tmp_path_factory):
  """The same play in every format."""
  root = tmp_path_factory.mktemp('sources')
  for run in (1, 2):
    for checkpoint, episodes in played.items():
      split = Split(GAME, run, checkpoint)
      writer.write_split(root / f'work{run}', split, enumerate(episodes))
    splits = [Split(GAME, run, checkpoint) for checkpoint in played]
    writer.finish_run(root / 'rlds', root / f'work{run}', splits, {})
    numbered = {checkpoint + 1: split for checkpoint, split in played.items()}
    raw_logs.write_dqn_replay(root / 'logs', GAME, run, numbered, level=1)
  together = [episode for split in played.values() for episode in split]
  raw_logs.write_jowa_hdf5(root / 'hdf5', GAME, together)
  export.export_minari(root / 'rlds', root / 'minari', [GAME], progress=False)
  return {
    'ale': root / 'rlds',
    'rlu': root / 'rlds' / formats.EPISODES,
    'dqn_replay': root / 'logs',
    'jowa_hdf5': root / 'hdf5',
    'minari': root / 'minari',
  }
