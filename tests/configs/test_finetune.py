"""Configs of fine-tuning fit what was pretrained, and are the paper's."""

import pytest

from configs import finetune, small
from jowa_jax.recipes import finetuning
from jowa_jax.train.run import Run
from tests.train import helpers


def _pretraining(name):
  method, _, size = name.rpartition('_')
  if size == 'quickstart' and method in ('', 'mtbc'):
    return small.get_config(method or 'jowa').to_dict()
  return helpers.CONFIGS[method or 'jowa'].get_config(size).to_dict()


@pytest.mark.parametrize('name', finetune.NAMES)
def test_every_config_makes_a_run(name, tmp_path):
  """With a checkpoint and without."""
  config = finetune.get_config(name)
  assert config.is_locked
  for checkpoint in ('runs/x', None):
    resolved = finetuning.resolve(
      config.to_dict(), game='Pong', data='data', checkpoint=checkpoint
    )
    run = Run(resolved, tmp_path / 'run')
    # What was pretrained with the config of the same name fits.
    assert not finetuning.model_differences(_pretraining(name), run.config)
    *first, stage = run.stages
    if name in ('40m', '70m', '150m'):
      # Appendix E.2 of the paper.
      assert run.config['run']['batch_size'] == 32
      assert run.config['losses']['world_weight'] == 0.5
      assert stage.steps == (50_000 if checkpoint else 500_000)
      assert stage.optimizers['world_action'].learning_rate == 5e-5
      assert run.config['data']['transitions'] == 5000
      assert run.config['imagination']['policy'] == 'planning'
      assert run.config['imagination']['start_step'] == 20_000
      assert run.config['tokenizer_training']['frames_per_step'] == 128
    if name in ('mgdt_40m', 'mgdt_200m', 'edt_200m'):
      # Section E.2, too; the optimizer is that of pretraining.
      assert run.config['run']['batch_size'] == 32
      assert stage.steps == (50_000 if checkpoint else 500_000)
      policy = stage.optimizers['policy']
      assert (policy.learning_rate, policy.weight_decay) == (5e-5, 1e-4)
      assert (policy.decay_mask, policy.clip) == ('all', 0.25)
      assert policy.warmup_steps == 0
      assert run.config['data']['quality'] == 'expert'
      left = 'mgdt' in name
      assert (run.config['data']['padding'] == 'left') == left
      assert run.config['augmentation'] == {'crop': 4, 'rotation': 5.0}
    if name == 'ficc_85m':
      assert run.config['run']['batch_size'] == 32
      assert stage.steps == (50_000 if checkpoint else 500_000)
      assert stage.optimizers['q'].learning_rate == 5e-5
      assert run.config['augmentation'] == {'crop': 4, 'rotation': 5.0}
    has_tokenizer = 'tokenizer' in run.config
    if has_tokenizer and name.endswith('quickstart'):
      # It is trained alone at first, with a checkpoint or without.
      assert [(*each.optimizers, each.steps) for each in first] == [
        ('tokenizer', 200)
      ]
      assert run.config['run']['batch_size'] == 16
      assert stage.steps == 600
      assert 'tokenizer' not in stage.optimizers
      continue
    assert not first
    assert ('tokenizer' in stage.optimizers) == (
      has_tokenizer and checkpoint is None
    )
