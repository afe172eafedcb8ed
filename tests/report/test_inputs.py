import json

import numpy as np
import pytest

from jowa_jax.report.inputs import read_inputs


def _write_metrics(root, *records):
  path = root / 'jowa' / 'metrics.jsonl'
  path.parent.mkdir(exist_ok=True)
  path.write_text(''.join(json.dumps(r) + '\n' for r in records))


def _record(step, stage, loss):
  return {'step': step, 'stage': stage, 'loss': loss}


def test_a_complete_directory(workdir):
  inputs = read_inputs(workdir)
  assert inputs.missing == []
  assert list(inputs.rollouts) == [
    'random',
    'data',
    'mtbc',
    'jowa',
    'jowa_beam',
  ]
  assert inputs.curves['jowa'].stages == [
    ('world', 10, 100),
    ('joint', 100, 300),
  ]
  positions, values = inputs.curves['jowa'].series['q/td']
  assert positions[0] == 110 and values[-1] == pytest.approx(1 / 300)
  assert inputs.dreams['Carnival'].dreamed.shape == (4, 6, 84, 84)


def test_absent_files_are_listed(tmp_path):
  inputs = read_inputs(tmp_path)
  assert set(inputs.missing) >= {
    'jowa/config.json',
    'mtbc/metrics.jsonl',
    'eval/jowa_beam.jsonl',
    'eval/dreams.npz',
    'timings.json',
  }
  assert not inputs.rollouts and not inputs.curves and not inputs.configs
  with pytest.raises(FileNotFoundError, match='nowhere'):
    read_inputs(tmp_path / 'nowhere')


def test_stages_that_count_from_one_again_are_laid_end_to_end(tmp_path):
  _write_metrics(
    tmp_path,
    _record(1, 'world', 3.0),
    _record(50, 'world', 2.0),
    _record(1, 'joint', 1.5),
    _record(20, 'joint', 1.0),
  )
  curves = read_inputs(tmp_path).curves['jowa']
  assert curves.stages == [('world', 1, 50), ('joint', 50, 70)]
  positions, values = curves.series['loss']
  assert positions.tolist() == [1, 50, 51, 70]
  assert values.tolist() == [3.0, 2.0, 1.5, 1.0]


def test_a_resumed_run_repeats_steps_and_the_later_record_counts(tmp_path):
  _write_metrics(
    tmp_path,
    _record(10, 'world', 3.0),
    _record(20, 'world', 2.0),
    _record(20, 'world', 2.5),
    _record(15, 'world', 2.7),
    _record(30, 'world', float('nan')),
  )
  positions, values = read_inputs(tmp_path).curves['jowa'].series['loss']
  assert positions.tolist() == [10, 15, 20]
  assert values.tolist() == [3.0, 2.7, 2.5]


def _truncate(path):
  data = path.read_bytes()
  # Within a line: a file of whole lines may be one of fewer.
  path.write_bytes(data[: len(data) // 2].rstrip(b'\n}'))


@pytest.mark.parametrize(
  'name',
  [
    'jowa/config.json',
    'mtbc/metrics.jsonl',
    'eval/jowa.jsonl',
    'eval/reconstructions.npz',
    'eval/dreams.npz',
    'eval/model_quality.json',
    'timings.json',
    'versions.json',
  ],
)
def test_a_truncated_file_is_named(workdir, name):
  _truncate(workdir / name)
  with pytest.raises(ValueError) as error:
    read_inputs(workdir)
  assert str(workdir / name) in str(error.value)


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('jowa/metrics.jsonl', '{"stage": "a"}', "line 1 .*'step' is None"),
    ('jowa/metrics.jsonl', '{"step": 1}', "'stage' is None"),
    (
      'jowa/metrics.jsonl',
      '{"step": 1, "stage": "a", "loss": "x"}',
      "'loss' is 'x', not a number",
    ),
    ('jowa/metrics.jsonl', '7', 'expected a JSON object'),
    ('timings.json', '{"train": "long"}', "'train' is 'long'"),
    ('versions.json', '[1]', 'JSON object'),
    ('eval/model_quality.json', '{"Pong": 3}', "'Pong' should map"),
  ],
)
def test_wrong_content_is_named(workdir, name, text, message):
  (workdir / name).write_text(text)
  with pytest.raises(ValueError, match=message) as error:
    read_inputs(workdir)
  assert str(workdir / name) in str(error.value)


@pytest.mark.parametrize('text', ['{"Pong": 3}', '{', '[1]'])
def test_broken_pictures_without_a_work_directory(tmp_path, text):
  path = tmp_path / 'model_quality.json'
  path.write_text(text)
  with pytest.raises(ValueError, match=str(path)):
    read_inputs(pictures=tmp_path)


def test_results_and_runs_from_anywhere(workdir, tmp_path):
  """Shards and folders of results; the agent is what a record says."""
  other = tmp_path / 'other'
  (other / 'shards').mkdir(parents=True)
  lines = (workdir / 'eval' / 'jowa.jsonl').read_text().splitlines(True)
  for part in range(2):
    path = other / 'shards' / f'jowa.{part + 1}of2.jsonl'
    path.write_text(''.join(lines[part::2]))
  (workdir / 'eval' / 'mtbc.jsonl').rename(other / 'mine.jsonl')
  inputs = read_inputs(
    results=[other / 'shards', other / 'mine.jsonl'], runs=[workdir / 'jowa']
  )
  assert list(inputs.rollouts) == ['mtbc', 'jowa']
  assert len(inputs.rollouts['jowa']) == len(lines)
  assert list(inputs.curves) == ['jowa'] and list(inputs.configs) == ['jowa']
  assert inputs.missing == [] and not inputs.quality
  both = read_inputs(workdir, results=[other / 'shards'])
  assert len(both.rollouts['jowa']) == len(lines)


def test_relative_paths_and_other_peoples_files(workdir, monkeypatch):
  monkeypatch.chdir(workdir.parent)
  whole = read_inputs(workdir)
  relative = read_inputs(workdir.name)
  assert relative.missing == [] and set(relative.curves) == set(whole.curves)
  assert set(relative.configs) == set(whole.configs) != set()
  only = read_inputs(runs=[f'{workdir.name}/jowa'])
  assert list(only.curves) == ['jowa'] and list(only.configs) == ['jowa']
  # What lies where the program is started belongs to nobody.
  monkeypatch.chdir(workdir)
  assert read_inputs(results=['eval']).timings == {}


def test_what_a_kill_left_is_not_read(workdir):
  (workdir / 'eval' / '.jowa.123.tmp.jsonl').write_text('{"agent')
  (workdir / 'eval' / 'videos').mkdir()
  (workdir / 'eval' / 'videos' / '.jowa-Pong.123.tmp.mp4').write_text('')
  assert read_inputs(workdir).videos == {}
  (workdir / 'eval' / 'videos' / 'jowa-Pongg.mp4').write_text('')
  with pytest.raises(ValueError, match='Pongg'):
    read_inputs(workdir)


def test_results_that_are_none(workdir, tmp_path):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(FileNotFoundError, match='no results .* in .*empty'):
    read_inputs(results=[tmp_path / 'empty'])
  with pytest.raises(ValueError, match='metrics.jsonl, line 1 is not a roll'):
    read_inputs(results=[workdir / 'jowa'])
  with pytest.raises(FileNotFoundError, match='is no run'):
    read_inputs(runs=[workdir / 'eval'])
  again = tmp_path / 'jowa'
  again.mkdir()
  (again / 'metrics.jsonl').write_text('')
  with pytest.raises(ValueError, match='Two runs are named jowa'):
    read_inputs(runs=[workdir / 'jowa', again])


def test_pictures_from_anywhere(workdir, tmp_path):
  pictures = tmp_path / 'judged'
  (workdir / 'eval').rename(pictures)
  found = read_inputs(pictures=pictures)
  assert set(found.quality) == {'Assault', 'Carnival'} == set(found.dreams)
  assert found.reconstructions and found.open_loop and found.missing == []
  assert not found.rollouts and not found.timings
  with pytest.raises(FileNotFoundError, match='nowhere'):
    read_inputs(pictures=tmp_path / 'nowhere')


def test_videos_by_game_and_agent(workdir):
  folder = workdir / 'eval' / 'videos'
  folder.mkdir()
  for name in ('jowa-Pong', 'jowa_beam-Pong', 'mtbc-Assault'):
    (folder / f'{name}.mp4').write_bytes(name.encode())
  assert read_inputs(workdir).videos == {
    'Assault': {'mtbc': b'mtbc-Assault'},
    'Pong': {'jowa': b'jowa-Pong', 'jowa_beam': b'jowa_beam-Pong'},
  }


def test_frames_of_another_shape_or_without_a_partner(workdir):
  path = workdir / 'eval' / 'dreams.npz'
  real = np.zeros((2, 3, 84, 84), np.uint8)
  np.savez(path, **{'Pong/real': real, 'Pong/dreamed': real[:, :2]})
  with pytest.raises(ValueError, match="dreams.npz: 'Pong' needs"):
    read_inputs(workdir)
  np.savez(
    path,
    **{
      'Pong/real': real,
      'Pong/dreamed': real,
      'Pong/reconstructed': real[:1],
    },
  )
  with pytest.raises(ValueError, match="dreams.npz: 'Pong' needs"):
    read_inputs(workdir)
  # As files of earlier versions have it.
  np.savez(path, **{'Pong/real': real, 'Pong/dreamed': real})
  assert read_inputs(workdir).dreams['Pong'].reconstructed is None
  np.savez(path, **{'Pong/real': real})
  with pytest.raises(ValueError, match="'real' and 'dreamed'"):
    read_inputs(workdir)
  np.savez(path, **{'Pong/real': real.astype(np.float32)})
  with pytest.raises(ValueError, match='Pong/real is float32'):
    read_inputs(workdir)
