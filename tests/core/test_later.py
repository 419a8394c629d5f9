"""Imports that are put off: placeholders within the block, the real package afterwards."""

import sys

import pytest

from handi.core.later import later


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that notes that it was imported, and one that uses it as libraries do."""
    (tmp_path / "heavy_part").mkdir()
    (tmp_path / "heavy_part/__init__.py").write_text(
        "LOADED = True\ndef mark(function=None, why=None):\n    if function is None:\n        return mark\n"
        "    function.marked = True\n    return function\n"
    )
    (tmp_path / "heavy_part/shapes.py").write_text(
        "class Shape:\n    sides = 4\n    def __init__(self, size):\n        self.size = size\n"
    )
    (tmp_path / "uses_it.py").write_text(
        "import heavy_part\nfrom heavy_part import mark\nfrom heavy_part.shapes import Shape\n\n"
        "@mark\ndef one():\n    return 1\n\n@heavy_part.mark(why='slow')\ndef two():\n    return 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("heavy_part", "heavy_part.shapes", "uses_it"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("package")
def test_a_package_is_imported_when_it_is_first_used():
    with later("heavy_part"):
        import uses_it

        assert not isinstance(3, uses_it.Shape)
    assert (uses_it.one(), uses_it.two()) == (1, 2)
    assert "heavy_part" not in sys.modules
    shape = uses_it.Shape(3)  # the real class
    assert (shape.size, uses_it.Shape.sides) == (3, 4)
    assert isinstance(shape, uses_it.Shape)
    assert "heavy_part.shapes" in sys.modules
    assert uses_it.heavy_part.LOADED
    import heavy_part

    assert heavy_part.LOADED


@pytest.mark.usefixtures("package")
def test_a_package_that_is_there_stays_as_it_is():
    import heavy_part

    with later("heavy_part"):
        import uses_it
    assert uses_it.one.marked
    assert sys.modules["heavy_part"] is heavy_part
