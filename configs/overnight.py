"""How the agent that comes with the package was trained: four games, one run.

`launch.train` with it trains an agent of `small.py` on recorded play
(`launch.collect --replay`), in as many pieces as one likes. `overnight.py:mtbc`
is the baseline on the same data; it starts from the tokenizer and the backbone
of the JOWA run (`init_from.checkpoints`). `jowa_searched` and `mtbc_searched`
learn five games from what a search played, as the study `overnight` does.
"""

from ml_collections import ConfigDict

from configs import small

GAMES = ('Freeway', 'Gopher', 'KungFuMaster', 'RoadRunner')
# From random to good play: by networks that know the memory (4), whose noise
# leads to what an imitator's mistakes lead to, and by their pupils (5), who see
# frames as the agent does, so that it can learn what they do.
RECORDINGS = tuple(f'{game}_{kind}' for game in GAMES for kind in (4, 5))
# Checkpoints of the recordings; what is poor in a search's is mostly random.
_ALL = (0, 1, 2, 3, 4)
_BETTER = (2, 3, 4)
SEARCHED = ('Asterix', 'Freeway', 'MsPacman', 'Qbert', 'RoadRunner')


def _jowa(
  games: tuple[str, ...],
  checkpoints: tuple[int, ...],
  tokenizer: int,
  joint: int,
  play_every: int,
) -> ConfigDict:
  """So many steps of the tokenizer and of the rest."""
  config = small.get_config('jowa').unlock()
  _shared(config, games, checkpoints)
  # Two episodes of each game, of at most 1,000 decisions.
  config.run.play_every = play_every
  config.run.play_max_frames = 4000
  config.run.play_episodes = 2
  config.tokenizer_training.restart_until = int(0.8 * tokenizer)
  config.stages = small.jowa_stages(tokenizer, joint)
  return config


def _mtbc(games: tuple[str, ...], checkpoints: tuple[int, ...]) -> ConfigDict:
  config = small.get_config('mtbc').unlock()
  _shared(config, games, checkpoints)
  config.stages = small.mtbc_stages(1500)
  return config


def _tell_apart(config: ConfigDict) -> ConfigDict:
  """Codes for what is rare, such as a gopher that looks out of its hole.

  With half as many, spread evenly, a clone of tokens scored far below one of
  pixels (launch/results).
  """
  config.tokenizer.vocab_size = 2048
  config.tokenizer_training.restart_at_errors = True
  return config


def _shared(
  config: ConfigDict, games: tuple[str, ...], checkpoints: tuple[int, ...]
) -> None:
  config.data.games = games
  config.data.checkpoints = checkpoints
  config.data.held_out_fraction = 0.05
  config.run.log_every = 50
  config.run.save_every = 1000
  config.run.keep_checkpoints = 3
  config.run.evaluate_every = 1000
  config.run.evaluate_batches = 8


def get_config(name: str = 'jowa') -> ConfigDict:
  """The training config of an agent.

  Raises:
    ValueError: there is no such agent here.
  """
  makers = {
    'jowa': lambda: _tell_apart(_jowa(GAMES, _ALL, 3500, 14_000, 4000)),
    'mtbc': lambda: _tell_apart(_mtbc(GAMES, _ALL)),
    'jowa_searched': lambda: _jowa(SEARCHED, _BETTER, 4000, 10_000, 2000),
    'mtbc_searched': lambda: _mtbc(SEARCHED, _BETTER),
  }
  if name not in makers:
    raise ValueError(f'Unknown agent {name!r}; there are {tuple(makers)}')
  return makers[name]().lock()
