"""How the agent that comes with the package was trained: five games, one run.

`launch.train` with it trains an agent of `small.py` on recorded play
(`launch.collect --replay`), in as many pieces as one likes. `overnight.py:mtbc`
is the baseline on the same data; it starts from the tokenizer and the backbone
of the JOWA run (`init_from.checkpoints`).
"""

from ml_collections import ConfigDict

from configs import small

GAMES = ('Asterix', 'Freeway', 'MsPacman', 'Qbert', 'RoadRunner')


def get_config(method: str = 'jowa') -> ConfigDict:
  """The training config of one method, `jowa` or `mtbc`.

  Raises:
    ValueError: there is no such method here.
  """
  if method not in ('jowa', 'mtbc'):
    raise ValueError(f"Unknown method {method!r}; there are 'jowa' and 'mtbc'")
  config = small.get_config(method).unlock()
  config.data.games = GAMES
  # Of the poorer play, most decisions are random: they teach Q nothing.
  config.data.checkpoints = (2, 3, 4)
  config.data.held_out_fraction = 0.05
  config.run.log_every = 50
  config.run.save_every = 1000
  config.run.keep_checkpoints = 3
  config.run.evaluate_every = 1000
  config.run.evaluate_batches = 8
  if method == 'jowa':
    # Two episodes of each game, of at most 1,000 decisions.
    config.run.play_every = 2000
    config.run.play_max_frames = 4000
    config.run.play_episodes = 2
    config.tokenizer_training.restart_until = 3200
    config.stages = small.jowa_stages(4000, 10_000)
  else:
    config.stages = small.mtbc_stages(1500)
  return config.lock()
