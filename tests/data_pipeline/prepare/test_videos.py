"""Videos become a data set without actions, that watching alone takes."""

import json

import numpy as np
import pytest

from jowa_jax.data.episodes import DataError
from jowa_jax.data.feed.training import DataConfig, TrainingData
from jowa_jax.data.prepare import inspection, prepare
from jowa_jax.data.source import VideoOptions
from jowa_jax.data.store import formats, stored
from jowa_jax.methods.base import BatchSpec
from jowa_jax.train.run import Run
from tests.data_pipeline.prepare.carnival import IN_MEMORY
from tests.data_pipeline.sources.test_video import GAME, pictures, write
from tests.methods.cycle import config_of


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """Two videos, one of them with a cut, and what was made of them."""
  root = tmp_path_factory.mktemp('videos')
  (root / 'in').mkdir()
  scenes = np.concatenate([pictures(12), pictures(9, scene=1)])
  write(root / 'in' / 'a.mkv', scenes)
  write(root / 'in' / 'b.mkv', pictures(30))
  request = request_of(root / 'in')
  manifest = prepare.prepare(request, root / 'out', IN_MEMORY, progress=False)
  return root, manifest


def request_of(path, **options):
  return prepare.Request(
    'video', str(path), (GAME,), video=VideoOptions(**options)
  )


def test_what_is_made_of_videos(prepared):
  root, manifest = prepared
  game = manifest['games'][GAME]
  assert (game['steps'], game['episodes'], game['mean_return']) == (51, 3, None)
  assert (
    manifest['requests'][0]['request']['video']['decisions_per_second'] == 15
  )
  # No exchange set, which could not say that actions are not known.
  assert sorted(path.name for path in (root / 'out').iterdir()) == [
    formats.FRAMES,
    formats.MANIFEST,
  ]
  episodes = stored.load_episodes(root / 'out', GAME)
  assert [len(episode) for episode in episodes] == [12, 9, 30]
  assert {episode.missing for episode in episodes} == {('actions', 'rewards')}
  frames = np.zeros((30, 84, 84), np.uint8)
  episodes[2].decode(0, 30, frames)
  np.testing.assert_array_equal(frames, pictures(30))
  inspection.verify(episodes)


def test_the_same_request_continues_and_another_crop_does_not(prepared):
  root, manifest = prepared
  again = prepare.prepare(request_of(root / 'in'), root / 'out', progress=False)
  assert again == manifest
  other = request_of(root / 'in', crop=(80, 80, 0, 0))
  with pytest.raises(DataError, match='video: '):
    prepare.prepare(other, root / 'out', progress=False)
  with pytest.raises(ValueError, match="source='ale' has no videos"):
    prepare.Request('ale', 'x', (GAME,), video=VideoOptions())
  # Requests of other sources are what they were.
  plain = prepare.Request('ale', 'x', (GAME,))
  assert plain.digest() == '93a6210e264e'


def test_inspection_says_what_is_not_known(prepared, tmp_path):
  root, _ = prepared
  episodes = stored.load_episodes(root / 'out', GAME)
  summary = inspection.summarize(episodes)
  assert summary[GAME]['actions'] is None and summary[GAME]['rewards'] is None
  text = inspection.describe(summary)
  assert '  actions: not known: made of videos' in text
  assert '51 transitions in 3 episodes, 0 of them complete' in text
  inspection.draw(episodes, tmp_path / 'picture.png')
  assert (tmp_path / 'picture.png').stat().st_size > 10_000


def test_segments_say_that_nothing_was_acted(prepared):
  root, _ = prepared
  config = DataConfig(directory=str(root / 'out'), games=(GAME,))
  data = TrainingData(config, BatchSpec(4), 2, 0)
  (batch,) = data.batches(0, 1, put=lambda batch: batch)
  assert batch.mask.any() and not batch.acted.any()


def test_methods_that_need_actions_refuse_them(prepared, tmp_path):
  root, _ = prepared
  fields = {
    'data__directory': str(root / 'out'),
    'data__games': (GAME,),
    'run__batch_size': 8,
  }
  for method, named in (
    ('mtbc', r'stages\.stage1\.tokenizer of mtbc'),
    ('ficc', r'stages\.action_map\.action_map of ficc'),
    ('scaled_ql', r'stages\.q\.q of scaled_ql'),
  ):
    config = json.loads(json.dumps(config_of(method, fields)))
    with pytest.raises(
      DataError, match=f'Freeway has no actions and no rewards .*{named} reads'
    ):
      Run(config, tmp_path / method).train(progress=False)
    assert not (tmp_path / method).exists()
