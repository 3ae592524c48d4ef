"""The page: it holds everything, needs nothing, fits any screen, and nothing that was read can act in it."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.run_folders import run_folder, sweep
from tracetorch.compare.comparison import compare
from tracetorch.compare.output import FILES, write_comparison

IMAGE = "<img src=x onerror=\"document.title='EVIL'\">"  # without a slash, which would make it a path
EVIL = f"<script>document.title='EVIL'</script>{IMAGE}"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed to open the page in")

MEASURE = """<script>
addEventListener("load", () => {
  const page = document.documentElement;
  const boxes = [...document.querySelectorAll(".scroll")].map((box) => box.scrollWidth > box.clientWidth);
  const measured = [innerWidth, page.scrollWidth, boxes.some(Boolean), document.title];
  parent.postMessage(JSON.stringify(measured), "*");
});
</script>"""
FRAME = """<!doctype html><title>none</title><body><script>
addEventListener("message", (event) => { document.body.append("measured:" + event.data + ":"); });
</script><iframe src="copy.html" width="WIDTH" height="800" frameborder="0"></iframe>"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A page about runs whose every word is hostile, in many groups."""
    root = tmp_path_factory.mktemp("page")
    for at in range(12):
        text = f"{IMAGE}{at}" + "long" * 60
        facts = {"experiment": EVIL}
        run_folder(root / "runs" / f"{at}", 0.5 + at / 100, lr=at, facts=facts, label=text, **{f"key{EVIL}": text})
    run_folder(root / "runs" / "failed", status="failed", facts={"error": EVIL, "seed": EVIL})
    (root / "runs" / "<b>link.yaml").mkdir()
    (root / "runs" / "<b>link.yaml" / "run.json").write_text(EVIL)
    write_comparison(compare([root / "runs"]), root / "out", f"tracetorch compare {EVIL}")
    return root / "out"


def page(tmp_path, values=None, **options):
    found = compare([sweep(tmp_path / "runs", values or {0.1: [0.7, 0.8], 0.2: [0.9, 0.91]})], **options)
    write_comparison(found, tmp_path / "out", "tracetorch compare runs")
    return (tmp_path / "out" / "comparison.html").read_text()


def opened(page_html: str, folder: Path, width: int) -> list:
    """What a browser measures in a copy of the page, in a frame of this width."""
    without_policy = re.sub(r"<meta http-equiv[^>]*>", "", page_html)  # which would stop our script too
    (folder / "copy.html").write_text(without_policy.replace("</body>", MEASURE + "</body>"))
    (folder / "frame.html").write_text(FRAME.replace("WIDTH", str(width)))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    where = [f"--user-data-dir={folder / 'profile'}", (folder / "frame.html").as_uri()]
    dom = subprocess.run([CHROMIUM, *options, *where], capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"measured:\[(\d+),(\d+),(true|false),(.*)\]:", dom)
    assert found, dom[-2000:]
    return [int(found[1]), int(found[2]), found[3] == "true", html.unescape(found[4])]


def test_the_page_holds_figure_tables_runs_and_command_and_comes_out_the_same(tmp_path):
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


def test_a_single_group_has_nothing_to_be_compared_with_and_the_page_says_what_groups_were_made_by(tmp_path):
    text = page(tmp_path, {0.1: [0.7, 0.8]}, by=["optimizer.lr", "rule"])
    assert "2 runs in 1 group," in text and "What differs" not in text
    assert "with the same optimizer.lr and rule." in text


def test_nothing_is_fetched_and_words_are_words(hostile):
    text = (hostile / "comparison.html").read_text()
    assert "default-src 'none'" in text
    attributes = re.findall(r"<[a-zA-Z][^>]*?\s(?:src|href|xlink:href)=[\"']?([^\"'\s>]*)", text)
    assert not [target for target in attributes if not target.startswith("#")]
    assert not re.findall(r"url\((?!#)|@import|<script|<img|<b>link", text)
    assert text.count("&lt;script&gt;") >= 4 and text.count("&lt;img") > 30


@needs_chromium
def test_in_a_browser_no_script_runs_without_the_policy_and_only_tables_scroll(hostile, tmp_path):
    text = (hostile / "comparison.html").read_text()
    for width in (390, 1280):
        found, page_width, tables_scroll, title = opened(text, tmp_path, width)
        assert found == width and page_width <= width and tables_scroll
        assert "compared" in title and "<script>document.title='EVIL'</script>" in title
    assert opened(text.replace("<footer>", f"{EVIL}<footer>"), tmp_path, 390)[3] == '"EVIL"'  # it would be seen
    wide = text.replace("<footer>", "<div style='width:500px'>x</div><footer>")
    assert opened(wide, tmp_path, 390)[1] > 390
