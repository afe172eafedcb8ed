"""How the agent that comes with the package was trained: four games, one run.

`launch.train` with it trains an agent of `small.py` on recorded play
(`launch.collect --replay`), in as many pieces as one likes. `overnight.py:mtbc`
is the baseline on the same data; it starts from the tokenizer and the backbone
of the JOWA run (`init_from.checkpoints`). `jowa_searched` and `mtbc_searched`
learn five games from what a search played, as the study `overnight` does.
"""

from ml_collections import ConfigDict

from configs import small

# By networks that learned from memory: what they do can be learned from frames,
# the more so where noise leads them to what an imitator's mistakes lead to.
RECORDINGS = ('Freeway_4', 'Gopher_4', 'KungFuMaster_4', 'RoadRunner_4')
GAMES = ('Freeway', 'Gopher', 'KungFuMaster', 'RoadRunner')
SEARCHED = ('Asterix', 'Freeway', 'MsPacman', 'Qbert', 'RoadRunner')


def _jowa(
  games: tuple[str, ...], tokenizer: int, joint: int, play_every: int
) -> ConfigDict:
  """So many steps of the tokenizer and of the rest."""
  config = small.get_config('jowa').unlock()
  _shared(config, games)
  # Two episodes of each game, of at most 1,000 decisions.
  config.run.play_every = play_every
  config.run.play_max_frames = 4000
  config.run.play_episodes = 2
  config.tokenizer_training.restart_until = int(0.8 * tokenizer)
  config.stages = small.jowa_stages(tokenizer, joint)
  return config


def _mtbc(games: tuple[str, ...]) -> ConfigDict:
  config = small.get_config('mtbc').unlock()
  _shared(config, games)
  config.stages = small.mtbc_stages(1500)
  return config


def _shared(config: ConfigDict, games: tuple[str, ...]) -> None:
  config.data.games = games
  # The poorest play is random: with all of it, an agent learned no Gopher
  # (launch/results).
  config.data.checkpoints = (2, 3, 4)
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
    'jowa': lambda: _jowa(GAMES, 3500, 6000, 4000),
    'mtbc': lambda: _mtbc(GAMES),
    'jowa_searched': lambda: _jowa(SEARCHED, 4000, 10_000, 2000),
    'mtbc_searched': lambda: _mtbc(SEARCHED),
  }
  if name not in makers:
    raise ValueError(f'Unknown agent {name!r}; there are {tuple(makers)}')
  return makers[name]().lock()
