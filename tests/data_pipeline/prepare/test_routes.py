"""Every route gives the same transitions of play that logs hold in pieces.

Real play with games that end at a limit of frames, recorded as Dopamine does:
an episode goes on from one file to the next, and the row between them is lost.
"""

import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.data.feed import dataset
from jowa_jax.data.prepare import export, prepare
from jowa_jax.data.source import MISSING, SOURCES, Split
from jowa_jax.data.store import formats, stored, writer
from jowa_jax.envs import ale
from tests.cases import quick
from tests.data_pipeline.sources import raw_logs

GAME = 'Carnival'
LIMIT = 1600  # frames; some of these games are shorter

HERE = [source for source in SOURCES if source not in MISSING]
QUICK = [source for source in HERE if source not in ('ale', 'rlu')]


@pytest.fixture(scope='module')
def played():
  """Games that were over, and others that the limit ended."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(ale, 'MAX_EPISODE_FRAMES', LIMIT)
    episodes = raw_logs.random_play(GAME, 1900)[:-1]
  ends = [(len(episode.actions), episode.terminated) for episode in episodes]
  assert (LIMIT // 4, False) in ends and any(over for _, over in ends)
  return episodes


def _logged(episode):
  """What logs say of an episode: they know no difference between its ends."""
  frames = episode.frames[: len(episode.actions)]
  return episode._replace(frames=frames + frames[-1:], terminated=True)


def _pieces(played, rows):
  """Returns what files of so many rows hold of the play, by their number."""
  pieces, start = {}, 0
  for episode in played:
    stop = start + 3 + len(episode.actions)
    first, last = start // rows, (stop - 1) // rows
    # An episode is read from the file it ends in.
    skipped = last * rows - (start + 3) if first < last else 0
    kept = raw_logs.piece(episode, skipped)
    if episode.terminated:
      kept = kept._replace(frames=episode.frames[skipped:])
    pieces.setdefault(last, []).append(kept)
    start = stop
  return pieces


def _write_rlds(root, pieces):
  splits = [Split(GAME, 1, checkpoint) for checkpoint in pieces]
  for split in splits:
    episodes = enumerate(pieces[split.checkpoint])
    writer.write_split(root / 'work', split, episodes)
  writer.finish_run(root, root / 'work', splits, {})


@pytest.fixture(scope='module')
def routes(played, tmp_path_factory):
  """The same pieces of play in every format, and the pieces."""
  root = tmp_path_factory.mktemp('routes')
  logged = [_logged(episode) for episode in played]
  # The ring is full a hundred rows into the third game.
  rows = sum(3 + len(episode.actions) for episode in played[:2]) + 100
  raw_logs.write_ring(root / 'logs', GAME, 1, logged, rows, level=1)
  pieces = _pieces(played, rows)
  assert [len(split) for split in pieces.values()] == [2, len(played) - 2]
  logged = {
    checkpoint: [_logged(episode) for episode in split]
    for checkpoint, split in pieces.items()
  }
  _write_rlds(root / 'ale', pieces)
  _write_rlds(root / 'rlds', logged)
  together = [episode for split in logged.values() for episode in split]
  raw_logs.write_jowa_hdf5(root / 'hdf5', GAME, together)
  export.export_minari(root / 'rlds', root / 'minari', [GAME], progress=False)
  inputs = {
    'ale': root / 'ale',
    'rlu': root / 'rlds' / formats.EPISODES,
    'dqn_replay': root / 'logs',
    'jowa_hdf5': root / 'hdf5',
    'minari': root / 'minari',
  }
  return inputs, [episode for split in pieces.values() for episode in split]


def _transitions(source, path, output):
  request = prepare.Request(source, str(path), (GAME,))
  flags = (
    '--runner=FnApiRunner',
    '--direct_num_workers=1',
    '--direct_running_mode=in_memory',
  )
  prepare.prepare(request, output, flags, progress=False)
  data = dataset.SegmentDataset(stored.load_episodes(output, GAME), 8, 8)
  return data.batch(np.arange(data.num_segments))


@pytest.mark.parametrize('source', quick(HERE, *QUICK))
def test_every_route_gives_the_same_transitions(routes, tmp_path, source):
  inputs, pieces = routes
  batch = _transitions(source, inputs[source], tmp_path)
  mask = batch.mask
  actions = np.concatenate([piece.actions for piece in pieces])
  legal = np.array(games.LEGAL_ACTIONS[GAME])
  np.testing.assert_array_equal(batch.actions[mask], legal[actions])
  rewards = np.concatenate([piece.rewards for piece in pieces])
  np.testing.assert_array_equal(batch.rewards[mask], rewards.clip(-1, 1))
  frames = [
    raw_logs.decode(png)
    for piece in pieces
    for png in piece.frames[: len(piece.actions)]
  ]
  np.testing.assert_array_equal(batch.observations[mask], frames)
  # What we played ourselves tells the limit from game over.
  ends = np.cumsum([len(piece.actions) for piece in pieces]) - 1
  if source == 'ale':
    ends = ends[[piece.terminated for piece in pieces]]
  np.testing.assert_array_equal(np.flatnonzero(batch.ends[mask]), ends)
