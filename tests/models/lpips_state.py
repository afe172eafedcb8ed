"""LPIPS weights under their released names."""

import numpy as np

# Layer by layer as the published network lists them: convolutions, with their
# place in torchvision's `features`, pools, and the taps that LPIPS compares.
LAYERS = (
  'conv1_1:0 conv1_2:2 tap pool conv2_1:5 conv2_2:7 tap pool '
  'conv3_1:10 conv3_2:12 conv3_3:14 tap pool '
  'conv4_1:17 conv4_2:19 conv4_3:21 tap pool '
  'conv5_1:24 conv5_2:26 conv5_3:28 tap'
).split()


def released_state(params):
  """Returns parameters of `lpips.init_params` as a state dict."""
  state = {}
  for layer in LAYERS:
    if ':' not in layer:
      continue
    name, index = layer.split(':')
    prefix = f'net.slice{name[4]}.{index}'
    kernel = np.asarray(params[name]['kernel'])
    state[f'{prefix}.weight'] = kernel.transpose(3, 2, 0, 1)
    state[f'{prefix}.bias'] = np.asarray(params[name]['bias'])
  for i in range(5):
    head = np.asarray(params[f'lin{i}'])
    state[f'lin{i}.model.1.weight'] = head[None, :, None, None]
  return state
