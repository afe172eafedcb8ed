"""Asked to stop, also while something else than steps is done; and by whom."""

import signal

import jax
import numpy as np
import pytest

from jowa_jax.train import loop
from jowa_jax.train.preemption import Preempted, lost_another
from jowa_jax.train.run import Run
from tests.train import helpers
from tests.train.helpers import read_metrics


@pytest.mark.parametrize(
  ('error', 'expected'),
  [
    # As seen where a process of two was killed.
    (ValueError('UNKNOWN: Gloo all-reduce failed: Connection closed'), True),
    (jax.errors.JaxRuntimeError('UNAVAILABLE: failed to connect'), True),
    (jax.errors.JaxRuntimeError('DEADLINE_EXCEEDED: Barrier timed out'), True),
    (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory'), False),
    (ValueError('run.batch_size=4 does not divide'), False),
    (KeyError('UNAVAILABLE'), False),
  ],
)
def test_lost_another(error, expected):
  assert lost_another(error) == expected


class Interrupted:
  """A function that is sent SIGTERM in one of its calls."""

  def __init__(self, function):
    self._function = function
    self.calls, self.stop = 0, None

  def __call__(self, *arguments):
    self.calls += 1
    if self.calls == self.stop:
      signal.raise_signal(signal.SIGTERM)
    return self._function(*arguments)


@pytest.mark.slow
def test_stopped_while_encoding_and_while_playing(
  atari_data_dir, tmp_path, compilation_cache, monkeypatch
):
  encode_calls = []
  make_encoder = loop.frozen_encoder

  def frozen_encoder(method, variables):
    encode, tokenizer, _ = make_encoder(method, variables)
    encode_calls.append(Interrupted(encode))
    encode_calls[-1].stop = stop_at_batch
    return encode_calls[-1], tokenizer, 16

  def play(variables, before_decision):
    for decision in range(10):
      before_decision()
      if decision == stop_at_decision:
        signal.raise_signal(signal.SIGTERM)
    return {'play/score': 1.0}

  def run(name):
    config = helpers.tiny_config(
      atari_data_dir, data__token_cache=f'{tmp_path / name}_tokens'
    )
    config['run']['play_every'] = 5
    with helpers.quick_compilation(compilation_cache):
      return Run(config, tmp_path / name).train(progress=False, play=play)

  monkeypatch.setattr(loop, 'frozen_encoder', frozen_encoder)
  stop_at_batch = stop_at_decision = None
  expected = helpers.flat(run('whole'))
  (whole,) = encode_calls
  encode_calls.clear()

  stop_at_batch = 3
  with pytest.raises(Preempted, match='saved after step 3 of 7; run the same'):
    run('stopped')
  # Noticed before the next batch; those that were encoded stay.
  assert encode_calls[0].calls == 3
  stop_at_batch, stop_at_decision = None, 4
  with pytest.raises(Preempted, match='saved after step 5 of 7; run the same'):
    run('stopped')
  assert sum(encode.calls for encode in encode_calls) == whole.calls
  stop_at_decision = None
  ours = helpers.flat(run('stopped'))
  assert ours.keys() == expected.keys()
  for path, value in expected.items():
    np.testing.assert_array_equal(ours[path], value, err_msg=path)

  theirs = {r['step']: r for r in read_metrics(tmp_path / 'whole')}
  records = {r['step']: r for r in read_metrics(tmp_path / 'stopped')}
  assert records.keys() == theirs.keys() == set(range(1, 8))
  assert 'play/score' in theirs[5] and 'play/score' not in records[5]
  assert records[7]['play/score'] == 1.0
