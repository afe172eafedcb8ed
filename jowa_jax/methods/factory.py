"""Methods by config."""

import pathlib
from collections.abc import Mapping
from typing import Any

from jowa_jax.configuration import ConfigError, build, with_defaults
from jowa_jax.methods.adaptation import (
  LORA,
  AdaptationConfig,
  adapt,
  merge,
)
from jowa_jax.methods.base import Method, Variables
from jowa_jax.methods.imagination import Imagination
from jowa_jax.methods.jowa import make_jowa
from jowa_jax.methods.jowa_losses import JowaLosses
from jowa_jax.methods.mtbc import MtbcConfig, make_mtbc
from jowa_jax.methods.tokenizer import TokenizerTraining
from jowa_jax.models.heads import HeadSizes
from jowa_jax.models.transformer import BackboneConfig
from jowa_jax.models.vqvae import VQVAEConfig
from jowa_jax.models.world_action import ReturnConfig, WorldActionConfig


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
  if name not in config:
    raise ConfigError(f'Missing section {name}')
  return config[name]


def _build(cls, config, name):
  return build(cls, _section(config, name), name)


def tokenizer_config(config: Mapping[str, Any]) -> VQVAEConfig:
  """Returns the tokenizer's sizes, which every method has."""
  return _build(VQVAEConfig, config, 'tokenizer')


def jowa_model_config(config: Mapping[str, Any]) -> WorldActionConfig:
  """Returns the sizes of JOWA's world-action model."""
  return WorldActionConfig(
    backbone=_build(BackboneConfig, config, 'backbone'),
    heads=_build(HeadSizes, config, 'heads'),
    returns=_build(ReturnConfig, config, 'returns'),
  )


def _jowa(config: Mapping[str, Any]) -> Method:
  return make_jowa(
    tokenizer_config(config),
    jowa_model_config(config),
    _build(JowaLosses, config, 'losses'),
    _build(TokenizerTraining, config, 'tokenizer_training'),
    # Agents that were saved before there was imagination act without it.
    build(Imagination, config.get('imagination', {}), 'imagination'),
  )


def _mtbc(config: Mapping[str, Any]) -> Method:
  return make_mtbc(
    tokenizer_config(config),
    MtbcConfig(
      backbone=_build(BackboneConfig, config, 'backbone'),
      heads=_build(HeadSizes, config, 'heads'),
    ),
    _build(TokenizerTraining, config, 'tokenizer_training'),
  )


def adaptation_config(config: Mapping[str, Any]) -> AdaptationConfig:
  """Returns which parameters are trained; all, where nothing is said."""
  return build(AdaptationConfig, config.get('adaptation', {}), 'adaptation')


_METHODS = {'jowa': _jowa, 'mtbc': _mtbc}
_SHARED = ('tokenizer', 'backbone', 'heads', 'tokenizer_training')
_SECTIONS = {
  'jowa': (*_SHARED, 'returns', 'losses', 'imagination'),
  'mtbc': _SHARED,
}


def sections(config: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the sections that a config's method reads."""
  optional = ('adaptation',) if 'adaptation' in config else ()
  return (*_SECTIONS[config['method']], *optional)


_CLASSES = {
  'tokenizer': VQVAEConfig,
  'backbone': BackboneConfig,
  'heads': HeadSizes,
  'returns': ReturnConfig,
  'losses': JowaLosses,
  'imagination': Imagination,
  'tokenizer_training': TokenizerTraining,
}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a config with the defaults of fields its method's sections lack.

  Args:
    config: such as one that was saved before there were some of the fields.
  """
  completed = dict(config)
  for name in _SECTIONS.get(config.get('method'), ()):
    completed[name] = with_defaults(_CLASSES[name], config.get(name, {}))
  if 'adaptation' in config:
    completed['adaptation'] = with_defaults(
      AdaptationConfig, config['adaptation']
    )
  return completed


def make_method(config: Mapping[str, Any], to_train: bool = False) -> Method:
  """Returns the method a config describes.

  Args:
    config: a resolved training config, or the JSON saved beside a run.
    to_train: whether the files that only training reads must be there.

  Raises:
    ConfigError: an unknown method, a section that does not fit, or a file
      that is not there.
  """
  name = config.get('method')
  if name not in _METHODS:
    raise ConfigError(f'method={name!r} is not one of {sorted(_METHODS)}')
  method = adapt(
    _METHODS[name](config),
    adaptation_config(config),
    _build(BackboneConfig, config, 'backbone'),
  )
  weights = config['tokenizer_training']['perceptual_weights']
  if to_train and weights is not None and not pathlib.Path(weights).is_file():
    raise ConfigError(
      f'tokenizer_training.perceptual_weights: {weights} is no file'
    )
  return method


def without_adapters(
  config: Mapping[str, Any], variables: Variables
) -> tuple[Method, Variables]:
  """Returns what a config describes with its adapters, if any, merged.

  Args:
    config: see `make_method`.
    variables: of its method.
  """
  if LORA in variables.params:
    variables = merge(adaptation_config(config), variables)
  plain = {name: part for name, part in config.items() if name != 'adaptation'}
  return make_method(plain), variables
