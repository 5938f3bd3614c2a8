"""Every sentence of a report has its Chinese, with the same places; a Chinese report reads as one."""

from __future__ import annotations

import ast
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fraudlab import plots
from fraudlab.metrics import METRICS
from fraudlab.report import language, read_evidence, render
from fraudlab.report.language import foreign, marked, places, plain, retold, say, speaking, tables
from fraudlab.schema import InputError

SOURCES = Path(language.__file__).resolve().parents[1]


def literals(path: Path) -> tuple[set[str], list[int]]:
    """The templates that a module says, and the lines where it says something that is no literal."""
    told: set[str] = set()
    other: list[int] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                told.add(first.value)
            else:
                other.append(node.lineno)
    return told, other


def spoken_modules() -> list[Path]:
    return sorted(
        path
        for path in SOURCES.rglob("*.py")
        if "report.language import" in path.read_text(encoding="utf-8") and path.name != "language.py"
    )


def all_templates() -> dict[str, str]:
    """Template -> the module that says it."""
    told = {text: path.name for path in spoken_modules() for text in literals(path)[0]}
    for path in sorted([*SOURCES.rglob("*.j2"), *(SOURCES / "casework").glob("*.j2")]):
        text = path.read_text(encoding="utf-8")
        told |= dict.fromkeys(re.findall(r'\bsay\("((?:[^"\\]|\\.)*)"', text), path.name)
    return told


def wordings() -> dict[str, str]:
    return {english: chinese for table in tables("zh").values() for english, chinese in table.items()}


def test_every_template_has_its_chinese():
    said = wordings()
    missing = sorted(f"{module}: {text}" for text, module in all_templates().items() if text not in said)
    assert missing == [], f"{len(missing)} sentences lack a line in src/fraudlab/report/zh/<module>.toml"


def test_templates_are_literals_so_that_they_can_be_found():
    assert {path.name: lines for path in spoken_modules() if (lines := literals(path)[1])} == {}


def test_translations_have_the_same_places_and_chinese_marks():
    for english, chinese in wordings().items():
        assert places(english) == places(chinese), english
        assert not re.search(r"[\u4e00-\u9fff][,;:?!]", chinese), f"{chinese}: a mark that is not full-width"
        assert not re.search(r"[\u4e00-\u9fff]\.(?:\s|$)", chinese), f"{chinese}: a full stop that is not full-width"


def test_no_two_tables_say_the_same_sentence_differently():
    seen: dict[str, tuple[str, str]] = {}
    for file, table in tables("zh").items():
        for english, chinese in table.items():
            before = seen.setdefault(english, (file, chinese))
            assert before[1] == chinese, f"{english}: {before[0]} and {file} differ"


def test_no_table_keeps_a_sentence_that_nobody_says():
    used = set(all_templates())
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    shared = {"terms.toml", "evidence.toml"}
    dead = [
        f"{file}: {text}"
        for file, table in tables("zh").items()
        if file not in shared
        for text in table
        if text not in used and f'"{text}"' not in code
    ]
    assert dead == []


def test_vocabulary_of_metrics_and_rules_is_translated():
    said = wordings()
    words = [*plots.METRIC_LABELS.values(), *METRICS.values(), *plots.OUTCOME_LABELS.values()]
    words += plots.RULE_LABELS.values()
    assert [word for word in words if word not in said] == []


def test_an_unknown_sentence_is_said_in_english_and_noted():
    with speaking("zh") as untold:
        text = say("A sentence {n} nobody translated.", n=3)
        assert plain(text) == "A sentence 3 nobody translated."
        assert marked(text) == '<span lang="en">A sentence 3 nobody translated.</span>'
    assert untold == {"A sentence {n} nobody translated."}
    assert say("A sentence {n} nobody translated.", n=3) == "A sentence 3 nobody translated."
    assert language.language() == "en"


def test_marks_are_elements_that_close_and_text_stays_escaped():
    with speaking("zh"):
        inner = foreign("<b>a__b</b>")
        assert marked(f"前{inner}后") == '前<span lang="en">&lt;b&gt;a__<wbr>b&lt;/b&gt;</span>后'
        assert foreign(f"x {inner}").count("\ue000") == 1
        assert foreign("没有") == "没有"
    assert marked("\ue001 alone \ue000, \ue000") == " alone , "


def test_evidence_sentences_are_recognised_with_their_numbers():
    with speaking("zh"):
        assert retold("95 % interval over 2,062 entities") == "基于 2,062 个主体的 95% 区间"
        assert plain(retold("What nobody foresaw; 95 % interval over 7 entities")).endswith("基于 7 个主体的 95% 区间")
        assert plain(retold("What nobody foresaw")) == "What nobody foresaw"
    assert retold("95 % interval over 2,062 entities") == "95 % interval over 2,062 entities"


def test_an_unknown_language_is_refused():
    with pytest.raises(InputError, match=r"^lang: unknown 'fr'; valid are: en, zh$"), speaking("fr"):
        pass


class Words(HTMLParser):
    """The visible words of a page that no element says are English, outside code."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, bool]] = []
        self.english: list[str] = []
        self.chinese = 0
        self.feed(html.replace("<wbr>", ""))

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "wbr", "br", "link"):
            hidden = tag in ("code", "style", "script", "title") or dict(attrs).get("lang") == "en"
            self.open.append((tag, hidden or any(shut for _, shut in self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and not self.open[-1][1]:
            self.chinese += len(re.findall(r"[\u4e00-\u9fff]", data))
            self.english += re.findall(r"[A-Za-z][A-Za-z'-]{2,}", re.sub(r"`[^`]*`|[\w.]*[_\d][\w.]*", " ", data))


# Names and measures that Chinese writes so too.
ALSO_CHINESE = {
    *("AUC", "ROC", "UTC", "GDPR", "PSI", "SHAP", "MLflow", "XGBoost", "Brier", "Wilson", "Platt", "Git", "sqrt"),
    *("fraudlab", "report", "verify", "FILE", "retrain", "sha", "sha-", "Ed", "config"),
}


@pytest.fixture(scope="module")
def chinese(tmp_path_factory) -> tuple[str, str]:
    write = runpy.run_path(str(Path(__file__).with_name("evidence_sample.py")))["write_evidence"]
    evidence = read_evidence(write(tmp_path_factory.mktemp("runs") / "demo") / "evidence")
    return render(evidence, lang="zh"), render(evidence, lang="en")


def test_a_chinese_report_reads_as_one(chinese):
    html = chinese[0]
    assert '<html lang="zh-Hans">' in html
    words = Words(html)
    assert words.chinese > 5_000
    left = [word for word in words.english if word not in ALSO_CHINESE]
    assert left == [], f"{len(left)} English words are neither translated nor marked"


def test_both_languages_hold_the_same_sections_tables_and_pictures(chinese):
    for tag in ("section", "table", "img", "figure", "h2", "h3", "h4", "dl", "tr"):
        counts = [len(re.findall(f"<{tag}[ >]", html)) for html in chinese]
        assert counts[0] == counts[1], tag
    images = [re.findall(r'src="(data:[^"]+)"', html) for html in chinese]
    assert images[0] == images[1]
    assert 'alt="' in chinese[0]
    assert len(re.findall(r'<img [^>]*lang="en"', chinese[0])) == len(images[0])
