"""What is exported for Minari is read by Minari, and read back here."""

import minari
import numpy as np
import pytest

from jowa_jax.data.prepare import export
from jowa_jax.data.source import Split
from jowa_jax.data.sources.rlds_atari import RldsSource
from tests.cases import quick
from tests.data_pipeline.sources import minari_play, raw_logs


@pytest.mark.parametrize('storage', quick(export.STORAGES, export.STORAGES[0]))
def test_export_and_back(full_episodes_dir, tmp_path, monkeypatch, storage):
  output = tmp_path / 'minari'
  (name,) = export.export_minari(
    full_episodes_dir, output, ('Carnival',), storage=storage, progress=False
  )
  assert name == 'jowa/carnival/run_1-v0'
  ours = RldsSource(str(full_episodes_dir))
  played = [
    episode
    for split in ours.splits('Carnival')
    for episode in ours.episodes(split, range(len(ours.lengths(split))))
  ]
  assert {episode.terminated for episode in played} == {True, False}
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(output))
  assert list(minari.list_local_datasets()) == [name]
  theirs = minari.load_dataset(name)
  back = minari_play.read(output, 'Carnival')
  assert list(back) == ours.splits('Carnival')
  back = [episode for split in back.values() for episode in split]
  assert len(theirs) == len(back) == len(played)
  for mine, minaris, again in zip(played, theirs, back, strict=True):
    # What a cut-off episode's last transition led to was not kept.
    kept = len(mine.actions) - (not mine.terminated)
    frames = [raw_logs.decode(png) for png in mine.frames[: kept + 1]]
    np.testing.assert_array_equal(minaris.observations, frames)
    np.testing.assert_array_equal(minaris.actions, mine.actions[:kept])
    np.testing.assert_array_equal(minaris.rewards, mine.rewards[:kept])
    assert minaris.terminations[-1] == mine.terminated
    assert minaris.truncations[-1] != mine.terminated
    assert again.terminated == mine.terminated
    assert again.frames == mine.frames[: kept + 1]
    np.testing.assert_array_equal(again.actions, mine.actions[:kept])
    np.testing.assert_array_equal(again.rewards, mine.rewards[:kept])


@pytest.mark.slow
def test_checkpoints_are_kept_and_the_environment_plays_them(
  atari_data_dir, tmp_path, monkeypatch, caplog
):
  names = export.export_minari(
    atari_data_dir, tmp_path, ('Assault', 'Carnival'), progress=False
  )
  for game in ('Assault', 'Carnival'):
    splits = RldsSource(str(atari_data_dir)).splits(game)
    assert len(splits) == 2 and list(minari_play.read(tmp_path, game)) == splits
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
  recorded = minari.load_dataset(names[0])
  env = recorded.recover_environment()
  assert env.action_space == recorded.action_space
  episode = recorded[0]
  frame, _ = env.reset(seed=0)
  for wanted, action in zip(
    episode.observations, episode.actions, strict=False
  ):
    np.testing.assert_array_equal(frame, wanted)
    frame = env.step(action)[0]
  # Again: what is there is left.
  assert names == export.export_minari(
    atari_data_dir, tmp_path, ('Assault', 'Carnival'), progress=False
  )
  assert 'is there already' in caplog.text


@pytest.mark.slow
def test_the_command(full_episodes_dir, launch, tmp_path):
  flags = (
    *('--format=minari', '--noprogress', f'--data={full_episodes_dir}'),
    *('--output=out', '--storage=arrow'),
  )
  done = launch('export_data', *flags, cwd=tmp_path)
  assert not done.returncode, done.stderr
  assert done.stdout.split() == ['jowa/carnival/run_1-v0']
  assert list(minari_play.read(tmp_path / 'out', 'Carnival')) == [
    Split('Carnival', 1, 0)
  ]
  wrong = launch('export_data', *flags, '--namespace=a b', cwd=tmp_path)
  assert wrong.returncode == 2 and '--namespace=a b' in wrong.stderr
