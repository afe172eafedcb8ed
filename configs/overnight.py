"""A recipe for an agent to ship: three games; no run of it was measured whole.

`launch.train` with it trains an agent of `small.py` on recorded play
(`launch.collect --replay`), in as many pieces as one likes. `overnight.py:mtbc`
is the baseline on the same data; it starts from the tokenizer and the backbone
of the JOWA run (`init_from.checkpoints`).
"""

from ml_collections import ConfigDict

from configs import small

GAMES = ('Boxing', 'MsPacman', 'UpNDown')


def get_config(method: str = 'jowa') -> ConfigDict:
  """Returns the training config of one method, `jowa` or `mtbc`.

  Raises:
    ValueError: there is no such method here.
  """
  if method not in ('jowa', 'mtbc'):
    raise ValueError(f"Unknown method {method!r}; there are 'jowa' and 'mtbc'")
  config = small.get_config(method).unlock()
  config.data.games = GAMES
  # Random play teaches Q nothing that the others' random decisions do not.
  config.data.checkpoints = (1, 2, 3, 4)
  config.data.held_out_fraction = 0.05
  config.run.log_every = 50
  config.run.save_every = 500
  config.run.keep_checkpoints = 3
  config.run.evaluate_every = 500
  config.run.evaluate_batches = 8
  if method == 'jowa':
    config.tokenizer_training.restart_until = 1200
    config.stages = small.jowa_stages(1500, 6000)
  else:
    config.stages = small.mtbc_stages(1500)
  return config.lock()
