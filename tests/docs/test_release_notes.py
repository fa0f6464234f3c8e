"""The notes of a release are its section of the changelog."""

import notes
import pytest

CHANGELOG = "# Changelog\n\n## Unreleased\n\n## 0.2.0 - 2026-12-01\n\n### Added\n\n- One.\n\n## [0.1.0]\n\n- Two.\n"


@pytest.mark.parametrize(("version", "wanted"), [("0.2.0", "### Added\n\n- One."), ("v0.1.0", "- Two.")])
def test_a_section_is_found(version, wanted):
    assert notes.notes(CHANGELOG, version) == wanted


@pytest.mark.parametrize(
    ("version", "complaint"),
    [("0.3.0", r"no section '0\.3\.0': it has Unreleased, 0\.2\.0, 0\.1\.0"), ("Unreleased", "is empty")],
)
def test_what_is_not_there_is_told(version, complaint):
    with pytest.raises(ValueError, match=complaint):
        notes.notes(CHANGELOG, version)


def test_the_changelog_has_something_unreleased():
    assert "- " in notes.notes(notes.CHANGELOG.read_text("utf-8"), "Unreleased")
