"""`launch.play` as a user starts and ends it."""

import pytest

from tests.launch import served


@pytest.mark.slow
def test_it_is_served_until_it_is_interrupted():
  served.visit(
    ['--checkpoint=small', '--game=Carnival', '--port=0'],
    modules=('tests.eval.small_agent', 'launch.play'),
  )


@pytest.mark.parametrize('lacks', ['tokenizer', 'simulator'])
def test_an_agent_that_cannot_dream_is_refused(lacks):
  from jowa_jax.agent import Agent
  from jowa_jax.methods.mtbc import make_mtbc
  from jowa_jax.play.programs import check_dreams
  from tests.methods import small

  method = make_mtbc(small.MTBC)
  if lacks == 'tokenizer':
    method = method._replace(tokenizer=None)
  agent = Agent({'method': 'mtbc'}, method, None, 0)
  with pytest.raises(ValueError, match=f'mtbc has no {lacks}'):
    check_dreams(agent)
