"""Small data sets of Minari, made by its own library."""

import json
import pickle

import gymnasium
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from jowa_jax.data.sources.minari_sets import METADATA, MinariSource

GREY = gymnasium.spaces.Box(0, 255, (84, 84), np.uint8)


def write(
  root,
  name,
  episodes,
  *,
  space=GREY,
  actions=6,
  spec=None,
  storage='hdf5',
  **options,
):
  """Writes a data set; returns its `data` folder.

  Args:
    root: of data sets.
    name: its id, such as 'atari/pong/expert-v0'.
    episodes: (observations [T + 1, ...], actions, rewards, terminated) each.
    space: of observations.
    actions: their space, or how many there are.
    spec: the environment's, a dictionary; None for none.
    storage: the kind of files.
    **options: of `MinariStorage.new`.
  """
  if isinstance(actions, int):
    actions = gymnasium.spaces.Discrete(actions)
  path = root / name / 'data'
  path.mkdir(parents=True)
  options = {'jpeg_encoding': False, **options}
  stored = MinariStorage.new(
    path, space, actions, data_format=storage, **options
  )
  stored.update_metadata({'dataset_id': name, 'minari_version': '0.5.4'})
  if spec is not None:
    change_metadata(path, env_spec=json.dumps(spec))
  for observations, taken, rewards, terminated in episodes:
    ends = np.zeros((2, len(rewards)), bool)
    ends[:, -1] = terminated, not terminated
    stored.update_episodes(
      [
        EpisodeBuffer(
          observations=observations,
          actions=np.asarray(taken),
          rewards=np.asarray(rewards, float),
          terminations=ends[0],
          truncations=ends[1],
        )
      ]
    )
  return path


def change_metadata(path, **values):
  """Sets what a data set says of itself."""
  facts = json.loads((path / METADATA).read_text())
  (path / METADATA).write_text(json.dumps({**facts, **values}))


def spec_of(game='ALE/Pong-v5', wrappers=(), **kwargs):
  """An environment as Gymnasium writes it down."""
  return {
    'id': game,
    'kwargs': {'game': '', **kwargs},
    'additional_wrappers': [
      {'name': name, 'entry_point': '', 'kwargs': options}
      for name, options in wrappers
    ],
  }


def random_episode(length, shape=(84, 84), actions=6, terminated=True, seed=0):
  """An episode of noise."""
  rng = np.random.default_rng((seed, length))
  return (
    rng.integers(0, 256, (length + 1, *shape), np.uint8),
    rng.integers(0, actions, length),
    rng.integers(-1, 3, length).astype(float),
    terminated,
  )


def read(root, game='Pong'):
  """All that a source has of a game, by split."""
  source = pickle.loads(pickle.dumps(MinariSource(str(root))))
  found = {}
  for split in source.splits(game):
    lengths = source.lengths(split)
    found[split] = list(source.episodes(split, range(len(lengths))))
    assert lengths == [len(e.actions) for e in found[split]]
    for path, size in source.files(split).items():
      assert path.startswith(str(root)) and size
  return found
