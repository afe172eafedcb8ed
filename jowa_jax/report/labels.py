"""Words for the names that runs write; unknown names are shown as they are."""

from collections.abc import Sequence
from typing import NamedTuple

from jowa_jax.eval.records import Rollout


class Label(NamedTuple):
  """A short title and a line that says what the number means."""

  title: str
  note: str = ''


METHODS = {
  'jowa': 'JOWA',
  'mtbc': 'MTBC, multi-task behaviour cloning',
  'mgdt': 'MGDT, multi-game decision transformer',
  'edt': 'EDT, elastic decision transformer',
  'ficc': 'FICC, latent actions from watching',
  'scaled_ql': 'Scaled-QL, conservative Q-learning of many games',
}

AGENTS = {
  'random': Label('Random play', 'uniform over the legal actions'),
  'data': Label(
    'Training data', 'its episodes, complete by these rules, poor to good'
  ),
  'data_best': Label('Best data', "of each game's best checkpoint"),
  'mtbc': Label('MTBC', 'behaviour cloning with the same backbone'),
  'mgdt': Label('MGDT', 'decision transformer, wishing for high returns'),
  'edt': Label('EDT', 'decision transformer, searching for a history'),
  'ficc': Label('FICC', 'Q-values on an encoder that watched play'),
  'scaled_ql': Label('Scaled-QL', 'the best Q-value, from stacks of frames'),
  'jowa': Label('JOWA, greedy', 'the best Q-value, no planning'),
  'jowa_beam': Label('JOWA, beam search', 'plans in its own world model'),
}

# What the options of a known agent must be for its words to be true.
_OPTIONS = {'jowa': ('none', None), 'jowa_beam': ('beam',)}


def agent_label(name: str, records: Sequence[Rollout]) -> Label:
  """The words for an agent, if they are true of what it played."""
  planners = {
    r.setup['options'].get('planner') for r in records if 'options' in r.setup
  }
  if planners.issubset(_OPTIONS.get(name, planners)):
    return label(AGENTS, name)
  return Label(plain(name))


GROUPS = {
  '': 'Run',
  'lr': 'Learning rates',
  'tokenizer': 'Tokenizer',
  'world': 'World model',
  'q': 'Q-values',
  'policy': 'Policy',
  'returns': 'Returns',
  'rewards': 'Rewards',
  'frames': 'Frames',
  'watching': 'Watching',
  'latent': 'Latent actions',
}

# Title, y axis and curves of open-loop dreams: the first is the model's, the
# others, dashed, are what to hold it against.
OPEN_LOOP = (
  (
    'Tokens',
    'share that are right',
    {
      'token_accuracy': 'dreamed',
      'copy_token_accuracy': 'the last real frame stays',
      'changed_token_accuracy': 'dreamed, of those that changed',
    },
  ),
  (
    'Pixels',
    'mean absolute error',
    {
      'pixel_error': 'dreamed',
      'persistence_pixel_error': 'the last real frame stays',
      'reconstruction_error': 'the tokenizer alone',
    },
  ),
  (
    'Rewards',
    'share that are right',
    {
      'reward_accuracy': 'all steps',
      'nonzero_reward_recall': 'steps with a reward',
      'nonzero_reward_precision': 'steps where one is dreamed',
    },
  ),
  (
    'Rewards, over all thresholds',
    'average precision',
    {'reward_average_precision': 'dreamed'},
  ),
  (
    'Ends',
    'share that are right',
    {
      'end_accuracy': 'all steps',
      'end_recall': 'real ends',
      'false_end_share': 'false ends, of steps that go on',
    },
  ),
)
# Of the palette, by place in the lists above.
OPEN_LOOP_COLORS = (3, 0, 2)

METRICS = {
  'steps_per_second': Label('Training steps per second'),
  'tokenizer/reconstruction': Label('Reconstruction', 'mean absolute error'),
  'tokenizer/weighted_reconstruction': Label(
    'Weighted reconstruction', 'moving pixels weigh more'
  ),
  'tokenizer/commitment': Label('Commitment', 'encoder outputs to their codes'),
  'tokenizer/perceptual': Label('Perceptual loss', 'LPIPS'),
  'tokenizer/perplexity': Label('Codebook perplexity', 'codes in use'),
  'world/observations': Label('Next tokens', 'cross-entropy, nats'),
  'world/rewards': Label('Reward sign', 'cross-entropy, nats'),
  'world/token_accuracy': Label('Token accuracy', 'given the tokens before'),
  'world/copy_accuracy': Label('Token accuracy of copying'),
  'world/changed_token_accuracy': Label(
    'Changed-token accuracy', 'given the tokens before; copying gets none'
  ),
  'world/reward_accuracy': Label('Reward accuracy', 'of the sign'),
  'world/reward_recall': Label(
    'Reward recall', 'share of non-zero rewards that are foreseen'
  ),
  'world/reward_precision': Label(
    'Reward precision', 'share of foreseen non-zero rewards that come'
  ),
  'world/ends': Label('Termination', 'cross-entropy, nats'),
  'q/td': Label('TD loss', 'cross-entropy to its target'),
  'q/cql': Label('CQL penalty', 'logsumexp Q minus Q of the data'),
  'q/logsumexp': Label('Logsumexp of Q', 'over all 18 actions'),
  'q/data_value': Label('Q of the data’s actions'),
  'q/max_value': Label('Q of the best legal action'),
  'q/agreement': Label(
    'Agreement', 'share of the data’s actions that are Q’s best'
  ),
  'policy/cross_entropy': Label('Cross-entropy', 'of the data’s actions, nats'),
  'policy/accuracy': Label('Accuracy', 'the data’s action is the likeliest'),
  'returns/cross_entropy': Label('Return', 'cross-entropy, nats'),
  'returns/accuracy': Label('Return accuracy', 'the likeliest is right'),
  'returns/clipped': Label(
    'Returns out of range', 'share that counts as the nearest one in it'
  ),
  'returns/expectile': Label('Expectile loss', 'of the return, squared'),
  'frames/squared_error': Label('Next frame', 'mean squared error'),
  'rewards/cross_entropy': Label('Reward sign', 'cross-entropy, nats'),
  'rewards/accuracy': Label('Reward accuracy', 'of the sign'),
  'policy/majority_accuracy': Label(
    'Majority accuracy', 'always the commonest action of the game'
  ),
}


def _events(name: str, events: str) -> dict[str, Label]:
  """Words for `eval.detection`'s figures of one kind of events."""
  title, where = f'Next-step {name}', f'one_step_{name}_'
  return {
    f'{where}share': Label(
      f'{title}s: share of steps', f'how rare {events} are in held-out play'
    ),
    f'{where}recall': Label(
      f'{title}s: recall', f'share of {events} that are called likeliest'
    ),
    f'{where}precision': Label(
      f'{title}s: precision', f'share of foreseen {events} that come'
    ),
    f'{where}average_precision': Label(
      f'{title}s: average precision',
      'over all thresholds; guessing scores the share of steps, 1 is best',
    ),
    f'{where}recall_at_half': Label(
      f'{title}s: recall at half',
      f'share of {events} that are found while half of those named come',
    ),
    f'{where}best_f1': Label(
      f'{title}s: best F1',
      'of recall and precision together, at the best threshold',
    ),
    f'{where}best_threshold': Label(
      f'{title}s: that threshold',
      'far below 0.5, the head sees them coming but seldom says so',
    ),
  }


QUALITY = {
  'perplexity': Label('Codebook perplexity', 'effective number of codes used'),
  'codes_used': Label('Codes used', 'distinct codes over the frames'),
  'reconstruction_error': Label(
    'Pixel error', 'mean absolute error over all pixels, in [0, 1]'
  ),
  'moving_pixel_error': Label(
    'Moving-pixel error',
    'mean absolute error where a frame differs from the game’s median frame',
  ),
  'median_frame_moving_pixel_error': Label(
    'Moving-pixel error of the median frame',
    'what showing the static background alone would score: to be beaten',
  ),
  'token_accuracy': Label(
    'Token accuracy', 'share of the next frame’s tokens dreamed right'
  ),
  'changed_token_accuracy': Label(
    'Changed-token accuracy',
    'of the tokens that change; repeating the last frame gets none right',
  ),
  'copy_token_accuracy': Label(
    'Token accuracy of copying',
    'what repeating the last real frame would score',
  ),
  'changed_token_share': Label(
    'Share of tokens that change', 'from one frame to the next'
  ),
  'false_change_share': Label(
    'False changes', 'share of tokens that stay but are dreamed to change'
  ),
  'policy_accuracy': Label(
    'MTBC action accuracy', 'share of the data’s actions it names'
  ),
  'majority_accuracy': Label(
    'Accuracy of the commonest action', 'to be beaten by MTBC'
  ),
  'reward_accuracy': Label(
    'Reward accuracy', 'share of reward signs predicted right'
  ),
  'nonzero_reward_recall': Label(
    'Reward recall', 'share of non-zero rewards that the model foresees'
  ),
  'nonzero_reward_precision': Label(
    'Reward precision', 'share of dreamed non-zero rewards that come'
  ),
  'patch_change_share': Label(
    'Share of patches that change',
    'places of a token with a pixel that differs from the last frame’s',
  ),
  'token_change_share': Label(
    'Share of tokens that change, all held-out frames',
    'well above that of patches, the tokenizer makes up changes of its own',
  ),
  'token_flicker_share': Label(
    'Flicker',
    'tokens that change though no pixel of their patch does; 0 is best, as '
    'the world model cannot foresee them from what is there',
  ),
  'one_step_token_accuracy': Label(
    'Next-token accuracy',
    'given the tokens before, over all held-out steps; to be above copying',
  ),
  'one_step_copy_token_accuracy': Label(
    'Next-token accuracy of copying', 'what repeating the last frame scores'
  ),
  'one_step_changed_token_accuracy': Label(
    'Next-token accuracy where tokens change',
    'what the model knows of motion; copying gets none right',
  ),
  **_events('reward', 'non-zero rewards'),
  **_events('end', 'ends of episodes'),
}


_HORIZON = '_at_horizon'


def label(table: dict[str, Label], name: str) -> Label:
  """The name's label, or one made of its last part.

  A name that ends in `_at_horizon` is that of the last dreamed frame.
  """
  if name.endswith(_HORIZON):
    first = label(table, name.removesuffix(_HORIZON))
    return Label(f'{first.title}, last dreamed frame', first.note)
  return table.get(name) or Label(plain(name.rpartition('/')[2]))


def plain(name: str) -> str:
  """'learning_rate' -> 'Learning rate'."""
  words = name.replace('_', ' ')
  return words[:1].upper() + words[1:]
