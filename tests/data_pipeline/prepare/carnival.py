"""How real play of Carnival is prepared by tests, and looked at."""

from jowa_jax.data.store import stored

GAME = 'Carnival'
# In this process: starting others takes seconds.
IN_MEMORY = (
  '--runner=FnApiRunner',
  '--direct_num_workers=1',
  '--direct_running_mode=in_memory',
)


def digests(directory, **options):
  return [e.digest for e in stored.load_episodes(directory, GAME, **options)]


def command_flags(sources, output):
  return [
    '--source=dqn_replay',
    *(f'--input={sources["dqn_replay"]}', f'--output={output}'),
    *(f'--games={GAME}', '--noprogress'),
  ]
