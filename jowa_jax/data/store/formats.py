"""The two kinds of TFDS data set that hold a run of a game.

- `jowa_atari/<Game>_run_<n>`: RLDS episodes in RL Unplugged's Atari features,
  one split per checkpoint, that any reader of that format takes;
- `jowa_atari_frames/<Game>_run_<n>`: what training reads. Frames are in
  array_record files of chunks of `CHUNK` steps, for random access; actions,
  rewards and a table of episodes are plain arrays beside them.
"""

import functools
import hashlib
import os
from typing import Any

import numpy as np
from etils import epath

from jowa_jax.data.episodes import RawEpisode, encode_png
from jowa_jax.types import FRAME_SHAPE

EPISODES = 'jowa_atari'
FRAMES = 'jowa_atari_frames'
VERSION = '1.0.0'
CHUNK = 8  # steps whose frames are read together
# Beside the shards of both data sets: what is in them and where it is from.
RECORD = 'record.json'
# Beside both kinds: what launch.prepare_data drew from where.
MANIFEST = 'manifest.json'
# A row of the table of episodes.
EPISODE_DTYPE = np.dtype(
  [
    ('checkpoint', '<i4'),
    ('number', '<i8'),  # place among the episodes of the source's checkpoint
    ('length', '<i4'),  # transitions
    ('score', '<f8'),  # sum of the rewards as the source has them
    ('terminated', '?'),
    ('digest', 'V16'),  # see episodes.digest
  ]
)
FILE_FORMATS = {EPISODES: 'tfrecord', FRAMES: 'array_record'}


def data_set_path(
  output: str | os.PathLike, game: str, run: int, kind: str = EPISODES
) -> epath.Path:
  """The directory of a finished data set, `EPISODES` or `FRAMES`."""
  return epath.Path(output) / kind / f'{game}_run_{run}' / VERSION


def checksum(column: np.ndarray) -> str:
  """A hash of an array and its dtype."""
  state = hashlib.blake2b(str(column.dtype).encode(), digest_size=16)
  state.update(np.ascontiguousarray(column))
  return state.hexdigest()


def rlds_episode(
  raw: RawEpisode, checkpoint: int, number: int
) -> dict[str, Any]:
  """An episode as RL Unplugged aligns it.

  A terminated episode ends in a step of which only the observation counts (a
  black frame, if the source has none); a cut one ends in its last decision.
  `discount` is that of the transition.
  Source: tensorflow_datasets.rl_unplugged.atari_utils.atari_example_to_rlds.
  """
  extra = int(raw.terminated)
  length = len(raw.actions) + extra
  frames = raw.frames[:length]
  if len(frames) < length:
    frames = [*frames, _black_frame()]
  is_last = np.arange(length) == length - 1
  discount = np.ones(length, np.float32)
  if raw.terminated:
    discount[-2:] = 0
  return {
    'checkpoint_id': checkpoint,
    'episode_id': number,
    'episode_return': np.clip(raw.rewards, -1, 1).sum(dtype=np.float32),
    'steps': {
      'observation': frames,
      'action': np.pad(raw.actions, (0, extra)).astype(np.int64),
      'reward': np.pad(raw.rewards, (0, extra)),
      'discount': discount,
      'is_first': np.arange(length) == 0,
      'is_last': is_last,
      'is_terminal': is_last & raw.terminated,
    },
  }


@functools.cache
def _black_frame() -> bytes:
  return encode_png(np.zeros(FRAME_SHAPE, np.uint8))


@functools.cache
def serializers() -> dict[str, Any]:
  """What serializes the examples of both kinds of data set.

  Whole episodes go to it as arrays; TFDS's own writers would encode every
  feature of every step by itself.
  """
  described_by_kind = features()
  from tensorflow_datasets.core import example_serializer

  return {
    kind: example_serializer.ExampleSerializer(described.get_serialized_info())
    for kind, described in described_by_kind.items()
  }


def features() -> dict[str, Any]:
  """The TFDS features of both kinds of data set."""
  from tensorflow_datasets.rl_unplugged import atari_utils

  from jowa_jax.data.tf_libraries import tfds

  frame = tfds.features.Image(
    shape=(*FRAME_SHAPE, 1), dtype=np.uint8, encoding_format='png'
  )
  return {
    EPISODES: atari_utils.features_dict(),
    FRAMES: tfds.features.FeaturesDict(
      {'frames': tfds.features.Sequence(frame)}
    ),
  }
