from __future__ import annotations

from rtfusion.engines import available

from .conftest import Cli


def test_every_engine_is_listed_with_its_version_or_how_to_install_it(cli: Cli) -> None:
    result = cli("engines")
    assert result.returncode == 0
    assert "small: precision " in result.stdout
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    for status in available():
        assert (status.version or status.install) in lines[status.name]
