"""The page: it holds everything, needs nothing, and nothing that was read can act in it."""

import html
import re
from collections import Counter
from html.parser import HTMLParser

from tests.run_folders import run_folder, sweep
from tracetorch.compare.comparison import compare
from tracetorch.compare.output import FILES, write_comparison

IMAGE = "<img src=x onerror=\"document.title='EVIL'\">"  # without a slash, which would make it a path
EVIL = f"<script>document.title='EVIL'</script>{IMAGE}"


def page(tmp_path, values=None, **options):
    found = compare([sweep(tmp_path / "runs", values or {0.1: [0.7, 0.8], 0.2: [0.9, 0.91]})], **options)
    write_comparison(found, tmp_path / "out", "tracetorch compare runs")
    return (tmp_path / "out" / "comparison.html").read_text()


def test_the_page_holds_figure_tables_runs_and_command_and_repeats(tmp_path):
    run_folder(tmp_path / "runs" / "zz", status="interrupted", seed=7)
    text = page(tmp_path)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    plain = html.unescape(re.sub(r"<svg.*?</svg>|<style.*?</style>|<[^>]+>", " ", text, flags=re.DOTALL))
    plain = " ".join(plain.split())
    for part in (
        "4 runs in 2 groups, compared by accuracy . The runs of a group have the same config except for the seed",
        "1 run left out.",
        "A lr=0.1 2 0.75 ± 0.64 0.7000–0.8000 20.8 s 300 MiB",
        "optimizer.lr 0.1 0.2",
        "B − A +0.1550 −0.4168 to +0.7268 paired by seed",
        f"{tmp_path / 'runs' / '001_lr=0.1,seed=0'} A 0 completed 0.7000",
        "zz, because it was interrupted after 60 updates",
        "tracetorch compare runs",
    ):
        assert part in plain
    assert text.count("<svg") == text.count("</svg>") == 1
    assert re.search(r"Made by traceTorch on \d{4}-\d\d-\d\d \d\d:\d\d", plain)
    before = {name: (out / name).read_bytes() for name in FILES[:4]}
    write_comparison(compare([tmp_path / "runs"]), out, "x")
    assert before == {name: (out / name).read_bytes() for name in FILES[:4]}


def test_the_page_of_a_single_group_names_the_keys_of_groups(tmp_path):
    text = page(tmp_path, {0.1: [0.7, 0.8]}, by=["optimizer.lr", "rule"])
    assert "2 runs in 1 group," in text and "What differs" not in text
    assert "with the same optimizer.lr and rule." in text


class Boxes(HTMLParser):
    """Collects tables and figures that do not lie in a box that scrolls sideways."""

    def __init__(self):
        super().__init__()
        self.open, self.wide, self.counts = [], [], Counter()

    def handle_starttag(self, tag, attrs):
        is_scrolling = "scroll" in (dict(attrs).get("class") or "").split()
        if tag in ("table", "svg", "pre", "img"):
            self.counts[tag] += 1
            self.wide += [tag] if not any(scrolls for _, scrolls in self.open) else []
        if tag not in ("meta", "link", "br", "hr", "img", "input"):
            self.open.append((tag, is_scrolling))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass


def test_on_a_narrow_screen_only_boxes_scroll_sideways(tmp_path):
    text = page(tmp_path)
    boxes = Boxes()
    boxes.feed(text)
    assert boxes.wide == [] and boxes.counts["svg"] == 1 and boxes.counts["table"] >= 4
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert ".scroll { overflow-x: auto; }" in style and "overflow-wrap: anywhere" in style
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    fixed = re.findall(r"([^{}]+)\{[^{}]*?(?<![\w-])(?:min-)?width: *[\d.]+(?:px|rem)", style)
    assert {selector.strip() for selector in fixed} == {"figure svg", ".long"}  # both in boxes


def test_the_page_fetches_nothing_and_escapes_hostile_words(tmp_path):
    """Every word of the runs is hostile, in many groups."""
    for at in range(12):
        text = f"{IMAGE}{at}" + "long" * 60
        facts = {"experiment": EVIL}
        run_folder(tmp_path / "runs" / f"{at}", 0.5 + at / 100, lr=at, facts=facts, label=text, **{f"key{EVIL}": text})
    run_folder(tmp_path / "runs" / "failed", status="failed", facts={"error": EVIL, "seed": EVIL})
    (tmp_path / "runs" / "<b>link.yaml").mkdir()
    (tmp_path / "runs" / "<b>link.yaml" / "run.json").write_text(EVIL)
    write_comparison(compare([tmp_path / "runs"]), tmp_path / "out", f"tracetorch compare {EVIL}")
    text = (tmp_path / "out" / "comparison.html").read_text()
    assert "default-src 'none'" in text
    attributes = re.findall(r"<[a-zA-Z][^>]*?\s(?:src|href|xlink:href)=[\"']?([^\"'\s>]*)", text)
    assert not [target for target in attributes if not target.startswith("#")]
    assert not re.findall(r"url\((?!#)|@import|<script|<img|<b>link", text)
    assert text.count("&lt;script&gt;") >= 4 and text.count("&lt;img") > 30
