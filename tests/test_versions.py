import platform
from importlib import metadata

from jowa_jax import versions


def test_libraries_go_by_the_names_they_are_installed_by(monkeypatch):
  found = versions.versions_of(('numpy', 'cv2', 'not_there'))
  assert found['python'] == platform.python_version()
  assert found['numpy'] == metadata.version('numpy')
  assert found['not_there'] == 'unknown'
  assert any(name.startswith('opencv-python') for name in found)
  # As where another distribution provides the module.
  monkeypatch.setattr(
    metadata,
    'packages_distributions',
    lambda: {'cv2': ['opencv-contrib-python', 'opencv-contrib-python']},
  )
  monkeypatch.setattr(metadata, 'version', {'opencv-contrib-python': '5'}.get)
  found = versions.versions_of(('cv2',))
  assert found == {
    'python': platform.python_version(),
    'opencv-contrib-python': '5',
  }
