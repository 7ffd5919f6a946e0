"""Generated documents are those that the code makes now."""

from infrastructure import documents


def test_states_are_current() -> None:
    assert (documents.DOCS / "states.md").read_text() == documents.states(), "run `make states`"


def test_configuration_is_current() -> None:
    assert (documents.DOCS / "configuration.md").read_text() == documents.configuration(), "run `make docs-generated`"


def test_every_variable_that_the_settings_read_has_a_meaning() -> None:
    assert set(documents.variables()) == set(documents.MEANING)
