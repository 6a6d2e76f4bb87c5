"""Reading of configs."""

import pytest

from multitask_refine.utils.config import read_config
from multitask_refine.utils.errors import ConfigError


def test_former_name_of_the_package_is_explained(tmp_path):
    path = tmp_path / 'old.py'
    path.write_text("custom_imports = dict(imports=['projects.multitask_refine'])\n")
    with pytest.raises(ConfigError, match="old.py: custom_imports: expected .*'multitask_refine'"):
        read_config(path)
