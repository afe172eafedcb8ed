"""The picture of the architecture."""

import pathlib
import xml.etree.ElementTree as ET

import pytest

from configs import ficc, jowa
from jowa_jax.methods.jowa_picture import architecture


def test_it_tells_the_sizes_of_its_config():
  config = jowa.get_config('150m').to_dict()
  found = ET.fromstring(architecture(config))
  words = {text.text for text in found.iter() if text.tag.endswith('text')}
  backbone = config['backbone']
  assert (
    f'{backbone["num_layers"]} layers of width {backbone["width"]}, '
    f'{backbone["num_heads"]} heads'
  ) in words
  assert '8 steps of 36 tokens and 1 action' in words
  assert '51 atoms from -10 to 30' in words


def test_another_method_has_no_such_picture():
  with pytest.raises(ValueError, match='ficc has no backbone'):
    architecture(ficc.get_config('smoke').to_dict())


def test_the_shipped_picture_is_of_todays_code():
  path = pathlib.Path(__file__).parents[2] / 'launch/results/architecture.svg'
  assert path.read_text() == architecture(jowa.get_config('40m').to_dict())
