"""Any method's decisions are timed; not how fast."""

import pytest

from configs import mgdt
from jowa_jax.bench import decisions


def config():
  config = mgdt.get_config('smoke').unlock()
  config.backbone.patch = 42
  return config.copy_and_resolve_references().to_dict()


@pytest.mark.slow
def test_decisions_are_timed():
  records = decisions.run_config(config(), [1, 3], 0.01, kappa=2.0)
  assert [record['environments'] for record in records] == [1, 3]
  for record in records:
    assert record['decisions_per_second'] > 0
    assert record['one_by_one_per_second'] > 0
    assert record['peak_bytes'] > 0
  assert 'mgdt' in decisions.describe(records)


def test_bad_numbers():
  with pytest.raises(ValueError, match=r'environments=\[0\]'):
    decisions.run_config(config(), [0])
