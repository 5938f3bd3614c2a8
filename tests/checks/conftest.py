"""Whatever a check is made to say in these tests has a Chinese wording."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from fraudlab.checks import CHECKS, Check, Finding
from fraudlab.report.language import retold, speaking

# Names of columns, files and groups stay as they are; all else is said in Chinese.
NAMES = re.compile(r"[a-z][\w ]*__|__|FL\d{3}|[\w.]+\.(?:json|ipynb)|config|gate|decision|age_band")


@pytest.fixture(autouse=True)
def told_in_chinese_too(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ask every sentence that a numbered check says in a test for its Chinese wording."""
    ask, said = Check.__call__, []

    def asked(self: Check, *given: object, **options: object) -> Finding:
        finding = ask(self, *given, **options)
        if self.code in CHECKS:
            said.append(finding.sentence)
        return finding

    monkeypatch.setattr(Check, "__call__", asked)
    yield
    for sentence in dict.fromkeys(said):
        with speaking("zh"):
            chinese = retold(sentence)
        assert re.search("[\u4e00-\u9fff]", chinese), f"no Chinese for: {sentence}"
        left = re.findall(r"[A-Za-z][A-Za-z]+(?: [A-Za-z]+){2,}", NAMES.sub("", chinese))
        assert not left, f"{left} stays English in: {sentence}"
