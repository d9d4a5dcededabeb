"""The model card: complete, valid front matter, and proof against any label."""

import re

import pytest
import yaml
from markdown_it import MarkdownIt

from blomix.encoders import Encoder
from blomix.recipe.result import Result
from blomix.report.card import model_card
from blomix.runs import read_json
from tests.encoders.test_encoder import CONFIG
from tests.report.summaries import summary

HOSTILE = [
    "---\nlicense: mit\n---",
    "<script>alert(1)</script>",
    "a | b ` c $x$ [d](javascript:e) ![f](http://g)",
    "\u202eright to left\u200b",
    "'\"\\: {{ 7 * 7 }} {% raw %}",
    "# heading",
    "x" * 1_000_000,
    "日本語のラベル",
]


def front_and_body(card: str) -> tuple[dict, str]:
    _, front, body = card.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_front_matter_names_library_task_metric_and_leaves_the_licence_open():
    front, body = front_and_body(model_card(summary()))
    assert front["license"] == "unknown"
    assert "Licence: not chosen yet" in body
    assert front["library_name"] == "sentence-transformers"
    assert front["pipeline_tag"] == "text-classification"
    assert front["metrics"] == ["matthews_correlation"]
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 0.31


def test_the_body_tells_data_score_seed_recipe_and_limits():
    _, body = front_and_body(model_card(summary()))
    for told in (
        "300 labelled",
        "| 0.3100 | 0.2500 to 0.3700 |",
        "| Seed | 7 |",
        "abc123",
        "folds | 5",
        "64 tokens",
    ):
        assert told in body


def test_scored_texts_that_were_trained_on_are_told():
    assert "examples that no training step saw" in model_card(summary())
    card = model_card(summary() | {"leaked_rows": 3})
    assert "3 of which have a text that was trained on too" in card
    assert "no training step saw" not in card


def test_the_export_itself_cuts_texts_where_the_card_says(tmp_path):
    """sentence-transformers cuts by a file of the directory, which the run's length decides."""
    encoder = Encoder.from_config(CONFIG, 2, pooling="mean")
    Result(encoder, encoder.params, summary()).save_pretrained(tmp_path / "run")
    encoder.save_pretrained(tmp_path / "alone")

    def length(name):
        return read_json(tmp_path / name / "sentence_bert_config.json")["max_seq_length"]

    assert "cut at 64 tokens" in (tmp_path / "run" / "README.md").read_text()
    assert (length("run"), length("alone")) == (64, CONFIG["max_position_embeddings"])
    Encoder.from_pretrained(tmp_path / "run").save_pretrained(tmp_path / "again")
    assert length("again") == 64


@pytest.mark.parametrize(
    ("pooling", "loads"),
    [("pooler", "AutoModelForSequenceClassification"), ("mean", "SentenceTransformer(")],
)
def test_the_use_follows_the_pooling(pooling, loads):
    card = model_card(summary(model={"source": "m", "pooling": pooling}))
    assert loads in card


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
@pytest.mark.parametrize("labels", [["a", "b"], []])
@pytest.mark.parametrize("pairs", [False, True])
def test_the_code_of_the_card_is_python(pooling, labels, pairs):
    found = summary(model={"source": "m", "pooling": pooling}, labels=labels, pairs=pairs)
    blocks = re.findall(r"```python\n(.*?)```", model_card(found), re.DOTALL)
    assert len(blocks) == (1 if pooling == "pooler" else 2)
    for block in blocks:
        compile(block, "card", "exec")
        assert ('["a text", "its pair"]' in block) == pairs
    assert "AutoTokenizer.from_pretrained" in blocks[-1]


@pytest.mark.parametrize(
    ("source", "commit"), [("org/m", "0123abcd"), ("org/m", None), ("/models/a/m", None)]
)
def test_a_base_model_of_the_hub_is_linked(source, commit):
    front, _ = front_and_body(model_card(summary(model={"source": source, "commit": commit})))
    assert front.get("base_model") == (source if commit else None)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_label_or_name_breaks_the_card(text):
    plain = model_card(summary(labels=["a", "b"], data="d", model={"source": "m"}))
    card = model_card(summary(labels=["a", text], data=text, model={"source": text}))
    front, body = front_and_body(card)
    assert front.keys() == front_and_body(plain)[0].keys()
    assert front["license"] == "unknown"
    assert len(card) < 20_000

    def shape(body):  # the same blocks, and no link, image or raw HTML from the text
        tokens = MarkdownIt("commonmark").enable("table").parse(body)
        inline = [child.type for token in tokens for child in token.children or []]
        links = sum(kind in ("link_open", "image", "html_inline") for kind in inline)
        return [token.type for token in tokens], links

    assert shape(body) == shape(front_and_body(plain)[1])


def test_a_regression_has_no_labels():
    card = model_card(summary(labels=[], metric="spearman", metrics={"spearman": 0.8, "mse": 1.2}))
    assert "The logits' order" not in card
    assert "Spearman correlation" in card
