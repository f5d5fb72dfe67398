from __future__ import annotations

from rtfusion.engines import available

from .conftest import Cli


def test_every_engine_is_listed_with_its_version_or_how_to_install_it(cli: Cli) -> None:
    result = cli("engines")
    assert result.returncode == 0
    assert "small: precision " in result.stdout
    told = " ".join(result.stdout.split())  # a long way to install is told in several lines
    for status in available():
        assert f"{status.name} {status.version or f'not installed {status.install}'}" in told
