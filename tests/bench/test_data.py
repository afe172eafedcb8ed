"""The benchmark of data runs and measures all it says; not how fast."""

import pytest

from jowa_jax.bench import data


@pytest.mark.slow
def test_every_measurement_is_there():
  results = data.measure(steps=900, log_rows=1500, batch_size=8, seconds=0.3)
  rates = {
    'png_decoding': 'frames_per_second',
    'frames': 'frames_per_second',
    'naive_reader': 'segments_per_second',
    'tokens': 'times_naive_reader',
    'first_batch': 'seconds_to_frames',
    'conversion': 'steps_per_second',
  }
  assert set(results) == set(rates)
  for name, unit in rates.items():
    assert results[name][unit] > 0
    assert 0 < results[name]['peak_mb_above_idle'] < 1000
    assert f'{name}: ' in data.describe(results)
