"""`launch.play` as a user starts and ends it."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_it_is_served_until_it_is_interrupted():
  process = subprocess.Popen(
    [
      *(sys.executable, '-m', 'tests.eval.small_agent', 'launch.play'),
      *('--checkpoint=small', '--game=Carnival', '--port=0'),
    ],
    cwd=ROOT,
    env={**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    assert process.stdout.readline() == 'Compiling ...\n'
    line = process.stdout.readline()
    address = re.fullmatch(r'Open (http://127\.0\.0\.1:\d+/)\n', line)[1]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=60) as answer:
      assert b'Step inside' in answer.read()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
  finally:
    process.kill()
  assert process.returncode == 130
  assert 'Traceback' not in errors and errors.endswith('Interrupted.\n')


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
