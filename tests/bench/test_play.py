"""The benchmark of pages and dreamed environments."""

import pytest

from jowa_jax import agent as agent_lib
from jowa_jax.bench import play
from tests.eval.small_agent import make_agent


@pytest.mark.slow
def test_it_measures_pages_and_environments(monkeypatch):
  agent = make_agent(backbone__num_layers=1, backbone__max_blocks=4)
  monkeypatch.setattr(agent_lib, 'load', lambda path: agent)
  records = play.measure('small', 'Carnival', [1, 2], 2.0)
  assert [(record['what'], record['count']) for record in records] == [
    *(('dreamed, tokens', 1), ('dreamed, frames', 1), ('emulated', 1)),
    *(('dreamed, tokens', 2), ('dreamed, frames', 2), ('emulated', 2)),
    *(('page, you', 1), ('page, greedy', 1), ('page, planning', 1)),
    *(('pages, greedy', 20), ('pages, some left', 17)),
  ]
  assert all(record['per_second'] > 0 for record in records)
  text = play.describe(records)
  assert 'page, planning' in text and 'grown, MiB' in text
